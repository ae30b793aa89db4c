"""Between a request and its handler: arguments, a checked answer, and how answers reach guests.

Rule: bytes are copied once; what a handler gives is refused with what was expected instead.
"""

from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport INT32_MAX, INT32_MIN, int32_t
from libc.string cimport strlen

from spear._core.guest cimport guest_release, guest_retain, guest_t
from spear._core.handles cimport Handle
from spear._core.post cimport request_answer, request_release, request_t, request_untaken
from spear._core.states cimport executor_t, executor_wake, wakes_hold, wakes_release

cdef enum:
    ANSWER_BYTES_MAX = 64 << 20


cdef tuple request_arguments(const request_t *request):
    cdef int letter
    cdef size_t at = 0
    cdef tuple found = PyTuple_New(strlen(request.row.shape))
    for letter in range(<int>len(found)):
        if request.row.shape[letter] == c"b" or request.row.shape[letter] == c"x":
            given = request.bytes[at:at + <size_t>request.values[letter]]
            at += <size_t>request.values[letter]
        elif request.row.shape[letter] == c"d":
            given = <Handle>request.handle.face
        else:
            given = request.values[letter]
        Py_INCREF(given)                       # the place takes a reference over
        PyTuple_SET_ITEM(found, letter, given)
    return found


cdef bint plain_status(object result, int32_t *status) except -1:
    cdef int beyond = 0
    cdef long long value
    if type(result) is not int:
        return False
    value = PyLong_AsLongLongAndOverflow(result, &beyond)
    if beyond != 0 or not INT32_MIN <= value <= INT32_MAX:
        return False
    status[0] = <int32_t>value
    return True


cdef tuple checked_answer(object result):
    if isinstance(result, bytes):
        status, data = 0, result
    elif isinstance(result, tuple) and len(result) == 2:
        status, data = result
    else:
        status, data = result, None
    if not isinstance(status, int) or not -(1 << 31) <= status < 1 << 31:
        raise TypeError(f"the handler gave {result!r}: expected a 32-bit status, bytes or both")
    if data is not None and not isinstance(data, bytes):
        raise TypeError(f"the handler gave {type(data).__name__} for its bytes out")
    if data is not None and len(data) > ANSWER_BYTES_MAX:
        raise ValueError(f"the handler gave {len(data)} bytes, the limit is {ANSWER_BYTES_MAX}")
    return status, data


cdef void tell_answers(executor_t *executor, request_t **requests, int count) noexcept nogil:
    """Each is let go before its guest is woken, so that it is freed where it was made."""
    cdef guest_t *guest
    cdef bint waits
    cdef int at
    wakes_hold()
    for at in range(count):
        guest = requests[at].guest
        guest_retain(guest)
        waits = request_answer(requests[at])
        if not waits:
            request_untaken(requests[at])
        request_release(requests[at])
        if waits:
            executor_wake(executor, guest)
        guest_release(guest)
    wakes_release()

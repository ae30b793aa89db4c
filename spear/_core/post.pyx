"""Calls that Python answers: the guest's side, from the hostcall to its result.

Rule: no GIL, no Python object. Pointers are checked and arguments copied before anything is posted,
so that a request is valid memory whatever becomes of its guest; both sides hold a reference, and
one atomic word says whose turn it is. What comes back is written on the guest's own thread, when it
goes on. A guest has one call under way, or one inside each of its sends.
Source: the guest ABI, sections 1 and 12.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset, strlen

from spear._core cimport engineapi
from spear._core.abibits cimport EBADF, EFAULT, EINVAL, ENOMEM, ENOSYS, abi_give, abi_span
from spear._core.descriptors cimport descriptor_t, fd_find, fd_table
from spear._core.engineapi cimport *
from spear._core.guest cimport *
from spear._core.hub cimport hub_push
from spear._core.imports cimport import_row, posted_row
from spear._core.nativehandles cimport *
from spear._core.sync cimport *

wasmtime_bind(engineapi.functions())


cdef struct letters_t:             # arguments, checked but not copied
    int64_t values[LETTERS_MAX]
    const uint8_t *spans[LETTERS_MAX]
    handle_t *handle
    uint64_t total
    int32_t out_at
    int32_t len_at
    bint gives


# ---- import rows

cdef void post_row(import_row *row, posted_row *posted) noexcept:
    """Its parameters follow from its shape."""
    cdef size_t at = 0, letter
    cdef bytes shape = posted.shape
    for letter in range(len(shape)):
        if shape[letter] == c"i" or shape[letter] == c"I" or shape[letter] == c"d":
            posted.params[at] = c"I" if shape[letter] == c"I" else c"i"
            at += 1
        else:
            posted.params[at] = posted.params[at + 1] = c"i"
            at += 2
    posted.params[at] = 0
    row.module, row.name, row.params, row.results = (
        posted.module, posted.name, posted.params, b"i")
    row.served, row.posted, row.park, row.env = True, posted, post_call, posted


# ---- arguments

cdef int32_t _room(
    guest_t *guest, wasmtime_caller_t *caller, letters_t *letters, int letter,
    const wasmtime_val_t *args, bint reads
) noexcept nogil:
    """Bytes out. All of the room is checked: a handler acts before its answer is copied."""
    cdef uint32_t room
    cdef const uint8_t *span = abi_span(guest, caller, args[1].of.i32, 4)
    if span == NULL:
        return -EFAULT
    memcpy(&room, span, 4)
    span = abi_span(guest, caller, args[0].of.i32, <int32_t>room)
    if span == NULL:
        return -EFAULT
    letters.values[letter] = room
    letters.out_at, letters.len_at, letters.gives = args[0].of.i32, args[1].of.i32, True
    if reads:
        letters.spans[letter] = span
        letters.total += room
    return 0


cdef int32_t _descriptor(
    guest_t *guest, const posted_row *row, int32_t number, letters_t *letters
) noexcept nogil:
    cdef descriptor_t *descriptor = fd_find(<fd_table *>guest.fds, number, 0)
    if descriptor == NULL or not row.kinds >> descriptor.ops.kind & 1:
        return -EBADF
    letters.handle = <handle_t *>descriptor.object
    return 0


cdef int32_t _read(
    guest_t *guest, wasmtime_caller_t *caller, const posted_row *row, const wasmtime_val_t *args,
    letters_t *letters
) noexcept nogil:
    """Looks at every argument; 0 or an error."""
    cdef int letter = 0
    cdef size_t at = 0
    cdef int32_t error = 0
    memset(letters, 0, sizeof(letters_t))
    while row.shape[letter] != 0 and error == 0:
        if row.shape[letter] == c"i":
            letters.values[letter] = args[at].of.i32
            at += 1
        elif row.shape[letter] == c"d":
            error = _descriptor(guest, row, args[at].of.i32, letters)
            at += 1
        elif row.shape[letter] == c"I":
            letters.values[letter] = args[at].of.i64
            at += 1
        elif row.shape[letter] == c"b":
            letters.values[letter] = args[at + 1].of.i32
            letters.spans[letter] = abi_span(guest, caller, args[at].of.i32, args[at + 1].of.i32)
            letters.total += <uint32_t>args[at + 1].of.i32
            error = -EFAULT if letters.spans[letter] == NULL else 0
            at += 2
        else:
            error = _room(guest, caller, letters, letter, &args[at], row.shape[letter] == c"x")
            at += 2
        letter += 1
    if error == 0 and letters.total > row.bytes_max:
        return -EINVAL
    return error


cdef bint _has_handler(guest_t *guest, const posted_row *row) noexcept nogil:
    """Whether Python answers it; if not, the guest's log says so once."""
    cdef char text[160]
    cdef uint64_t bit = <uint64_t>1 << (<uint32_t>row.op & 63)
    if guest.post != NULL and (<post_t *>guest.post).answers[row.op]:
        return True
    if not guest.unanswered & bit:
        guest.unanswered |= bit
        snprintf(
            text, 160, "%s.%s %s: it answers -ENOSYS", row.module, row.name,
            <const char *>"has no handler here" if guest.world == NULL else <const char *>
            "is not served in a deterministic run, as its answers come in real time")
        guest_log(guest, LEVEL_WARN, STREAM_LOG, text, strlen(text))
    return False


# ---- life of a request

cdef request_t *_request_new(
    guest_t *guest, const posted_row *row, const letters_t *letters
) noexcept nogil:
    cdef request_t *request = <request_t *>malloc(sizeof(request_t))
    cdef int letter
    cdef uint64_t at = 0
    if request == NULL:
        return NULL
    memset(request, 0, sizeof(request_t) - sizeof(request.values))     # which are all set below
    if letters.total > 0:
        request.bytes = <uint8_t *>malloc(letters.total)
    if letters.total > 0 and request.bytes == NULL:
        free(request)
        return NULL
    for letter in range(LETTERS_MAX):
        request.values[letter] = letters.values[letter]
        if letters.spans[letter] != NULL and letters.values[letter] > 0:
            memcpy(request.bytes + at, letters.spans[letter], letters.values[letter])
            at += <uint64_t>letters.values[letter]
    request.topic, request.handle = TOPIC_REQUEST, letters.handle
    if request.handle != NULL:
        handle_retain(request.handle)
    request.out_at, request.len_at, request.gives = letters.out_at, letters.len_at, letters.gives
    request.refs, request.row, request.guest = 1, row, guest
    request.hub = (<post_t *>guest.post).hub
    guest_retain(guest)
    return request


cdef void request_retain(request_t *request) noexcept nogil:
    add64(&request.refs, 1)


cdef void request_release(request_t *request) noexcept nogil:
    if add64(&request.refs, -1) != 0:
        return
    guest_release(request.guest)
    if request.handle != NULL:
        handle_release(request.handle)
    request_untaken(request)
    free(request.bytes)
    free(request.data)
    free(request.output)
    free(request)


cdef void request_untaken(request_t *request) noexcept nogil:
    cdef handle_t *opening = request.opening
    if opening != NULL:
        request.opening = NULL
        handle_close(opening)


cdef void request_let_go(void *request) noexcept nogil:
    request_release(<request_t *>request)


cdef bint bytes_replace(
    uint8_t **place, uint32_t *size, const uint8_t *data, uint32_t data_size
) noexcept nogil:
    free(place[0])
    size[0] = 0
    place[0] = <uint8_t *>malloc(<size_t>data_size + 1)
    if place[0] == NULL:
        return False
    if data_size > 0:
        memcpy(place[0], data, data_size)
    size[0] = data_size
    return True


cdef request_t *request_begin(
    guest_t *guest, wasmtime_caller_t *caller, const posted_row *row, const wasmtime_val_t *args,
    int32_t *error
) noexcept nogil:
    cdef letters_t letters
    cdef request_t *request
    if not _has_handler(guest, row):
        error[0] = -ENOSYS
        return NULL
    error[0] = _read(guest, caller, row, args, &letters)
    if error[0] != 0:
        return NULL
    request = _request_of(guest, row, &letters)
    if request == NULL:
        error[0] = -ENOMEM
        return NULL
    guest_span(guest, caller, 0, 0)        # its memory is found: there may be no caller later
    return request


cdef request_t *_request_of(
    guest_t *guest, const posted_row *row, const letters_t *letters
) noexcept nogil:
    """Its innermost call from now on."""
    cdef request_t *request = _request_new(guest, row, letters)
    if request != NULL:
        request.below = <request_t *>guest.asked
        guest.asked = request
    return request


cdef request_t *request_about(
    guest_t *guest, const posted_row *row, const uint8_t *data, uint32_t size, int64_t number
) noexcept nogil:
    cdef letters_t letters
    memset(&letters, 0, sizeof(letters_t))
    letters.values[0], letters.spans[0], letters.total = size, data, size
    letters.values[1] = number
    return _request_of(guest, row, &letters)


cdef bint request_ask(request_t *request) noexcept nogil:
    swap32(&request.turn, TURN_PYTHON)
    request_retain(request)                # the note's
    return hub_push(request.hub, request, request_let_go)


cdef bint request_answer(request_t *request) noexcept nogil:
    return cas32(&request.turn, TURN_PYTHON, TURN_GUEST)


cdef void request_close(guest_t *guest) noexcept nogil:
    cdef request_t *request = <request_t *>guest.asked
    guest.asked = request.below
    request_release(request)


cdef void requests_leave(guest_t *guest) noexcept nogil:
    """Without memory for a note the handler goes on to its end, and its answer is dropped."""
    cdef request_t *request
    cdef int32_t turn
    while guest.asked != NULL:
        request = <request_t *>guest.asked
        turn = swap32(&request.turn, TURN_GONE)
        if turn == TURN_PYTHON or request.more:
            request_retain(request)
            hub_push(request.hub, request, request_let_go)
        else:                              # Python has answered: the handler may keep its call
            request_untaken(request)
        request_close(guest)


# ---- the hostcall

cdef int32_t request_status(guest_t *guest, request_t *request) noexcept nogil:
    cdef handle_t *opening = request.opening
    if opening == NULL:
        return request.status
    request.opening = NULL
    return (<post_t *>guest.post).open(guest, opening)


cdef int32_t _result(guest_t *guest, request_t *request) noexcept nogil:
    cdef int32_t given
    if request.status < 0 or request.data == NULL or not request.gives:
        return request_status(guest, request)
    given = abi_give(guest, NULL, request.data, request.size, request.out_at, request.len_at)
    return given if given < 0 or request.status == 0 else request.status


cdef bool_t _answered(void *env) noexcept nogil:
    cdef request_t *request = <request_t *>env
    cdef guest_t *guest = request.guest
    if load32(&request.turn) != TURN_GUEST:
        guest.parking = True
        return False
    request.results[0].of.i32 = _result(guest, request)
    request_close(guest)
    return True


cdef void post_call(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation
) noexcept nogil:
    cdef guest_t *guest = guest_of(caller)
    cdef request_t *request
    guest_go_on(continuation)
    if load32(&guest.kill) != 0:
        trap[0] = guest_stop()
        return
    results[0].kind = WASMTIME_KIND_I32
    request = request_begin(guest, caller, <const posted_row *>env, args, &results[0].of.i32)
    if request == NULL:
        return
    request.results = results
    if not request_ask(request):
        request_close(guest)
        results[0].of.i32 = -ENOMEM
        return
    guest_park(guest, INT64_MAX, _answered, continuation)
    continuation.env = request

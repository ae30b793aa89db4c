"""What a handler is given of a request, and what it may give; see callvalues.pyx."""

from libc.stdint cimport int32_t

from spear._core.post cimport request_t
from spear._core.states cimport executor_t

# One a letter of the shape. What a `d` names is kept by the door while its guest may name it.
cdef tuple request_arguments(const request_t *request)
# Most answers: a status alone. False: see checked_answer.
cdef bint plain_status(object result, int32_t *status) except -1
# Status, and bytes out or None.
cdef tuple checked_answer(object result)
# Wakes the guests of these requests, which were answered, and takes a reference of each.
cdef void tell_answers(executor_t *executor, request_t **requests, int count) noexcept nogil

"""The contract of JSON written natively; see jsontext.pyx.

Rule: a text begins zeroed but for `room_max`, belongs to one thread, and ends with `text_free`.
"""

from libc.stdint cimport uint8_t, uint64_t

cdef struct text_t:
    char *data
    uint64_t size              # of the whole text, whether or not it is kept
    uint64_t room
    uint64_t room_max          # a longer text is not kept, only counted
    bint failed                # the system has no memory: counted from there on

cdef void text_add(text_t *text, const void *data, uint64_t size) noexcept nogil
cdef void text_say(text_t *text, const char *words) noexcept nogil
cdef void text_number(text_t *text, uint64_t number) noexcept nogil
# UTF-8 as a JSON string, with its quotes.
cdef void text_string(text_t *text, const uint8_t *data, uint64_t size) noexcept nogil
cdef void text_free(text_t *text) noexcept nogil

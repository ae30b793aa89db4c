"""The contract of the reader of one plain chunk of an answer; see plainchunk.pyx."""

from libc.stdint cimport uint8_t

from spear._core.jsontext cimport text_t

cdef struct plain_t:               # the text of a chunk, inside the bytes that were read
    const uint8_t *text            # between its quotes
    Py_ssize_t size
    Py_ssize_t characters          # as Python counts them
    bint escaped

# Whether [at, end) is one plain chunk; nothing is kept of one that is not.
cdef bint plain_chunk(const uint8_t *at, const uint8_t *end, plain_t *found) noexcept nogil
# Adds the text itself, in UTF-8.
cdef void plain_text(const plain_t *found, text_t *out) noexcept nogil

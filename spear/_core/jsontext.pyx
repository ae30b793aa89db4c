# cython: language_level=3
"""JSON written into memory of a bounded size, and counted beyond it.

Rule: what is written is compact and byte for byte what Python's `json.dumps` writes with
`ensure_ascii=False`: only quotes, backslashes and what lies below U+0020 are escaped.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, strlen

cdef enum:
    ROOM_MIN = 512
    DIGITS_MAX = 20

cdef const char *_HEX = "0123456789abcdef"


cdef bint _grown(text_t *text, uint64_t wanted) noexcept nogil:
    cdef uint64_t room = text.room * 2 if text.room else <uint64_t>ROOM_MIN
    cdef char *data
    if wanted <= text.room:
        return True
    if room < wanted:
        room = wanted
    data = <char *>realloc(text.data, room)
    if data == NULL:
        text.failed = True
        return False
    text.data, text.room = data, room
    return True


cdef void text_add(text_t *text, const void *data, uint64_t size) noexcept nogil:
    cdef uint64_t end = text.size + size
    if size > 0 and end <= text.room_max and not text.failed and _grown(text, end):
        memcpy(text.data + text.size, data, size)
    text.size = end


cdef void text_say(text_t *text, const char *words) noexcept nogil:
    text_add(text, words, strlen(words))


cdef void text_number(text_t *text, uint64_t number) noexcept nogil:
    cdef char digits[DIGITS_MAX]
    cdef int at = DIGITS_MAX
    while at == DIGITS_MAX or number > 0:
        at -= 1
        digits[at] = c'0' + <char>(number % 10)
        number //= 10
    text_add(text, digits + at, DIGITS_MAX - at)


cdef void _escaped(text_t *text, uint8_t character) noexcept nogil:
    cdef char six[6]
    if character == c'"':
        text_say(text, b'\\"')
    elif character == c'\\':
        text_say(text, b"\\\\")
    elif character == c'\n':
        text_say(text, b"\\n")
    elif character == c'\r':
        text_say(text, b"\\r")
    elif character == c'\t':
        text_say(text, b"\\t")
    elif character == 8:
        text_say(text, b"\\b")
    elif character == 12:
        text_say(text, b"\\f")
    else:
        memcpy(six, <const char *>b"\\u00", 4)
        six[4], six[5] = _HEX[character >> 4], _HEX[character & 15]
        text_add(text, six, 6)


cdef void text_string(text_t *text, const uint8_t *data, uint64_t size) noexcept nogil:
    cdef uint64_t at = 0, plain = 0
    text_say(text, b'"')
    for at in range(size):
        if data[at] < 0x20 or data[at] == c'"' or data[at] == c'\\':
            text_add(text, data + plain, at - plain)
            _escaped(text, data[at])
            plain = at + 1
    text_add(text, data + plain, size - plain)
    text_say(text, b'"')


cdef void text_free(text_t *text) noexcept nogil:
    free(text.data)
    text.data, text.size, text.room = NULL, 0, 0

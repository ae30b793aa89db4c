"""The short way of a stream's plain chunks: from the bytes of one read to events for a guest.

Rule: all of a read or nothing of it. A read is plain where it is whole chunks of HTTP, each of
whole server-sent events, each one plain chunk of an answer, and where nobody has to wait and no
limit is met. Then what stands between the socket and the guest (the parsers of HTTP, of events and
of JSON) has nothing left to remember, and need not have seen it. All else goes through those.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcmp

from spear._core.jsontext cimport text_add, text_free, text_say, text_string, text_t
from spear._core.outlets cimport Outlet
from spear._core.plainchunk cimport plain_chunk, plain_t, plain_text

cdef enum:
    PIECES_MAX = 64                # of one read
    PIECE_CHARACTERS = 8192        # of a longer one more than one event is made
    SIZE_DIGITS_MAX = 6            # of a chunk, in hexadecimal
    TEXT_BYTES_MAX = 1 << 28

cdef struct pieces_t:
    plain_t list[PIECES_MAX]
    int count
    int count_max
    Py_ssize_t characters


cdef Py_ssize_t _chunk_size(const uint8_t **at, const uint8_t *end) noexcept nogil:
    """Of the chunk of HTTP that begins here, and where its data begins; 0 where that is not said
    in the usual way, or it is the last one."""
    cdef Py_ssize_t size = 0
    cdef int digits = 0
    cdef uint8_t digit
    while at[0] < end and digits <= SIZE_DIGITS_MAX:
        digit = at[0][0]
        if c'0' <= digit <= c'9':
            size = size * 16 + digit - c'0'
        elif c'a' <= digit | 0x20 <= c'f':
            size = size * 16 + (digit | 0x20) - c'a' + 10
        else:
            break
        if size == 0:
            return 0
        digits += 1
        at[0] += 1
    if digits == 0 or digits > SIZE_DIGITS_MAX or end - at[0] < 2 or memcmp(at[0], b"\r\n", 2) != 0:
        return 0
    at[0] += 2
    return size


cdef const uint8_t *_line_end(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """Behind an end of a line, of either form, that begins here; NULL where none does."""
    if at < end and at[0] == c'\r':
        at += 1
    return at + 1 if at < end and at[0] == c'\n' else NULL


cdef bint _events(const uint8_t *at, const uint8_t *end, pieces_t *pieces) noexcept nogil:
    """Whole ones of one line each, and nothing else."""
    cdef const uint8_t *line_end
    cdef plain_t *piece
    while at < end:
        if pieces.count >= pieces.count_max or end - at < 6 or memcmp(at, b"data: ", 6) != 0:
            return False
        at += 6
        line_end = <const uint8_t *>memchr(at, c'\n', end - at)
        if line_end == NULL:
            return False
        if line_end > at and line_end[-1] == c'\r':
            line_end -= 1
        piece = &pieces.list[pieces.count]
        if not plain_chunk(at, line_end, piece) or piece.characters > PIECE_CHARACTERS:
            return False
        pieces.count += piece.size > 0
        pieces.characters += piece.characters
        at = _line_end(line_end, end)
        at = _line_end(at, end) if at != NULL else NULL
        if at == NULL:
            return False
    return True


cdef bint _read(const uint8_t *at, const uint8_t *end, pieces_t *pieces) noexcept nogil:
    cdef Py_ssize_t size
    while at < end:
        size = _chunk_size(&at, end)
        if size == 0 or end - at < size + 2 or memcmp(at + size, b"\r\n", 2) != 0:
            return False
        if not _events(at, at + size, pieces):
            return False
        at += size + 2
    return True


@cython.final
cdef class PlainStream:
    """See plainstream.pyi."""

    def __init__(self, Outlet outlet not None):
        self.outlet = outlet
        self.whole.room_max = self.scratch.room_max = self.event.room_max = TEXT_BYTES_MAX

    def __dealloc__(self):
        text_free(&self.whole)
        text_free(&self.scratch)
        text_free(&self.event)

    def begin(self, int64_t bytes_max, int64_t characters_max):
        self.bytes_left, self.characters_left, self.bytes_taken = bytes_max, characters_max, 0

    def take(self, bytes data not None):
        return bool(self.take_read(
            <const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)))

    cdef bint take_read(self, const uint8_t *first, Py_ssize_t size) except -1:
        cdef pieces_t pieces
        cdef int at
        pieces.count, pieces.characters = 0, 0
        pieces.count_max = <int>min(self.outlet.room(), PIECES_MAX)
        if size > self.bytes_left or not _read(first, first + size, &pieces):
            return False
        if pieces.characters > self.characters_left:
            return False
        self.bytes_left -= size
        self.bytes_taken += size
        self.characters_left -= pieces.characters
        for at in range(pieces.count):
            self.outlet.hold_natively(_event(self, &pieces.list[at]))
        return True

    def end(self):
        taken, self.bytes_left, self.bytes_taken = self.bytes_taken, -1, 0
        return taken

    def text(self):
        text = PyUnicode_DecodeUTF8(self.whole.data, <Py_ssize_t>self.whole.size, NULL)
        text_free(&self.whole)
        return text


cdef bytes _event(PlainStream stream, const plain_t *piece):
    """Which the guest reads, as the documents of chat write it; its text is added to the answer."""
    cdef text_t *event = &stream.event
    cdef text_t *plain = &stream.scratch
    event.size = plain.size = 0
    text_say(event, b'{"type":"delta","content":')
    if piece.escaped:
        plain_text(piece, plain)
        text_add(&stream.whole, plain.data, plain.size)
        text_string(event, <const uint8_t *>plain.data, plain.size)
    else:
        text_add(&stream.whole, piece.text, piece.size)
        text_add(event, piece.text - 1, piece.size + 2)      # with its quotes
    text_say(event, b"}")
    if event.failed or plain.failed or stream.whole.failed:
        raise MemoryError("no memory for a piece of an answer")
    return PyBytes_FromStringAndSize(event.data, <Py_ssize_t>event.size)

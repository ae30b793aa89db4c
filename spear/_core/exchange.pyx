"""The unary calls of one side of a session, from their frames and to them.

Rule: the plain case or nothing. A frame that is anything else (a stream's, a greeting, an error,
one that may not come now) is left alone, and the session's own steps say what it means; so odd
frames have one truth, and here each that is accepted means what it means there. Tests compare them.

Not for use from two threads at a time.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint16_t
from libc.string cimport memcpy

cdef extern from "Python.h":
    object new_bytes "PyBytes_FromStringAndSize" (const char *data, Py_ssize_t size)

cdef extern from "<endian.h>" nogil:
    uint16_t le16toh(uint16_t value)
    uint16_t htole16(uint16_t value)
    uint32_t le32toh(uint32_t value)
    uint32_t htole32(uint32_t value)
    uint64_t le64toh(uint64_t value)
    uint64_t htole64(uint64_t value)

cdef enum:
    REQUEST_ID_AT = 8
    PATH_AT = HEADER_BYTES + 2


cdef inline uint32_t load32(const char *at) noexcept nogil:
    cdef uint32_t raw = 0
    memcpy(&raw, at, sizeof(raw))
    return le32toh(raw)


cdef inline void store32(char *at, uint32_t value) noexcept nogil:
    cdef uint32_t raw = htole32(value)
    memcpy(at, &raw, sizeof(raw))


cdef bint read_header(bytes frame, header_t *header) noexcept:
    cdef const char *at = PyBytes_AS_STRING(frame)
    cdef uint64_t request_id = 0
    cdef uint16_t flags = 0
    if PyBytes_GET_SIZE(frame) < HEADER_BYTES or at[0] != VERSION:
        return False
    memcpy(&flags, at + 2, sizeof(flags))
    memcpy(&request_id, at + REQUEST_ID_AT, sizeof(request_id))
    header.kind = <uint8_t>at[1]
    header.flags = le16toh(flags)
    header.code = load32(at + 4)
    header.request_id = le64toh(request_id)
    return True


cdef inline char *begin_body(char *at, uint8_t kind, uint32_t code, uint64_t request_id) noexcept:
    """Writes a header without flags; where the payload begins."""
    cdef uint64_t raw = htole64(request_id)
    at[0], at[1], at[2], at[3] = VERSION, <char>kind, 0, 0
    store32(at + 4, code)
    memcpy(at + REQUEST_ID_AT, &raw, sizeof(raw))
    return at + HEADER_BYTES


cdef class Exchange:
    """To be extended by the session. `parity`: of own ids; `payload_bytes_max`: of one frame.

    The session gives `uncallable(path, deadline_ms, payload)`, the error of a call that no frame
    can hold, and `unanswerable(request_id, payload)`, which answers so instead.
    """

    def __cinit__(self, *_, **__):
        self.outgoing = []
        self.own_requests = {}
        self.other_requests = {}

    def begin_ids(self, unsigned int parity, Py_ssize_t payload_bytes_max):
        self.last_asked = self.parity = parity
        self.payload_bytes_max = payload_bytes_max

    # ---- out

    def call(self, bytes path not None, deadline_ms, bytes payload not None):
        """Asks for a unary call; its request id. InvalidArgument if no frame can hold it."""
        cdef Py_ssize_t path_size = PyBytes_GET_SIZE(path), size = PyBytes_GET_SIZE(payload)
        cdef uint16_t raw = htole16(<uint16_t>path_size)
        cdef Py_ssize_t whole = 2 + path_size + 4 + size
        cdef uint32_t within_ms = 0
        cdef bytes body
        cdef char *at
        if path_size > PATH_BYTES_MAX or deadline_ms < 0 or whole > self.payload_bytes_max:
            raise self.uncallable(path, deadline_ms, payload)
        within_ms = <uint32_t>0xFFFFFFFF if deadline_ms > 0xFFFFFFFF else deadline_ms
        body = new_bytes(NULL, HEADER_BYTES + whole)
        self.last_asked += 2
        at = begin_body(PyBytes_AS_STRING(body), REQUEST, CALL, self.last_asked)
        memcpy(at, &raw, sizeof(raw))
        memcpy(at + 2, PyBytes_AS_STRING(path), <size_t>path_size)
        store32(at + 2 + path_size, within_ms)
        memcpy(at + 2 + path_size + 4, PyBytes_AS_STRING(payload), <size_t>size)
        request_id = self.last_asked
        self.own_requests[request_id] = None
        self.outgoing.append(body)
        return request_id

    def respond(self, request_id, bytes payload not None, uint32_t status=0):
        """Answers a request, unless it has ended otherwise."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
        cdef bytes body
        cdef char *at
        if not self.open or request_id not in self.other_requests:
            return
        if size > self.payload_bytes_max and status == 0:
            self.unanswerable(request_id, payload)
            return
        body = new_bytes(NULL, HEADER_BYTES + size)
        at = begin_body(PyBytes_AS_STRING(body), RESPONSE, status, request_id)
        memcpy(at, PyBytes_AS_STRING(payload), <size_t>size)
        del self.other_requests[request_id]
        self.outgoing.append(body)

    # ---- in

    cdef bint plain_call(self, bytes frame, call_t *call) noexcept:
        cdef header_t header
        cdef const char *at = PyBytes_AS_STRING(frame)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(frame)
        cdef uint16_t path_size = 0
        if not self.open or not read_header(frame, &header):
            return False
        if header.kind != REQUEST or header.flags or header.code != CALL:
            return False
        if header.request_id & 1 == self.parity or header.request_id <= self.last_answered:
            return False
        if size < PATH_AT:
            return False
        memcpy(&path_size, at + HEADER_BYTES, sizeof(path_size))
        call.path_size = le16toh(path_size)
        if call.path_size > PATH_BYTES_MAX or size < PATH_AT + call.path_size + 4:
            return False
        call.request_id = header.request_id
        call.path = at + PATH_AT
        call.deadline_ms = load32(at + PATH_AT + call.path_size)
        call.payload_at = PATH_AT + call.path_size + 4
        return True

    cdef object take_call(self, call_t *call):
        request_id = call.request_id
        self.other_requests[request_id] = None
        self.last_answered = call.request_id
        self.silent = 0
        return request_id

    cdef object take_answer(self, bytes frame, dict calls):
        cdef header_t header
        if not self.open or not read_header(frame, &header):
            return None
        if header.kind != RESPONSE or header.flags or header.code:
            return None
        request_id = header.request_id
        if request_id not in calls or request_id not in self.own_requests:
            return None
        del self.own_requests[request_id]
        self.silent = 0
        return request_id

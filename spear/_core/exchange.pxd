"""The unary calls of one side of a session, as bytes; see exchange.pyx."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    HEADER_BYTES = 16
    VERSION = 1
    REQUEST = 3                # types of frames
    RESPONSE = 4
    CALL = 128                 # an operation
    PATH_BYTES_MAX = 1024


cdef struct header_t:
    uint8_t kind
    uint8_t flags
    uint32_t code
    uint64_t request_id


cdef struct call_t:            # of a request 128; what is in the frame is borrowed from it
    uint64_t request_id
    const char *path
    Py_ssize_t path_size
    uint32_t deadline_ms
    Py_ssize_t payload_at      # where in the frame its message begins; it goes to the end


# The header of a frame of this version. False: there is none.
cdef bint read_header(bytes frame, header_t *header) noexcept


cdef class Exchange:
    cdef public list outgoing            # bodies of frames to send, in order
    cdef public bint flush_due           # somebody sends `outgoing` at the end of this turn
    cdef public bint open                # calls may come and go
    cdef public dict own_requests        # in flight, by id: what the session keeps of each
    cdef public dict other_requests      # of the other side
    cdef public uint64_t last_asked      # ids
    cdef public uint64_t last_answered
    cdef public unsigned int silent      # intervals in which nothing came
    cdef readonly unsigned int parity    # of own ids
    cdef readonly Py_ssize_t payload_bytes_max

    # Whether the frame is a plain call that may come now. It is not taken yet.
    cdef bint plain_call(self, bytes frame, call_t *call) noexcept
    # The id under which that call is answered, once.
    cdef object take_call(self, call_t *call)
    # The id of the one of these calls whose good answer this frame is, taken; None: it is none.
    cdef object take_answer(self, bytes frame, dict calls)

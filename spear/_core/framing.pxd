"""The contract of framing for other native modules: the scan that `FrameDecoder` itself uses."""

from libc.stdint cimport uint64_t

cdef enum:
    PREFIX_BYTES = 8
    # What one read of a socket brings at most by way of the staging memory. A tail at least as
    # long is received in place: it never takes more reads than staging would.
    STAGING_BYTES = 256 << 10


cdef struct FrameScan:
    size_t frames        # complete frames found
    size_t used          # bytes they take, prefixes included
    uint64_t announced   # payload length of the frame that follows them, if its prefix is whole
    bint prefix_whole    # the frame that follows has its prefix, but not all of its payload
    bint refused         # that frame is longer than the limit; nothing after it can be trusted


# Find the complete frames at the start of `data`; touches no Python object, allocates nothing.
cdef void scan_frames(
    const unsigned char *data, size_t size, uint64_t frame_bytes_max, FrameScan *scan
) noexcept nogil


cdef class FrameDecoder:
    cdef readonly uint64_t frame_bytes_max
    cdef unsigned char prefix[PREFIX_BYTES]   # of the frame under way, as far as it came
    cdef size_t prefix_got
    cdef object payload                       # bytes of the frame under way, being filled
    cdef size_t payload_got
    cdef size_t payload_size
    cdef object staging                       # bytes that a socket fills for small frames
    cdef object staging_view
    cdef object tail_view                     # over the end of `payload`, while lent
    cdef size_t lent                          # bytes lent by get_buffer and not yet reported
    cdef str failure                          # why nothing more is decoded
    cdef bint busy

    cdef int enter(self) except -1
    cdef int need_staging(self) except -1
    cdef int end_loan(self) except -1
    cdef list tail_filled(self, size_t size)
    cdef list feed(self, const unsigned char *data, size_t size)
    cdef list decode(self, const unsigned char *data, size_t size)
    cdef object carry_on(self, const unsigned char **data, size_t *size)
    cdef int keep_rest(
        self, const unsigned char *rest, size_t size, FrameScan *scan, list frames
    ) except -1
    cdef int start_payload(self, uint64_t announced) except -1
    cdef void fill_payload(self, const unsigned char *data, size_t size) noexcept
    cdef object take_payload(self)
    cdef int refuse(self, uint64_t announced) except -1
    cdef int fail(self, str failure) except -1

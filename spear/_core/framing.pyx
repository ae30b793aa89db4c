"""Length-prefixed frames: `[u64 little-endian length][payload]`, decoded from any cut.

Rule: every byte is looked at once and moved at most once more, nothing is allocated for a length
that was not checked, and memory that was handed out never moves.

Between two calls the decoder holds either a cut prefix or the payload of one cut frame, and this
payload already lies in the `bytes` that the caller will get. It is allocated whole as soon as its
legal length is known: pages that the peer never fills are reserved but not committed by the
system, so an announcement alone costs two pages, whatever its length. (Growing it step by step
was refused: it copies, and saves only address space.)

Not for use from two threads at a time.
"""

from cpython.buffer cimport (
    PyBUF_SIMPLE, Py_buffer, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from spear.errors import FrameError, InvalidArgument

cdef extern from "Python.h":
    object new_bytes "PyBytes_FromStringAndSize" (const char *data, Py_ssize_t size)
    PyObject *new_bytes_ref "PyBytes_FromStringAndSize" (
        const char *data, Py_ssize_t size) except NULL
    list new_list "PyList_New" (Py_ssize_t size)
    void give_to_list "PyList_SET_ITEM" (object into, Py_ssize_t index, PyObject *item)
    object contiguous_view "PyMemoryView_GetContiguous" (object source, int kind, char order)
    int PyBUF_READ
    const Py_ssize_t PY_SSIZE_T_MAX

cdef extern from "<endian.h>" nogil:
    uint64_t le64toh(uint64_t value)
    uint64_t htole64(uint64_t value)

FRAME_BYTES_MAX = 64 << 20

cdef enum:
    DEFAULT_BYTES_MAX = 64 << 20
    SHARED_BYTES_MIN = 16 << 10

# Room for the object header and the prefix beside the largest payload.
cdef uint64_t LIMIT_MAX = <uint64_t>PY_SSIZE_T_MAX - 4096


cdef inline uint64_t load_length(const unsigned char *at) noexcept nogil:
    cdef uint64_t raw = 0
    memcpy(&raw, at, PREFIX_BYTES)
    return le64toh(raw)


cdef inline void store_length(char *at, uint64_t length) noexcept nogil:
    cdef uint64_t raw = htole64(length)
    memcpy(at, &raw, PREFIX_BYTES)


cdef void scan_frames(
    const unsigned char *data, size_t size, uint64_t frame_bytes_max, FrameScan *scan
) noexcept nogil:
    cdef size_t at = 0, frames = 0
    cdef uint64_t length
    scan.announced = 0
    scan.prefix_whole = scan.refused = False
    while size - at >= PREFIX_BYTES:
        length = load_length(data + at)
        if length > frame_bytes_max or length > size - at - PREFIX_BYTES:
            scan.announced = length
            scan.prefix_whole = True
            scan.refused = length > frame_bytes_max
            break
        at += PREFIX_BYTES + <size_t>length
        frames += 1
    scan.frames = frames
    scan.used = at


cdef class _Window:
    """A writable part of a bytes object that nobody else has seen yet; keeps it alive."""

    cdef object owner
    cdef char *start
    cdef Py_ssize_t size

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.start, self.size, 0, flags)


cdef object writable_view(object owner, size_t offset):
    """Memoryview of `owner[offset:]`; the only way our memory is lent."""
    cdef _Window window = _Window.__new__(_Window)
    window.owner = owner
    window.start = PyBytes_AS_STRING(owner) + offset
    window.size = PyBytes_GET_SIZE(owner) - <Py_ssize_t>offset
    return PyMemoryView_FromObject(window)


cdef class FrameDecoder:
    """The frames of one direction of one connection.

    `frame_bytes_max`: longest payload that is accepted, in bytes; 0 to 2**63 - 4097. A longer
    announcement raises `FrameError` before anything is allocated for it; from then on the decoder
    is `failed` and every call raises the same. If frames were completed by the same bytes, these
    are returned first and the next call raises, so look at `failed` after the frames.

    Bytes come in either by `receive(chunk)`, or by `get_buffer` and `buffer_updated` (the shape
    of `asyncio.BufferedProtocol`); both may be mixed.
    """

    def __cinit__(self, frame_bytes_max):
        if not isinstance(frame_bytes_max, int) or isinstance(frame_bytes_max, bool):
            raise TypeError(
                f"frame_bytes_max must be an int, not {type(frame_bytes_max).__name__}")
        if not 0 <= frame_bytes_max <= LIMIT_MAX:
            raise InvalidArgument(
                f"frame_bytes_max is {frame_bytes_max}, accepted are 0 to {LIMIT_MAX}")
        self.frame_bytes_max = frame_bytes_max

    def receive(self, chunk):
        """List of the frames that `chunk` completes, in order; `[]` if none is.

        `chunk` is any contiguous bytes-like object of any length; it is copied, not kept.
        Raises FrameError (see the class), BufferError while a socket still writes into a buffer
        that was lent.
        """
        cdef Py_buffer view
        if type(chunk) is bytes:
            self.enter()
            try:
                self.end_loan()
                return self.feed(<const unsigned char *>PyBytes_AS_STRING(chunk),
                                 <size_t>PyBytes_GET_SIZE(chunk))
            finally:
                self.busy = False
        PyObject_GetBuffer(chunk, &view, PyBUF_SIMPLE)
        try:
            self.enter()
            try:
                self.end_loan()
                return self.feed(<const unsigned char *>view.buf, <size_t>view.len)
            finally:
                self.busy = False
        finally:
            PyBuffer_Release(&view)

    def get_buffer(self, hint=-1):
        """Writable memory for a socket to fill; never empty.

        While a large frame is under way this is the unfilled tail of its own payload, otherwise
        256 KiB of the decoder's. `hint` is ignored. The buffer is borrowed: it is valid until the
        next call of `buffer_updated`, `receive` or `get_buffer`. Raises FrameError when failed.
        """
        self.enter()
        try:
            self.end_loan()
            if self.payload_size - self.payload_got >= STAGING_BYTES:
                self.tail_view = writable_view(self.payload, self.payload_got)
                self.lent = self.payload_size - self.payload_got
                return self.tail_view
            self.need_staging()
            self.lent = STAGING_BYTES
            return self.staging_view
        finally:
            self.busy = False

    def buffer_updated(self, Py_ssize_t size):
        """List of the frames completed by the `size` bytes written to the last `get_buffer`.

        Raises InvalidArgument if `size` is negative or beyond that buffer, RuntimeError if none
        is lent (each `get_buffer` is answered once), FrameError (see the class).
        """
        self.enter()
        try:
            if self.lent == 0:
                raise RuntimeError("buffer_updated: no buffer is lent, call get_buffer first")
            if size < 0 or <size_t>size > self.lent:
                raise InvalidArgument(
                    f"buffer_updated: {size} bytes reported, the buffer lent has {self.lent}")
            self.lent = 0
            if self.tail_view is None:
                return self.feed(<const unsigned char *>PyBytes_AS_STRING(self.staging),
                                 <size_t>size)
            return self.tail_filled(<size_t>size)
        finally:
            self.busy = False

    @property
    def buffered(self):
        """Bytes received of the frame under way, its prefix included."""
        return self.prefix_got + self.payload_got

    @property
    def failed(self):
        """Whether the stream is given up: the next call raises FrameError."""
        return self.failure is not None

    cdef int enter(self) except -1:
        """Guard of every public call; the collector may run Python code inside one."""
        if self.busy:
            raise RuntimeError("the decoder is in use: it was called again from inside a call")
        if self.failure is not None:
            raise FrameError(self.failure)
        self.busy = True
        return 0

    cdef int need_staging(self) except -1:
        if self.staging is None:
            self.staging = new_bytes(NULL, STAGING_BYTES)
            self.staging_view = writable_view(self.staging, 0)
        return 0

    cdef int end_loan(self) except -1:
        """Take a lent tail back; refused while something holds its memory by address."""
        if self.tail_view is not None:
            self.tail_view.release()  # raises BufferError
            self.tail_view = None
        self.lent = 0
        return 0

    cdef list tail_filled(self, size_t size):
        self.payload_got += size
        # uvloop lets go of the buffer only after this call, so a view in use is no error here:
        # its window keeps the memory alive.
        try:
            self.tail_view.release()
        except BufferError:
            pass
        self.tail_view = None
        return [self.take_payload()] if self.payload_got == self.payload_size else []

    cdef list feed(self, const unsigned char *data, size_t size):
        """Frames completed by `data`; what is cut is kept."""
        try:
            return self.decode(data, size)
        except MemoryError:
            self.fail("the stream was given up: no memory for a frame of the announced length")
            raise

    cdef list decode(self, const unsigned char *data, size_t size):
        cdef FrameScan scan
        cdef list frames
        cdef object first = None
        cdef Py_ssize_t carried = 0
        if self.prefix_got:
            first = self.carry_on(&data, &size)
            if first is None:
                return []
            carried = 1
        scan_frames(data, size, self.frame_bytes_max, &scan)
        frames = new_list(carried + <Py_ssize_t>scan.frames)
        if carried:
            Py_INCREF(first)
            give_to_list(frames, 0, <PyObject *>first)
        copy_frames(frames, carried, data)
        self.keep_rest(data + scan.used, size - scan.used, &scan, frames)
        return frames

    cdef object carry_on(self, const unsigned char **data, size_t *size):
        """The frame under way if `data` completes it, else None; moves `data` past its bytes."""
        cdef size_t part
        cdef uint64_t announced
        if self.payload is None:
            part = min(size[0], PREFIX_BYTES - self.prefix_got)
            memcpy(self.prefix + self.prefix_got, data[0], part)
            self.prefix_got += part
            data[0] += part
            size[0] -= part
            if self.prefix_got < PREFIX_BYTES:
                return None
            announced = load_length(self.prefix)
            if announced > self.frame_bytes_max:
                self.refuse(announced)
                raise FrameError(self.failure)
            self.start_payload(announced)
        part = min(size[0], self.payload_size - self.payload_got)
        self.fill_payload(data[0], part)
        data[0] += part
        size[0] -= part
        return self.take_payload() if self.payload_got == self.payload_size else None

    cdef int keep_rest(
        self, const unsigned char *rest, size_t size, FrameScan *scan, list frames
    ) except -1:
        """Keep the cut frame after the whole ones, or give the stream up because of it."""
        if scan.refused:
            self.refuse(scan.announced)
            if not frames:
                raise FrameError(self.failure)
        elif scan.prefix_whole:
            self.prefix_got = PREFIX_BYTES
            self.start_payload(scan.announced)
            self.fill_payload(rest + PREFIX_BYTES, size - PREFIX_BYTES)
        else:
            memcpy(self.prefix, rest, size)
            self.prefix_got = size
        return 0

    cdef int start_payload(self, uint64_t announced) except -1:
        """Allocate the payload; its length was checked."""
        self.payload = new_bytes(NULL, <Py_ssize_t>announced)
        self.payload_size = <size_t>announced
        self.payload_got = 0
        return 0

    cdef void fill_payload(self, const unsigned char *data, size_t size) noexcept:
        memcpy(PyBytes_AS_STRING(self.payload) + self.payload_got, data, size)
        self.payload_got += size

    cdef object take_payload(self):
        cdef object frame = self.payload
        self.payload = None
        self.prefix_got = self.payload_got = self.payload_size = 0
        return frame

    cdef int refuse(self, uint64_t announced) except -1:
        self.fail(f"the peer announced a frame of {announced} bytes, "
                  f"the limit is {self.frame_bytes_max}")
        return 0

    cdef int fail(self, str failure) except -1:
        self.failure = failure
        self.payload = None
        self.prefix_got = self.payload_got = self.payload_size = 0
        return 0


cdef int copy_frames(list frames, Py_ssize_t index, const unsigned char *data) except -1:
    """Fill `frames` from `index` on with copies of the whole frames that start at `data`."""
    cdef Py_ssize_t length
    for index in range(index, len(frames)):
        length = <Py_ssize_t>load_length(data)  # scan_frames has checked it
        give_to_list(frames, index, new_bytes_ref(<const char *>data + PREFIX_BYTES, length))
        data += PREFIX_BYTES + length
    return 0


def encode(payload, Py_ssize_t frame_bytes_max=DEFAULT_BYTES_MAX):
    """The frame of one payload, as new bytes.

    `payload` is any contiguous bytes-like object. Raises InvalidArgument if it is longer than
    `frame_bytes_max` (64 MiB unless given).
    """
    cdef object source = payload if PyBytes_Check(payload) else pinned(payload)
    cdef size_t size = size_of(source)
    cdef object frame
    check_length(size, frame_bytes_max)
    frame = new_bytes(NULL, <Py_ssize_t>(PREFIX_BYTES + size))
    store_frame(PyBytes_AS_STRING(frame), source, size)
    return frame


def encode_many(payloads, Py_ssize_t frame_bytes_max=DEFAULT_BYTES_MAX):
    """The frames of all payloads, in order, joined in one new bytes object.

    `payloads` is any iterable of contiguous bytes-like objects. Raises InvalidArgument if one of
    them is longer than `frame_bytes_max` (64 MiB unless given).
    """
    return joined(sources_of(payloads), frame_bytes_max, -1)


def encode_parts(payloads, Py_ssize_t frame_bytes_max=DEFAULT_BYTES_MAX):
    """The frames of all payloads as a list of buffers for one vectored write, in order.

    As `encode_many`, but a payload of 16 KiB or more is not copied: it stands in the list itself
    (as a memoryview if it is not bytes), so it must not be changed before it is sent. For frames
    of 64 KiB this is twice as fast on a socket as joining: fresh pages cost more than the copy.
    """
    cdef object source
    cdef size_t size
    cdef list parts = [], small = []
    for source in sources_of(payloads):
        size = size_of(source)
        if size < SHARED_BYTES_MIN:
            small.append(source)
        else:
            check_length(size, frame_bytes_max)
            parts.append(joined(small, frame_bytes_max, <Py_ssize_t>size))
            parts.append(source)
            small = []
    if small:
        parts.append(joined(small, frame_bytes_max, -1))
    return parts


cdef object sources_of(object payloads):
    """List or tuple of bytes objects and memoryviews that stand for the payloads."""
    cdef object sources = payloads if type(payloads) in (list, tuple) else list(payloads)
    if all_bytes(sources):
        return sources
    return [item if PyBytes_Check(item) else pinned(item) for item in sources]


cdef object joined(object sources, Py_ssize_t frame_bytes_max, Py_ssize_t following):
    """The frames of `sources`, then the prefix of a frame of `following` bytes unless negative.

    Runs no Python code, so `sources` cannot change between the two passes.
    """
    cdef size_t total = joined_size(sources, frame_bytes_max), size
    cdef object source, frames
    cdef char *at
    frames = new_bytes(NULL, <Py_ssize_t>(total + (PREFIX_BYTES if following >= 0 else 0)))
    at = PyBytes_AS_STRING(frames)
    for source in sources:
        size = size_of(source)
        store_frame(at, source, size)
        at += PREFIX_BYTES + size
    if following >= 0:
        store_length(at, <uint64_t>following)
    return frames


cdef bint all_bytes(object sources) except -1:
    cdef object item
    for item in sources:
        if not PyBytes_Check(item):
            return False
    return True


cdef object pinned(object payload):
    """Contiguous memoryview of a bytes-like object: it cannot be resized meanwhile."""
    return contiguous_view(payload, PyBUF_READ, b"C")


cdef inline size_t size_of(object source) noexcept:
    if PyBytes_Check(source):
        return <size_t>PyBytes_GET_SIZE(source)
    return <size_t>PyMemoryView_GET_BUFFER(source).len


cdef inline void store_frame(char *at, object source, size_t size) noexcept:
    store_length(at, size)
    memcpy(at + PREFIX_BYTES,
           PyBytes_AS_STRING(source) if PyBytes_Check(source)
           else <char *>PyMemoryView_GET_BUFFER(source).buf, size)


cdef size_t joined_size(object sources, Py_ssize_t frame_bytes_max) except? 0:
    cdef size_t total = 0, size
    cdef object source
    for source in sources:
        size = size_of(source)
        check_length(size, frame_bytes_max)
        if total > LIMIT_MAX - PREFIX_BYTES - size:
            raise InvalidArgument("the payloads together exceed the address space")
        total += PREFIX_BYTES + size
    return total


cdef inline int check_length(size_t size, Py_ssize_t frame_bytes_max) except -1:
    if <Py_ssize_t>size > frame_bytes_max or size > LIMIT_MAX:
        raise InvalidArgument(
            f"a payload has {size} bytes, the limit of a frame is {frame_bytes_max}")
    return 0

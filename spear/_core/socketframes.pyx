"""Frames from a socket and to it, by its descriptor.

Rule: one system call each, which never waits, and no object but the frames. The descriptor is the
caller's, who has it open meanwhile.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from spear._core.framing cimport PREFIX_BYTES, STAGING_BYTES, FrameDecoder

from spear.errors import InvalidArgument

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int fd, void *into, size_t size, int flags)
    ssize_t send(int fd, const void *data, size_t size, int flags)
    int MSG_DONTWAIT, MSG_NOSIGNAL

cdef extern from "<endian.h>" nogil:
    uint64_t htole64(uint64_t value)

cdef enum:
    SMALL_MAX = 4096

SMALL_BYTES = SMALL_MAX  # of the payload of most frames


def read_frames(FrameDecoder decoder not None, int fd):
    """List of the frames completed by one read; `[]` if nothing is there, None at the end.

    As `get_buffer`, the system's read and `buffer_updated` of the decoder. Raises OSError,
    FrameError (see FrameDecoder).
    """
    cdef char *into
    cdef size_t room
    cdef ssize_t got
    cdef bint tail
    decoder.enter()
    try:
        decoder.end_loan()
        room = decoder.payload_size - decoder.payload_got
        tail = room >= STAGING_BYTES
        if tail:
            into = PyBytes_AS_STRING(decoder.payload) + decoder.payload_got
        else:
            decoder.need_staging()
            into, room = PyBytes_AS_STRING(decoder.staging), STAGING_BYTES
        with nogil:
            got = recv(fd, into, room, MSG_DONTWAIT)
        if got < 0:
            if errno == EAGAIN or errno == EINTR:
                return []
            PyErr_SetFromErrno(OSError)
        if got == 0:
            return None
        if not tail:
            return decoder.feed(<const unsigned char *>into, <size_t>got)
        decoder.payload_got += <size_t>got
        return [decoder.take_payload()] if decoder.payload_got == decoder.payload_size else []
    finally:
        decoder.busy = False


def send_frame(int fd, bytes payload not None):
    """Sends the frame of a payload of up to SMALL_BYTES; how many bytes of the frame the system
    did not take, perhaps all. Raises OSError, InvalidArgument."""
    cdef char frame[PREFIX_BYTES + SMALL_MAX]
    cdef size_t size = <size_t>PyBytes_GET_SIZE(payload)
    cdef uint64_t length
    cdef ssize_t sent
    if size > SMALL_MAX:
        raise InvalidArgument(f"a payload of {size} bytes, the limit here is {SMALL_BYTES}")
    length = htole64(size)
    memcpy(frame, &length, PREFIX_BYTES)
    memcpy(frame + PREFIX_BYTES, PyBytes_AS_STRING(payload), size)
    size += PREFIX_BYTES
    with nogil:
        sent = send(fd, frame, size, MSG_DONTWAIT | MSG_NOSIGNAL)
    if sent < 0:
        if errno != EAGAIN and errno != EINTR:
            PyErr_SetFromErrno(OSError)
        sent = 0
    return size - <size_t>sent

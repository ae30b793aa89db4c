"""Reads the sockets of many streams in one call of an event loop.

Rule: a socket is read once a turn, into one buffer for all. What its tap's short way takes costs no
Python; all else, an end and an error go to who has the socket; an error is told, since no later
read finds it. What one tap raises is told to that tap alone. A tap may be removed at any time, also
by what another one's bytes lead to. On one event loop.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc

import os

cdef extern from "sys/epoll.h" nogil:
    enum:
        EPOLL_CLOEXEC
        EPOLLIN
        EPOLL_CTL_ADD
        EPOLL_CTL_DEL
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int op, int fd, epoll_event *event)
    int epoll_wait(int epoll, epoll_event *events, int events_max, int timeout_ms)

cdef extern from "sys/socket.h" nogil:
    enum:
        MSG_DONTWAIT
    Py_ssize_t recv(int fd, void *data, size_t size, int flags)

cdef enum:
    TURN_MAX = 256                 # sockets of one turn
    READ_BYTES = 1 << 16


@cython.final
cdef class Tap:
    """See pump.pyi."""

    def __init__(self, passed not None, ended not None, failed not None):
        self.passed, self.ended, self.failed = passed, ended, failed


@cython.final
cdef class Pump:
    """See pump.pyi."""

    def __cinit__(self):
        self.taps = {}
        self.fd = -1
        self.read = <uint8_t *>malloc(READ_BYTES)
        if self.read == NULL:
            raise MemoryError("no memory to read streams into")
        self.fd = epoll_create1(EPOLL_CLOEXEC)
        if self.fd < 0:
            raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
        if self.fd >= 0:
            os.close(self.fd)
        free(self.read)

    def __len__(self):
        return len(self.taps)

    def fileno(self):
        return self.fd

    def add(self, int fd, Tap tap not None):
        cdef epoll_event event
        event.events, event.data.fd = EPOLLIN, fd
        if epoll_ctl(self.fd, EPOLL_CTL_ADD, fd, &event) != 0:
            raise OSError(errno, os.strerror(errno))
        self.taps[fd] = tap

    def remove(self, int fd):
        if self.taps.pop(fd, None) is not None:
            epoll_ctl(self.fd, EPOLL_CTL_DEL, fd, NULL)

    def turn(self):
        cdef epoll_event events[TURN_MAX]
        cdef Py_ssize_t size
        cdef int at, fd, count = epoll_wait(self.fd, events, TURN_MAX, 0)
        cdef Tap tap
        for at in range(count):            # none where a signal came
            fd = events[at].data.fd
            tap = self.taps.get(fd)
            if tap is None:
                continue
            size = recv(fd, self.read, READ_BYTES, MSG_DONTWAIT)
            if size > 0:
                self._pass(fd, tap, size)
            elif size == 0:
                self._over(fd, tap, 0)
            elif errno != EAGAIN and errno != EINTR:
                self._over(fd, tap, errno)

    cdef _pass(self, int fd, Tap tap, Py_ssize_t size):
        try:
            if tap.straight is None or not tap.straight.take_read(self.read, size):
                tap.passed(PyBytes_FromStringAndSize(<const char *>self.read, size))
        except Exception as error:
            self.remove(fd)
            tap.failed(error)

    cdef _over(self, int fd, Tap tap, int error):
        self.remove(fd)
        tap.ended(OSError(error, os.strerror(error)) if error != 0 else None)

    def close(self):
        for fd in list(self.taps):
            self.remove(fd)
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

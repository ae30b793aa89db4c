"""Tells whether a folder has got a new file.

Rule: it never misses one: what the system does not tell is taken for a change. The folder's time
would not do, since it stands still for some milliseconds.
"""

import os

from libc.errno cimport EAGAIN, EINTR, errno

cdef extern from "<sys/inotify.h>" nogil:
    int inotify_init1(int flags)
    int inotify_add_watch(int fd, const char *path, unsigned int mask)
    const int IN_NONBLOCK, IN_CLOEXEC
    const unsigned int IN_CREATE, IN_MOVED_TO

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int fd, void *data, size_t size)
    int close(int fd)

cdef enum:
    EVENTS_BYTES = 4096    # more than one event has, whose name is up to 255 bytes


cdef class FolderWatch:
    """See folderwatch.pyi."""

    def __cinit__(self, path):
        self.fd = -1
        cdef bytes name = os.fsencode(path)
        self.fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC)
        if self.fd >= 0 and inotify_add_watch(self.fd, name, IN_CREATE | IN_MOVED_TO) < 0:
            self.close()

    def __dealloc__(self):
        self.close()

    def changed(self):
        cdef unsigned char events[EVENTS_BYTES]
        cdef bint found = self.fd < 0
        cdef ssize_t size
        while self.fd >= 0:
            size = read(self.fd, events, EVENTS_BYTES)
            if size < 0 and errno == EINTR:
                continue
            if size < 0 and errno == EAGAIN:
                break
            found = True
            if size <= 0:      # nothing more will be told
                self.close()
        return found

    cpdef close(self):
        if self.fd >= 0:
            close(self.fd)
        self.fd = -1

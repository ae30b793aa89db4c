"""A thread that makes files safe from a power cut and never has the GIL.

Rule: one flush at a time, whose descriptors its caller keeps open until it has ended: the files in
their order, then the folder, up to the first that fails. The end is told through an eventfd.
"""

import os

from libc.errno cimport EINTR, errno
from libc.stdint cimport int32_t
from libc.stdlib cimport calloc, free, malloc

from spear._core.hub cimport *
from spear._core.sync cimport *

cdef extern from "<pthread.h>" nogil:
    int pthread_detach(pthread_t thread)
    int pthread_setname_np(pthread_t thread, const char *name)

cdef extern from "<unistd.h>" nogil:
    int fdatasync(int file)
    int fsync(int file)
    int getpid()

cdef enum:
    IDLE = 0
    HANDED = 1             # the thread's turn
    ENDED = 2              # its result waits to be taken


cdef class FlushThread:
    """See flushthread.pyi."""

    def __cinit__(self):
        self.native = <flush_t *>calloc(1, sizeof(flush_t))
        if self.native == NULL:
            raise MemoryError("no memory for a flush")
        self.native.refs = 1
        self.native.hub = hub_new()
        if self.native.hub == NULL:
            raise OSError("no eventfd for flushes: too many descriptors are open")

    def __dealloc__(self):
        if self.native != NULL:
            if self.owner:
                self._call_to_end()
                if self.owner == getpid():
                    pthread_detach(self.thread)
            let_go(self.native)

    @property
    def descriptor(self):
        return -1 if self.native.hub == NULL else self.native.hub.fd

    def begin(self, list files not None, int folder=-1):
        cdef flush_t *native = self.native
        cdef Py_ssize_t count = len(files), at
        cdef int *handed = NULL
        if load32(&native.closing):
            raise RuntimeError("the flush thread was closed")
        if load32(&native.state) != IDLE:
            raise RuntimeError("a flush is under way, or its end was not taken")
        handed = <int *>malloc((count + 1) * sizeof(int))
        if handed == NULL:
            raise MemoryError(f"no memory for a flush of {count} files")
        try:
            for at in range(count):
                handed[at] = files[at]
            self._start()
        except BaseException:
            free(handed)
            raise
        native.files, native.count, native.folder = handed, <int>count, folder
        store32(&native.state, HANDED)
        call(native)

    def ended(self):
        cdef flush_t *native = self.native
        if native.hub != NULL:
            hub_quiet(native.hub)
        if load32(&native.state) != ENDED:
            return None
        free(native.files)
        native.files = NULL
        error = native.error
        store32(&native.state, IDLE)
        return error

    def close(self):
        cdef pthread_t thread = self.thread
        cdef bint joins = self.owner == getpid()    # else it was forked away from, or there is none
        cdef hub_t *hub
        self._call_to_end()
        self.owner = 0
        if joins:
            with nogil:
                pthread_join(thread, NULL)
        hub, self.native.hub = self.native.hub, NULL
        if hub != NULL:
            hub_release(hub)

    cdef _start(self):
        """The thread, with the first flush."""
        cdef sigset_t before
        cdef int failed
        if self.owner:
            return
        add64(&self.native.refs, 1)
        block_signals(&before)
        failed = pthread_create(&self.thread, NULL, _run, self.native)
        restore_signals(&before)
        if failed:
            add64(&self.native.refs, -1)
            raise OSError(failed, f"no thread for flushes: {os.strerror(failed)}")
        pthread_setname_np(self.thread, "spear-kv-flush")
        self.owner = getpid()

    cdef _call_to_end(self):
        store32(&self.native.closing, 1)
        call(self.native)


cdef void call(flush_t *native) noexcept nogil:
    add32(&native.calls, 1)
    futex_wake(&native.calls, 1)


cdef void *_run(void *argument) noexcept nogil:
    cdef flush_t *native = <flush_t *>argument
    cdef int32_t heard = 0, calls
    while True:
        calls = load32(&native.calls)
        if calls == heard:
            futex_wait(&native.calls, heard, -1)
            continue
        heard = calls
        if load32(&native.state) == HANDED:
            native.error = synced(native)
            store32(&native.state, ENDED)
            hub_ring(native.hub)
        if load32(&native.closing):
            let_go(native)
            return NULL


cdef int synced(const flush_t *native) noexcept nogil:
    """0, or the errno of the first that fails."""
    cdef int at, error
    for at in range(native.count):
        while fdatasync(native.files[at]) != 0:
            error = errno
            if error != EINTR:
                return error
    while native.folder >= 0 and fsync(native.folder) != 0:
        error = errno
        if error != EINTR:
            return error
    return 0


cdef void let_go(flush_t *native) noexcept nogil:
    if add64(&native.refs, -1) != 0:
        return
    if native.hub != NULL:
        hub_release(native.hub)
    free(native.files)
    free(native)

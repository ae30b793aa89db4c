"""The floor under a call that Python answers: one native thread, an eventfd and a semaphore.

Rule: no more than has to be. The thread rings an eventfd and waits; the loop's reader reads the
eventfd, calls the handler with the two numbers, leaves what it gave and posts the semaphore. No
queue, no record of the call, no guest: one call at a time, each checked.
"""

from libc.stdint cimport int64_t, uint64_t
from posix.unistd cimport close, read, write

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass
    int pthread_create(pthread_t *thread, void *attributes, void *(*run)(void *) noexcept nogil,
                       void *argument)
    int pthread_join(pthread_t thread, void **result)

cdef extern from "<semaphore.h>" nogil:
    ctypedef struct sem_t:
        pass
    int sem_init(sem_t *semaphore, int shared, unsigned int value)
    int sem_destroy(sem_t *semaphore)
    int sem_post(sem_t *semaphore)
    int sem_wait(sem_t *semaphore)

cdef extern from "<sys/eventfd.h>" nogil:
    enum:
        EFD_CLOEXEC
        EFD_NONBLOCK
    int eventfd(unsigned int value, int flags)

cdef struct post_t:
    int fd
    sem_t answered
    int64_t left
    int64_t arguments[2]
    int64_t answer
    int64_t wrong              # answers that were not the sum


cdef void *_call_and_call(void *argument) noexcept nogil:
    cdef post_t *post = <post_t *>argument
    cdef uint64_t one = 1
    while post.left > 0:
        post.arguments[0] = post.left
        if write(post.fd, &one, 8) != 8:
            post.wrong += 1
        while sem_wait(&post.answered) != 0:
            pass               # a signal came
        post.wrong += post.answer != post.left + 1
        post.left -= 1
    return NULL


cdef class Post:
    """`count` calls of `handler(left, 1)`, which adds them; `ended()` is called with the last."""

    cdef post_t native
    cdef pthread_t thread
    cdef object handler, ended

    def __cinit__(self, handler, int64_t count, ended):
        self.handler, self.ended = handler, ended
        self.native.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self.native.fd < 0 or sem_init(&self.native.answered, 0, 0) != 0:
            raise OSError("no eventfd or semaphore")
        self.native.left, self.native.arguments[1] = count, 1

    @property
    def fd(self):
        return self.native.fd

    def start(self):
        if pthread_create(&self.thread, NULL, _call_and_call, &self.native) != 0:
            raise OSError("no thread")

    def ring(self):
        """The loop's reader."""
        cdef uint64_t rings
        if read(self.native.fd, &rings, 8) != 8:
            return
        cdef bint last = self.native.left == 1
        self.native.answer = self.handler(self.native.arguments[0], self.native.arguments[1])
        sem_post(&self.native.answered)
        if last:
            self.ended()

    def join(self):
        """Gives how many answers were wrong."""
        with nogil:
            pthread_join(self.thread, NULL)
        sem_destroy(&self.native.answered)
        close(self.native.fd)
        return self.native.wrong

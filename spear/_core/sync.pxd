"""Atomics, futex and clocks of sync.h, for native modules."""

from libc.stdint cimport int32_t, int64_t

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef struct pthread_attr_t:
        pass
    ctypedef unsigned long pthread_t
    int pthread_mutex_init(pthread_mutex_t *lock, void *attr)
    int pthread_mutex_lock(pthread_mutex_t *lock)
    int pthread_mutex_unlock(pthread_mutex_t *lock)
    int pthread_mutex_destroy(pthread_mutex_t *lock)
    int pthread_create(
        pthread_t *thread, void *attr, void *(*run)(void *) noexcept nogil, void *argument)
    int pthread_join(pthread_t thread, void **result)

cdef extern from "sync.h" nogil:
    ctypedef struct sigset_t:
        pass
    int32_t load32(const int32_t *at)
    int64_t load64(const int64_t *at)
    void store32(int32_t *at, int32_t value)
    void store64(int64_t *at, int64_t value)
    int32_t add32(int32_t *at, int32_t value)
    int64_t add64(int64_t *at, int64_t value)
    int32_t swap32(int32_t *at, int32_t value)
    bint cas32(int32_t *at, int32_t expected, int32_t value)
    void *swap_ptr(void **at, void *value)
    void *load_ptr(void **at)
    bint cas_ptr(void **at, void *expected, void *value)
    void recursive_mutex_init(pthread_mutex_t *lock)
    int64_t monotonic_ns()
    int64_t realtime_ns()
    size_t stack_left()
    void futex_wait(int32_t *word, int32_t expected, int64_t timeout_ns)
    void futex_wake(int32_t *word, int32_t count)
    void block_signals(sigset_t *before)
    void restore_signals(const sigset_t *before)

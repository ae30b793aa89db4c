/* Atomics, futex and clocks for native modules: thin names over the compiler's builtins and Linux.
 *
 * Rule: nothing here blocks except futex_wait; every time is in nanoseconds.
 */
#ifndef SPEAR_SYNC_H
#define SPEAR_SYNC_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static inline int32_t load32(const int32_t *at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
static inline int64_t load64(const int64_t *at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
static inline void store32(int32_t *at, int32_t v) { __atomic_store_n(at, v, __ATOMIC_RELEASE); }
static inline void store64(int64_t *at, int64_t v) { __atomic_store_n(at, v, __ATOMIC_RELEASE); }
static inline int32_t add32(int32_t *at, int32_t v) { return __atomic_add_fetch(at, v, __ATOMIC_SEQ_CST); }
static inline int64_t add64(int64_t *at, int64_t v) { return __atomic_add_fetch(at, v, __ATOMIC_SEQ_CST); }
static inline int32_t swap32(int32_t *at, int32_t v) { return __atomic_exchange_n(at, v, __ATOMIC_SEQ_CST); }
static inline void *swap_ptr(void **at, void *v) { return __atomic_exchange_n(at, v, __ATOMIC_SEQ_CST); }
static inline void *load_ptr(void **at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
static inline bool cas32(int32_t *at, int32_t from, int32_t to)
{
    return __atomic_compare_exchange_n(at, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
static inline bool cas_ptr(void **at, void *from, void *to)
{
    return __atomic_compare_exchange_n(at, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static inline int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
static inline int64_t monotonic_ns(void) { return clock_ns(CLOCK_MONOTONIC); }
static inline int64_t realtime_ns(void) { return clock_ns(CLOCK_REALTIME); }

static inline void recursive_mutex_init(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

/* Waits while *word == expected, at most timeout_ns (negative: no limit). Spurious returns happen. */
static inline void futex_wait(int32_t *word, int32_t expected, int64_t timeout_ns)
{
    struct timespec limit = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_ns < 0 ? NULL : &limit, NULL, 0);
}
static inline void futex_wake(int32_t *word, int32_t count)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

/* Bytes left on this thread's own stack; 0 where the system does not say. */
static inline size_t stack_left(void)
{
    static __thread char *low;
    char here;
    if (low == NULL) {
        pthread_attr_t attributes;
        void *base;
        size_t size;
        if (pthread_getattr_np(pthread_self(), &attributes) != 0)
            return 0;
        if (pthread_attr_getstack(&attributes, &base, &size) == 0)
            low = (char *)base;
        pthread_attr_destroy(&attributes);
        if (low == NULL)
            return 0;
    }
    return &here > low ? (size_t)(&here - low) : 0;
}

/* Native threads take no signals, those belong to the interpreter's main thread; but for the ones
 * that a thread's own fault raises, which is how the engine notices a guest's trap. */
static inline void block_signals(sigset_t *before)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT};
    sigset_t blocked;
    sigfillset(&blocked);
    for (size_t at = 0; at < sizeof(own) / sizeof(own[0]); at++)
        sigdelset(&blocked, own[at]);
    pthread_sigmask(SIG_BLOCK, &blocked, before);
}
static inline void restore_signals(const sigset_t *before)
{
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

#endif

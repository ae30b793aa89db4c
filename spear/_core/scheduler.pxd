"""The native half of the executor: workers, the timekeeper, and the states of guests."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from spear._core.engineapi cimport *
from spear._core.guest cimport guest_t
from spear._core.queues cimport due_queue, run_queue
from spear._core.sync cimport pthread_mutex_t, pthread_t

cdef enum:
    WORKERS_MAX = 64
    ENGINES_MAX = 8
    PRIORITY_NORMAL = 128


cdef struct worker_t:
    executor_t *executor
    pthread_t thread
    run_queue *queue
    int32_t index
    int32_t busy
    uint64_t polls
    uint64_t stolen
    pthread_mutex_t lock           # of its list of live guests
    guest_t *first
    int64_t started
    int64_t ended
    char apart[128]                # two workers never write one cache line


cdef struct executor_t:
    int64_t refs                   # the face, and each live guest
    int generation                 # of the process it was made in
    int32_t worker_count
    int32_t guests_max
    int64_t tick_ns
    worker_t workers[WORKERS_MAX]
    due_queue *due
    pthread_t timekeeper
    int32_t timekeeper_running

    int32_t threads                # of workers, running
    int32_t closing                # takes no more guests
    int32_t pending                # futex: guests, lanes and calls that close waits for
    int32_t stopping               # threads end
    int32_t closed                 # futex: 1 once close is done
    int32_t work                   # futex: counts pushes
    int32_t idle                   # workers asleep on it
    int32_t clock_word             # futex of the timekeeper
    int32_t ticking                # whether the timekeeper advances epochs now
    int64_t clock_until_ns         # until when it sleeps
    int32_t inline_runs            # slices on callers' threads now
    int32_t next_worker

    wasm_engine_t *engines[ENGINES_MAX]
    int32_t engine_count

    pthread_mutex_t lock           # of starting threads and taking in engines
    int32_t stale                  # queue entries whose guest has ended
    int32_t live                   # guests that take room, at most guests_max
    int64_t woken
    run_queue *starving            # lanes that wait for room
    int32_t starved                # how many those are


cdef struct batch_t:               # many runs of one module, started without Python between them
    int64_t refs                   # the caller, and each lane
    executor_t *executor
    guest_t *model                 # what every record is filled from
    int64_t count
    int64_t next                   # runs begun
    int64_t ended                  # runs ended
    int32_t events                 # futex: counts ends that a waiter may want to see
    int32_t kill                   # Cause asked for all of them; 0: none
    uint8_t *causes                # one of each run
    int32_t *exit_codes
    int64_t *durations_ns


cdef executor_t *executor_new(int workers, int guests_max, int64_t tick_ns) noexcept nogil
cdef void executor_retain(executor_t *executor) noexcept nogil
cdef void executor_release(executor_t *executor) noexcept nogil

# Takes a filled record over. False: no room, or closing. With `run_here` its first slice runs on
# this thread.
cdef bint executor_start(executor_t *executor, guest_t *guest, bint run_here) noexcept nogil
# Ends it wherever it is; False if its end was settled already.
cdef bint executor_doom(executor_t *executor, guest_t *guest, int32_t cause) noexcept nogil
# The reply is in: the guest may go on. Any thread.
cdef void executor_wake(executor_t *executor, guest_t *guest) noexcept nogil
# No more guests; waits until all ended, dooms the rest after `grace_ns`, ends the threads.
cdef void executor_close(executor_t *executor, int64_t grace_ns) noexcept nogil
cdef bint executor_knows(executor_t *executor, wasm_engine_t *engine) noexcept nogil

# Runs `batch.count` guests like its model, one lane a worker. The caller keeps what the model
# borrows until `batch.ended == batch.count`.
cdef batch_t *batch_new(executor_t *executor, guest_t *model, int64_t count) noexcept nogil
cdef bint batch_start(batch_t *batch) noexcept nogil
cdef void batch_doom(batch_t *batch, int32_t cause) noexcept nogil
cdef void batch_release(batch_t *batch) noexcept nogil

# Before and after a guest's code runs on the caller's own thread, outside the queues. False: the
# system gives no thread to watch over its deadline, or the executor is closing.
cdef bint executor_enter(executor_t *executor) noexcept nogil
cdef void executor_leave(executor_t *executor) noexcept nogil

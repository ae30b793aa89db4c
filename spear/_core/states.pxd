"""What an executor is made of, and the states of its guests; see states.pyx."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from spear._core.engineapi cimport *
from spear._core.guest cimport CAUSES, guest_t
from spear._core.queues cimport due_queue, run_queue
from spear._core.sync cimport pthread_mutex_t, pthread_t
from spear._core.world cimport world_t

cdef enum:
    WORKERS_MAX = 64
    ENGINES_MAX = 8
    PRIORITY_NORMAL = 128
    LANE = 1                       # lowest bit of a queue entry that is a batch's lane


cdef struct tally_t:               # of ended guests; sums
    int64_t causes[CAUSES]
    int64_t slices                 # that were used up
    int64_t parks
    int64_t cpu_ns


cdef struct worker_t:
    executor_t *executor
    pthread_t thread
    run_queue *queue
    int32_t index
    int32_t busy
    uint64_t pops
    uint32_t turn                  # level that the next turn of all levels begins at
    uint64_t polls
    uint64_t stolen
    pthread_mutex_t lock           # of its list of live guests, and of what follows
    guest_t *first
    int64_t started
    int64_t ended
    tally_t tally
    char apart[128]                # two workers never write one cache line


cdef struct batch_head_t:          # how every batch_t begins
    executor_t *executor


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
    int64_t clock_turns            # of the timekeeper, in which something was due
    run_queue *starving            # lanes that wait for room
    int32_t starved                # how many those are

    world_t *world                 # NULL: real time and threads; see world.pxd

    # What the modules above are asked for, set by executor_new.
    bint (*start_workers)(executor_t *executor) noexcept nogil
    void (*drop_lane)(uint64_t entry) noexcept nogil
    void (*cancel_lane)(uint64_t entry) noexcept nogil
    void (*recall_lane)(executor_t *executor) noexcept nogil
    void (*settle_run)(guest_t *guest) noexcept nogil
    void (*leave_lane)(guest_t *guest) noexcept nogil


cdef void executor_retain(executor_t *executor) noexcept nogil
cdef void executor_release(executor_t *executor) noexcept nogil

# Ends the guest wherever it is; False if its end was settled already.
cdef bint executor_doom(executor_t *executor, guest_t *guest, int32_t cause) noexcept nogil
# The reply is in: the guest may go on. Any thread.
cdef void executor_wake(executor_t *executor, guest_t *guest) noexcept nogil

# What close waits for: one more; refused once it closes.
cdef bint begin_pending(executor_t *executor) noexcept nogil
cdef void end_pending(executor_t *executor) noexcept nogil
# One more live guest, if there is room.
cdef bint take_room(executor_t *executor) noexcept nogil
cdef void leave_room(executor_t *executor) noexcept nogil

# Into its shelf's list of live guests: from then on others may end it.
cdef void enlist(executor_t *executor, guest_t *guest) noexcept nogil
# A live guest whose end nobody asked for yet, with a reference; of `batch` unless NULL.
cdef guest_t *any_live(executor_t *executor, const void *batch) noexcept nogil

# From RUNNING into its queue, where its deadline is watched, too.
cdef void requeue(executor_t *executor, guest_t *guest) noexcept nogil
# Into the queue of the worker that ran it last; the caller made it QUEUED.
cdef void push_guest(executor_t *executor, guest_t *guest) noexcept nogil
cdef void announce_work(executor_t *executor) noexcept nogil
# Between the two no worker is woken by this thread, but for all at the end: one that is woken for
# the first guest takes the core from who wakes the others, and sleeps again, for each of them.
cdef void wakes_hold() noexcept nogil
cdef void wakes_release() noexcept nogil
# The caller is done with what it popped.
cdef void drop_entry(uint64_t entry) noexcept nogil
# Polls a guest until it ends, parks or used its slice; the caller made it RUNNING, at `now`.
cdef void run_slice(executor_t *executor, guest_t *guest, int64_t now) noexcept nogil
# Serves what is due at `now`.
cdef void serve_due(executor_t *executor, int64_t now) noexcept nogil
# Advances the epoch of every engine: running guests look at their deadline and doom.
cdef void tick(executor_t *executor) noexcept nogil
cdef void wake_timekeeper(executor_t *executor) noexcept nogil

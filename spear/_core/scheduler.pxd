"""The life of an executor and the start of guests; see scheduler.pyx."""

from libc.stdint cimport int64_t

from spear._core.batches cimport batch_t
from spear._core.engineapi cimport *
from spear._core.guest cimport guest_t
from spear._core.states cimport executor_t, worker_t
from spear._core.world cimport world_t

# With a `world` guests live in that, stepped by who waits for them, without threads; it is the
# executor's from then on.
cdef executor_t *executor_new(
    int workers, int guests_max, int64_t tick_ns, world_t *world) noexcept nogil

# Takes a filled record over. False: no room, or closing. With `run_here` its first slice runs on
# this thread.
cdef bint executor_start(executor_t *executor, guest_t *guest, bint run_here) noexcept nogil
# No more guests; waits until all ended, dooms the rest after `grace_ns`, ends the threads.
cdef void executor_close(executor_t *executor, int64_t grace_ns) noexcept nogil
cdef void executor_doom_all(executor_t *executor) noexcept nogil
cdef bint executor_knows(executor_t *executor, wasm_engine_t *engine) noexcept nogil
# Starts the timekeeper where it is missing; False if the system gives no thread.
cdef bint executor_watch(executor_t *executor) noexcept nogil

# Around the stepping of a world: while guests run there, epochs advance.
cdef void watch_world(executor_t *executor, bint begins) noexcept nogil
# The next queue entry for this worker; 0 if there is none.
cdef uint64_t next_entry(worker_t *worker) noexcept nogil

# Before and after a guest's code runs on the caller's own thread, outside the queues. False: the
# system gives no thread to watch over its deadline, or the executor is closing.
cdef bint executor_enter(executor_t *executor) noexcept nogil
cdef void executor_leave(executor_t *executor) noexcept nogil

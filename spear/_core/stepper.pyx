"""How a deterministic world goes on: one guest at a time, in an order that only the inputs decide.

Rule: whoever waits for a guest steps the world, on that thread and without the GIL; between waits
it stands still, so what Python does in between happens at a fixed moment of the world's time.
"""

from libc.stdint cimport int64_t, uint64_t

from spear._core.guest cimport *
from spear._core.queues cimport due_queue_next
from spear._core.scheduler cimport executor_doom_all, next_entry
from spear._core.states cimport *
from spear._core.sync cimport add32, cas32, monotonic_ns, pthread_mutex_lock, pthread_mutex_unlock
from spear._core.world cimport *


cdef bint world_step(executor_t *executor) noexcept nogil:
    pthread_mutex_lock(&executor.world.lock)
    cdef uint64_t entry = _next(executor)
    cdef bint stepped = entry != 0
    if stepped:
        _run(executor, entry)
    else:
        stepped = _pass_time(executor)
    if executor.world.diverged != 0:
        executor_doom_all(executor)
    pthread_mutex_unlock(&executor.world.lock)
    return stepped


cdef uint64_t _next(executor_t *executor) noexcept nogil:
    cdef uint64_t entry = <uint64_t>executor.world.current
    executor.world.current = NULL
    return entry if entry != 0 else next_entry(&executor.workers[0])


cdef void _run(executor_t *executor, uint64_t entry) noexcept nogil:
    cdef guest_t *guest = <guest_t *>entry     # a world has no lanes
    if cas32(&guest.state, QUEUED, RUNNING):
        run_slice(executor, guest, monotonic_ns())
    else:
        add32(&executor.stale, -1)             # it ended while it stood there
    drop_entry(entry)


cdef bint _pass_time(executor_t *executor) noexcept nogil:
    """To the next thing that is due, since nobody can run; False if nothing is."""
    cdef int64_t due_ns
    if not due_queue_next(executor.due, &due_ns):
        return False
    if due_ns > executor.world.now_ns:
        executor.world.now_ns = due_ns
    world_note(executor.world, STEP_CLOCK, 0, 0, 0)
    serve_due(executor, executor.world.now_ns)
    return True

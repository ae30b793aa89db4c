"""How a deterministic world goes on: one guest at a time, in an order that only the inputs decide.

Rule: whoever waits for a guest steps the world, on that thread and without the GIL; between waits
it stands still, so what Python does in between happens at a fixed moment of the world's time.
"""

from libc.stdint cimport int64_t, uint64_t

from spear._core.guest cimport *
from spear._core.queues cimport due_queue_next
from spear._core.scheduler cimport executor_doom_all, next_entry
from spear._core.states cimport *
from spear._core.sync cimport cas32
from spear._core.world cimport *


cdef bint world_step(executor_t *executor) noexcept nogil:
    cdef uint64_t entry = next_entry(&executor.workers[0])
    cdef guest_t *guest = NULL
    if entry != 0:
        guest = <guest_t *>entry       # a world has no lanes
        if cas32(&guest.state, QUEUED, RUNNING):
            run_slice(executor, guest)
        drop_entry(entry)
    elif not _pass_time(executor):
        return False
    if executor.world.diverged != 0:
        executor_doom_all(executor)
    return True


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

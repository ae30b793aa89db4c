"""The run queue and the due queue as native code uses them: by their C functions, without the GIL.

Rule: the same steps as `priority_queue.cpp`.
"""

from libc.stdint cimport int64_t, uint64_t

from spear._core.queues cimport (
    DueQueue, RunQueue, due_queue_cancel, due_queue_push, run_queue_pop, run_queue_push,
)


def fill(RunQueue queue not None, uint64_t elements):
    cdef uint64_t handle
    for handle in range(elements):
        run_queue_push(queue.native, &handle, 1, handle * 37 & 255)


def pop_and_push(RunQueue queue not None, uint64_t count, size_t batch):
    """Pop and push `count` handles, `batch` at a time (at most 256)."""
    cdef uint64_t handles[256]
    cdef uint64_t step
    cdef size_t got
    if not 1 <= batch <= 256:
        raise ValueError(f"batch is {batch}, accepted are 1 to 256")
    with nogil:
        for step in range(count // batch):
            got = run_queue_pop(queue.native, handles, batch)
            run_queue_push(queue.native, handles, got, step * 37 & 255)


def arm_and_cancel(DueQueue queue not None, uint64_t first, uint64_t count, uint64_t live):
    """Arm handle after handle, each cancelled when `live` later ones were armed."""
    cdef uint64_t handle
    cdef int64_t deadline_ns
    cdef size_t fault
    with nogil:
        for handle in range(first, first + count):
            due_queue_cancel(queue.native, handle - live)
            deadline_ns = <int64_t>(handle * 1000 + (handle * 7919 & 1023))
            due_queue_push(queue.native, &handle, &deadline_ns, 1, &fault)

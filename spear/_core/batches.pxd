"""The contract of batches; see batches.pyx."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

from spear._core.guest cimport guest_t
from spear._core.states cimport batch_head_t, executor_t, worker_t


cdef struct batch_t:               # many runs of one module, started without Python between them
    batch_head_t head
    int64_t refs                   # the caller, and each lane
    guest_t *model                 # what every record is filled from
    int64_t count
    int64_t next                   # runs begun
    int64_t ended                  # runs ended
    int32_t events                 # futex: counts ends that a waiter may want to see
    int32_t kill                   # Cause asked for all of them; 0: none
    uint8_t *causes                # one of each run
    int32_t *exit_codes
    int64_t *durations_ns


# Runs `batch.count` guests like its model, one lane a worker. The caller keeps what the model
# borrows until `batch.ended == batch.count`.
cdef batch_t *batch_new(executor_t *executor, guest_t *model, int64_t count) noexcept nogil
# The timekeeper must run. False: the executor is closing.
cdef bint batch_start(batch_t *batch) noexcept nogil
cdef void batch_doom(batch_t *batch, int32_t cause) noexcept nogil
cdef void batch_release(batch_t *batch) noexcept nogil

# For the scheduler: what a worker does with a lane, and what the states ask for.
cdef void batch_run_lane(worker_t *worker, batch_t *batch) noexcept nogil
cdef void batch_recall(executor_t *executor) noexcept nogil
cdef void batch_settle(guest_t *guest) noexcept nogil
cdef void batch_leave_lane(guest_t *guest) noexcept nogil
cdef void batch_drop_lane(uint64_t entry) noexcept nogil
cdef void batch_cancel_lane(uint64_t entry) noexcept nogil


cdef class Batch:
    cdef batch_t *native
    cdef readonly int64_t duration_ns

    cdef bint run_all(self) except -1
    cdef void await_events(self) noexcept nogil


cdef Batch new_batch(executor_t *executor, guest_t *model, int64_t count)

"""Batches: many runs of one module, begun natively one after another.

Rule: a batch is one lane a worker; a lane begins runs for about a slice, then lets other work have
the worker. A lane that finds no room waits in `starving` until some guest ends. Every run that was
asked for is counted as ended exactly once, also one that never began. A run that ends in its first
slice shares the lane's record, room and references; one that goes on beyond it takes its own.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free

from spear._core.guest cimport *
from spear._core.outcome cimport cause_name
from spear._core.queues cimport *
from spear._core.states cimport *
from spear._core.sync cimport *

cdef enum:
    WAIT_SLICE_NS = 50000000   # how long a wait may go without looking for signals

cdef struct lane_t:            # a lane's turn on a worker
    batch_t *batch
    worker_t *worker
    guest_t *record            # of its last run, retained, to be used again
    int64_t ended              # runs that ended in this turn
    int64_t now_ns             # when the last one began
    bint room                  # taken for one more live guest


cdef batch_t *batch_new(executor_t *executor, guest_t *model, int64_t count) noexcept nogil:
    cdef batch_t *batch = <batch_t *>calloc(1, sizeof(batch_t))
    if batch == NULL:
        return NULL
    batch.head.executor, batch.refs, batch.model, batch.count = executor, 1, model, count
    executor_retain(executor)
    guest_retain(model)
    batch.causes = <uint8_t *>calloc(count, 1)
    batch.exit_codes = <int32_t *>calloc(count, sizeof(int32_t))
    batch.durations_ns = <int64_t *>calloc(count, sizeof(int64_t))
    if batch.causes == NULL or batch.exit_codes == NULL or batch.durations_ns == NULL:
        batch_release(batch)
        return NULL
    return batch


cdef void batch_release(batch_t *batch) noexcept nogil:
    if add64(&batch.refs, -1) != 0:
        return
    free(batch.causes)
    free(batch.exit_codes)
    free(batch.durations_ns)
    guest_release(batch.model)
    executor_release(batch.head.executor)
    free(batch)


cdef void _push_lane(batch_t *batch, int home) noexcept nogil:
    """A lane begins runs one after another on whichever worker takes it."""
    cdef executor_t *executor = batch.head.executor
    cdef uint64_t entry = <uint64_t>batch + LANE
    add32(&executor.pending, 1)        # a lane, until its entry is dropped
    add64(&batch.refs, 1)
    if executor.start_workers(executor) and run_queue_push(
            executor.workers[home].queue, &entry, 1, PRIORITY_NORMAL) == PUSHED:
        announce_work(executor)
    else:
        _cancel_rest(batch)
        batch_drop_lane(entry)


cdef bint batch_start(batch_t *batch) noexcept nogil:
    cdef int index
    if not begin_pending(batch.head.executor):
        return False
    for index in range(batch.head.executor.worker_count):
        _push_lane(batch, index)
    end_pending(batch.head.executor)
    return True


cdef void batch_doom(batch_t *batch, int32_t cause) noexcept nogil:
    """Ends the runs that are under way; the others never begin."""
    cas32(&batch.kill, CAUSE_NONE, cause)
    _cancel_rest(batch)            # also those of a lane that waits for room
    cdef guest_t *guest = any_live(batch.head.executor, batch)
    while guest != NULL:
        executor_doom(batch.head.executor, guest, cause)
        guest_release(guest)
        guest = any_live(batch.head.executor, batch)


cdef guest_t *_record_of(lane_t *lane) noexcept nogil:
    """A record like the model: the one of the lane's last run where nobody else has it still."""
    cdef guest_t *record = lane.record
    lane.record = NULL
    if record != NULL and guest_renew(record, lane.batch.model):
        return record
    if record != NULL:
        guest_release(record)
    return guest_like(lane.batch.model)


cdef guest_t *_next_of(lane_t *lane) noexcept nogil:
    """The record of the next run; NULL if all have begun. The lane has taken room."""
    cdef batch_t *batch = lane.batch
    cdef int64_t number = add64(&batch.next, 1) - 1
    cdef guest_t *guest
    if number >= batch.count:
        return NULL
    guest = _record_of(lane)
    if guest == NULL:
        batch.causes[number] = CAUSE_MEMORY
        lane.ended += 1
        return NULL
    guest.refs = 2                         # as long as it lives; the lane's
    lane.record = guest
    guest.executor, guest.home = batch.head.executor, lane.worker.index
    guest.batch, guest.batch_number = batch, number
    guest.state = RUNNING
    return guest


cdef bint _begin_next(lane_t *lane) noexcept nogil:
    """Begins one run and gives it its first slice; False if the lane has nothing to begin."""
    cdef batch_t *batch = lane.batch
    cdef executor_t *executor = batch.head.executor
    cdef guest_t *guest
    if load32(&executor.closing) != 0 or load32(&batch.kill) != 0:
        _cancel_rest(batch)
    if load64(&batch.next) >= batch.count:
        if load32(&executor.starved) > 0:
            batch_recall(executor)              # the batch's other lanes end likewise
        return False
    if not lane.room and not take_room(executor):
        _starve(executor, batch)
        return False
    lane.room = True
    guest = _next_of(lane)
    if guest == NULL:
        return load64(&batch.next) < batch.count
    guest.began_ns = lane.now_ns = monotonic_ns()
    guest.deadline_ns = guest.began_ns + batch.model.deadline_ns
    enlist(executor, guest)
    if load32(&batch.kill) != 0:           # asked for before it stood in the list
        guest_doom(guest, load32(&batch.kill))
    run_slice(executor, guest, guest.began_ns)
    if guest.counted:
        lane.room = False                  # the guest took it along
    else:
        lane.ended += 1
    return True


cdef void batch_run_lane(worker_t *worker, batch_t *batch) noexcept nogil:
    """Begins runs for about a slice, then lets other work have the worker."""
    cdef lane_t lane
    cdef int64_t until_ns = monotonic_ns() + batch.head.executor.tick_ns // 2
    cdef bint going = True
    lane.batch, lane.worker, lane.record = batch, worker, NULL
    lane.ended, lane.room, lane.now_ns = 0, False, 0
    while going and lane.now_ns < until_ns:
        going = _begin_next(&lane)
    if lane.record != NULL:
        guest_release(lane.record)
    if lane.room:
        leave_room(batch.head.executor)
    if lane.ended > 0:
        _count_ends(batch, lane.ended)
    if going:
        _push_lane(batch, worker.index)


cdef void batch_leave_lane(guest_t *guest) noexcept nogil:
    """It parks or its slice is over: from here on it holds what the lane held for it."""
    cdef batch_t *batch = <batch_t *>guest.batch
    guest.counted = True
    add32(&batch.head.executor.pending, 1)
    executor_retain(batch.head.executor)
    add64(&batch.refs, 1)


cdef void _cancel_rest(batch_t *batch) noexcept nogil:
    """What has not begun never will."""
    cdef int64_t number = add64(&batch.next, 1) - 1
    while number < batch.count:
        batch.causes[number] = CAUSE_CANCELLED
        _count_ends(batch, 1)
        number = add64(&batch.next, 1) - 1


cdef void _starve(executor_t *executor, batch_t *batch) noexcept nogil:
    """The lane waits until some guest ends; one may have ended just now."""
    cdef uint64_t entry = <uint64_t>batch + LANE
    add64(&batch.refs, 1)
    add32(&executor.pending, 1)
    if run_queue_push(executor.starving, &entry, 1, PRIORITY_NORMAL) != PUSHED:
        _cancel_rest(batch)
        batch_drop_lane(entry)
        return
    add32(&executor.starved, 1)
    if load32(&executor.live) < executor.guests_max:
        batch_recall(executor)


cdef void batch_recall(executor_t *executor) noexcept nogil:
    """There is room again: one lane that waits for it goes on."""
    cdef uint64_t entry
    if run_queue_pop(executor.starving, &entry, 1) == 1:
        add32(&executor.starved, -1)
        _push_lane(<batch_t *>(entry - LANE), 0)
        batch_drop_lane(entry)


cdef void _count_ends(batch_t *batch, int64_t count) noexcept nogil:
    if add64(&batch.ended, count) == batch.count:
        add32(&batch.events, 1)
        futex_wake(&batch.events, 0x7FFFFFFF)


cdef void batch_settle(guest_t *guest) noexcept nogil:
    """One that ended in its lane is counted there."""
    cdef batch_t *batch = <batch_t *>guest.batch
    batch.causes[guest.batch_number] = <uint8_t>guest.cause
    batch.exit_codes[guest.batch_number] = guest.exit_code
    batch.durations_ns[guest.batch_number] = guest.ended_ns - guest.began_ns
    if guest.counted:
        _count_ends(batch, 1)
        batch_release(batch)


# ---- what the states below ask for

cdef void batch_drop_lane(uint64_t entry) noexcept nogil:
    cdef batch_t *batch = <batch_t *>(entry - LANE)
    cdef executor_t *executor = batch.head.executor
    executor_retain(executor)
    batch_release(batch)
    end_pending(executor)
    executor_release(executor)


cdef void batch_cancel_lane(uint64_t entry) noexcept nogil:
    _cancel_rest(<batch_t *>(entry - LANE))


# ---- the Python face

cdef bint _making = False             # true while this module makes a handle


cdef Batch new_batch(executor_t *executor, guest_t *model, int64_t count):
    global _making
    cdef Batch batch
    _making = True
    try:
        batch = Batch.__new__(Batch)
    finally:
        _making = False
    batch.native = batch_new(executor, model, count)
    if batch.native == NULL:
        raise MemoryError(f"no memory for the results of {count} runs")
    return batch


cdef class Batch:
    """What became of `Executor.run_many`: counts, and each run's cause, exit code and time."""

    def __cinit__(self):
        if not _making:
            raise TypeError("Batch objects are made by Executor.run_many")

    def __dealloc__(self):
        if self.native != NULL:
            batch_release(self.native)

    cdef bint run_all(self) except -1:
        """Waits until all have ended; a signal's exception ends them first. False: closing."""
        cdef int64_t began_ns = monotonic_ns()
        if not batch_start(self.native):
            return False
        try:
            while load64(&self.native.ended) < self.native.count:
                with nogil:
                    self.await_events()
                PyErr_CheckSignals()
        except BaseException:
            with nogil:
                batch_doom(self.native, CAUSE_CANCELLED)
                while load64(&self.native.ended) < self.native.count:
                    self.await_events()
            raise
        self.duration_ns = monotonic_ns() - began_ns
        return True

    cdef void await_events(self) noexcept nogil:
        cdef int32_t seen = load32(&self.native.events)
        if load64(&self.native.ended) < self.native.count:
            futex_wait(&self.native.events, seen, WAIT_SLICE_NS)

    def __len__(self):
        return self.native.count

    @property
    def counts(self):
        """How many runs ended by each cause: {"exit": 998, "trap": 2}."""
        found = {}
        cdef int64_t number
        for number in range(self.native.count):
            cause = cause_name(self.native.causes[number])
            found[cause] = found.get(cause, 0) + 1
        return found

    @property
    def completed(self):
        """How many exited with code 0."""
        cdef int64_t number, completed = 0
        for number in range(self.native.count):
            completed += (self.native.causes[number] == CAUSE_EXIT
                          and self.native.exit_codes[number] == 0)
        return completed

    @property
    def failed(self):
        """How many did not complete."""
        return self.native.count - self.completed

    @property
    def exit_codes(self):
        """Each run's exit code; None where it did not exit by itself."""
        return [
            self.native.exit_codes[number] if self.native.causes[number] == CAUSE_EXIT else None
            for number in range(self.native.count)
        ]

    @property
    def durations_ns(self):
        """Each run's time from its start to its end."""
        return [self.native.durations_ns[number] for number in range(self.native.count)]

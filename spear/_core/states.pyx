"""The states of guests, and the queues and lists they stand in.

Rule: no thread here ever takes the GIL. A guest's state is one word, changed by compare-and-swap
only; whoever moves it to RUNNING owns the record until the next change. A wake-up that comes while
it runs makes it NOTIFIED, so that it cannot park past it. A guest that ends while it stands in a
run queue leaves its entry behind, which the popping worker drops. An entry of a queue is a guest
or, with its lowest bit set, a lane of a batch (batches.pyx).
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint64_t
from libc.stdlib cimport free, malloc

from spear._core cimport engineapi
from spear._core.engineapi cimport *
from spear._core.execution cimport execution_end, execution_poll
from spear._core.guest cimport *
from spear._core.queues cimport *
from spear._core.sync cimport *
from spear._core.world cimport *

wasmtime_bind(engineapi.functions())

cdef extern from *:
    """
    static __thread struct { int depth; void *executor; int count; } held;
    """
    ctypedef struct held_t:
        int depth
        void *executor         # the first that got work, retained; others' workers wake at once
        int count              # of what it got
    held_t held                # the thread's own


cdef enum:
    DUE_BATCH = 64
    STALE_SLACK = 256          # entries of ended guests in the queues, beyond guests_max


# ---- life of an executor

cdef void executor_retain(executor_t *executor) noexcept nogil:
    add64(&executor.refs, 1)


cdef void executor_release(executor_t *executor) noexcept nogil:
    cdef int index
    cdef uint64_t handle
    if add64(&executor.refs, -1) != 0:
        return
    for index in range(executor.worker_count):
        if executor.workers[index].queue != NULL:
            while run_queue_pop(executor.workers[index].queue, &handle, 1) == 1:
                drop_entry(handle)
            run_queue_free(executor.workers[index].queue)
        pthread_mutex_destroy(&executor.workers[index].lock)
    if executor.starving != NULL:
        run_queue_free(executor.starving)
    if executor.due != NULL:
        while due_queue_pop(executor.due, INT64_MAX, &handle, 1) == 1:
            guest_release(<guest_t *>handle)
        due_queue_free(executor.due)
    pthread_mutex_destroy(&executor.lock)
    if executor.world != NULL and executor.world.current != NULL:
        drop_entry(<uint64_t>executor.world.current)
    world_free(executor.world)
    free(executor)


# ---- what close waits for

cdef bint begin_pending(executor_t *executor) noexcept nogil:
    add32(&executor.pending, 1)
    if load32(&executor.closing) == 0:
        return True
    end_pending(executor)
    return False


cdef void end_pending(executor_t *executor) noexcept nogil:
    if add32(&executor.pending, -1) == 0 and load32(&executor.closing) != 0:
        futex_wake(&executor.pending, 0x7FFFFFFF)


# ---- the list of live guests

cdef void enlist(executor_t *executor, guest_t *guest) noexcept nogil:
    """Each worker's guests stand in a list of their own, so that starts do not meet in one lock."""
    cdef worker_t *shelf = &executor.workers[guest.home]
    guest.shelf = guest.home
    pthread_mutex_lock(&shelf.lock)
    guest.following = shelf.first
    if shelf.first != NULL:
        shelf.first.previous = guest
    shelf.first = guest
    shelf.started += 1
    pthread_mutex_unlock(&shelf.lock)


cdef void _delist(executor_t *executor, guest_t *guest) noexcept nogil:
    cdef worker_t *shelf = &executor.workers[guest.shelf]
    pthread_mutex_lock(&shelf.lock)
    if guest.previous != NULL:
        guest.previous.following = guest.following
    else:
        shelf.first = guest.following
    if guest.following != NULL:
        guest.following.previous = guest.previous
    shelf.ended += 1
    shelf.tally.causes[guest.cause] += 1
    shelf.tally.slices += guest.slices
    shelf.tally.parks += guest.parks
    shelf.tally.cpu_ns += guest.cpu_ns
    pthread_mutex_unlock(&shelf.lock)


cdef guest_t *any_live(executor_t *executor, const void *batch) noexcept nogil:
    cdef guest_t *guest = NULL
    cdef worker_t *shelf
    cdef int index
    for index in range(executor.worker_count):
        shelf = &executor.workers[index]
        pthread_mutex_lock(&shelf.lock)
        guest = shelf.first
        while guest != NULL and (
                load32(&guest.kill) != 0 or (batch != NULL and guest.batch != batch)):
            guest = guest.following
        if guest != NULL:
            guest_retain(guest)
        pthread_mutex_unlock(&shelf.lock)
        if guest != NULL:
            break
    return guest


cdef bint take_room(executor_t *executor) noexcept nogil:
    cdef int32_t live = load32(&executor.live)
    while live < executor.guests_max:
        if cas32(&executor.live, live, live + 1):
            return True
        live = load32(&executor.live)
    return False


cdef void leave_room(executor_t *executor) noexcept nogil:
    add32(&executor.live, -1)
    if load32(&executor.starved) > 0:
        executor.recall_lane(executor)


# ---- queues

cdef void drop_entry(uint64_t entry) noexcept nogil:
    if entry & LANE:
        (<batch_head_t *>(entry - LANE)).executor.drop_lane(entry)
    else:
        guest_release(<guest_t *>entry)


cdef void announce_work(executor_t *executor) noexcept nogil:
    add32(&executor.work, 1)
    if held.depth > 0 and (held.executor == NULL or held.executor == executor):
        if held.executor == NULL:
            executor_retain(executor)
            held.executor = executor
        held.count += 1
    elif load32(&executor.idle) != 0:
        futex_wake(&executor.work, 1)


cdef void wakes_hold() noexcept nogil:
    held.depth += 1


cdef void wakes_release() noexcept nogil:
    cdef executor_t *executor = <executor_t *>held.executor
    cdef int32_t count = held.count
    held.depth -= 1
    if held.depth > 0 or executor == NULL:
        return
    held.executor, held.count = NULL, 0
    if load32(&executor.idle) != 0:
        futex_wake(&executor.work, count)
    executor_release(executor)


cdef void push_guest(executor_t *executor, guest_t *guest) noexcept nogil:
    cdef uint64_t handle = <uint64_t>guest
    guest_retain(guest)
    if not executor.start_workers(executor) or run_queue_push(
            executor.workers[guest.home].queue, &handle, 1, guest.priority) != PUSHED:
        guest_doom(guest, CAUSE_MEMORY)
        if _claim_and_finish(executor, guest):
            add32(&executor.stale, -1)     # there is no entry
        guest_release(guest)
        return
    announce_work(executor)


cdef void _sweep(executor_t *executor) noexcept nogil:
    """Drops the entries of guests that ended in their queue, before they fill it."""
    cdef int index
    for index in range(executor.worker_count):
        _sweep_queue(executor, executor.workers[index].queue)
    announce_work(executor)


cdef void _sweep_queue(executor_t *executor, run_queue *queue) noexcept nogil:
    """Takes all that is there now and puts back what still counts, in the same order."""
    cdef size_t index, count = run_queue_size(queue)
    cdef uint64_t *entries = <uint64_t *>malloc((count + 1) * sizeof(uint64_t))
    if entries == NULL:
        return                     # it is done at the next cancel
    count = run_queue_pop(queue, entries, count)
    for index in range(count):
        _put_back(executor, queue, entries[index])
    free(entries)


cdef void _put_back(executor_t *executor, run_queue *queue, uint64_t entry) noexcept nogil:
    cdef uint32_t priority = PRIORITY_NORMAL if entry & LANE else (<guest_t *>entry).priority
    if not entry & LANE and load32(&(<guest_t *>entry).state) != QUEUED:
        add32(&executor.stale, -1)
        drop_entry(entry)
    elif run_queue_push(queue, &entry, 1, priority) != PUSHED:
        _give_up(executor, entry)


cdef void _give_up(executor_t *executor, uint64_t entry) noexcept nogil:
    """An entry that found no place: what it stands for ends, so that nobody waits for it."""
    if entry & LANE:
        executor.cancel_lane(entry)
    else:
        guest_doom(<guest_t *>entry, CAUSE_MEMORY)
        if _claim_and_finish(executor, <guest_t *>entry):
            add32(&executor.stale, -1)
    drop_entry(entry)


# ---- what is due

cdef void wake_timekeeper(executor_t *executor) noexcept nogil:
    add32(&executor.clock_word, 1)
    futex_wake(&executor.clock_word, 1)


cdef bint _add_due(executor_t *executor, guest_t *guest, int64_t due_ns) noexcept nogil:
    """An entry of the due queue, and its reference; False if the guest has one.

    A time that never comes takes none.
    """
    cdef uint64_t handle = <uint64_t>guest
    cdef size_t fault
    if due_ns == INT64_MAX:
        return True
    guest_retain(guest)
    cdef PushResult result = due_queue_push(executor.due, &handle, &due_ns, 1, &fault)
    if result != PUSHED:
        if result != PUSH_DUPLICATE:
            guest_doom(guest, CAUSE_MEMORY)
        guest_release(guest)
    elif due_ns < load64(&executor.clock_until_ns):
        wake_timekeeper(executor)
    return result != PUSH_DUPLICATE


cdef void _set_due(executor_t *executor, guest_t *guest, int64_t due_ns) noexcept nogil:
    """Has the timekeeper look at the guest at `due_ns`, instead of what was set before."""
    if due_ns == guest.due_ns and due_ns == guest.deadline_ns:
        return                     # it stands there, or it was taken and the guest is doomed
    _clear_due(executor, guest)
    guest.due_ns = due_ns
    while not _add_due(executor, guest, due_ns):
        _clear_due(executor, guest)        # which the timekeeper set just now


cdef void _clear_due(executor_t *executor, guest_t *guest) noexcept nogil:
    if guest.due_ns in (0, INT64_MAX):     # then it never had an entry
        return
    if due_queue_cancel(executor.due, <uint64_t>guest):
        guest_release(guest)


cdef void _look_at(executor_t *executor, guest_t *guest, int64_t now) noexcept nogil:
    """A guest's time has come: its deadline, or the end of its wait."""
    if now >= guest.deadline_ns:
        executor_doom(executor, guest, CAUSE_DEADLINE)
        return
    executor_wake(executor, guest)
    if executor.world != NULL:
        return                     # where no time passes while it waits for its turn
    _add_due(executor, guest, guest.deadline_ns)   # unless it has set another time itself
    if load32(&guest.state) == ENDED:
        _clear_due(executor, guest)


cdef void serve_due(executor_t *executor, int64_t now) noexcept nogil:
    cdef uint64_t handles[DUE_BATCH]
    cdef size_t index, count = DUE_BATCH
    cdef bint turned = False
    while count == DUE_BATCH:
        count = due_queue_pop(executor.due, now, handles, DUE_BATCH)
        turned = turned or count > 0
        wakes_hold()               # one call of the system for all that are due together
        for index in range(count):
            _look_at(executor, <guest_t *>handles[index], now)
            guest_release(<guest_t *>handles[index])
        wakes_release()
    if turned:
        add64(&executor.clock_turns, 1)


cdef void tick(executor_t *executor) noexcept nogil:
    cdef int index
    for index in range(load32(&executor.engine_count)):
        wasmtime_engine_increment_epoch(executor.engines[index])


# ---- states

cdef void _finish(executor_t *executor, guest_t *guest, int64_t now) noexcept nogil:
    """The caller owns the record; from here it is only read."""
    cdef bint counted = guest.counted
    execution_end(guest, now)
    if guest.world != NULL:
        world_note(guest.world, STEP_END, guest.number, guest_fuel_used(guest),
                   guest_trace(guest, <uint64_t>guest.cause << 32 | <uint32_t>guest.exit_code))
    _delist(executor, guest)
    if counted:
        leave_room(executor)
    store32(&guest.state, ENDED)
    _clear_due(executor, guest)            # from here on the timekeeper sets it no more
    if guest.batch != NULL:
        executor.settle_run(guest)         # nobody has a handle of it
    else:
        guest_signal(guest)
        guest_tell(guest)
    guest_release(guest)
    if counted:
        end_pending(executor)
        executor_release(executor)


cdef bint _claim_and_finish(executor_t *executor, guest_t *guest) noexcept nogil:
    """Ends a doomed guest that no thread runs; one that runs looks again before it parks."""
    while True:
        if cas32(&guest.state, PARKED, RUNNING):
            _finish(executor, guest, monotonic_ns())
            return True
        if cas32(&guest.state, QUEUED, RUNNING):
            _finish(executor, guest, monotonic_ns())
            if add32(&executor.stale, 1) > executor.guests_max + STALE_SLACK:
                _sweep(executor)
            return True
        if cas32(&guest.state, RUNNING, NOTIFIED):
            return False
        if load32(&guest.state) == NOTIFIED or load32(&guest.state) == ENDED:
            return False


cdef bint executor_doom(executor_t *executor, guest_t *guest, int32_t cause) noexcept nogil:
    """In a world between two steps, so that the guest does not run meanwhile."""
    cdef bint ours
    if executor.world == NULL:
        return _doom(executor, guest, cause)
    pthread_mutex_lock(&executor.world.lock)
    ours = _doom(executor, guest, cause)
    pthread_mutex_unlock(&executor.world.lock)
    return ours


cdef bint _doom(executor_t *executor, guest_t *guest, int32_t cause) noexcept nogil:
    if load32(&guest.state) == ENDED or not guest_doom(guest, cause):
        return False
    if not _claim_and_finish(executor, guest):
        tick(executor)
    return True


cdef void executor_wake(executor_t *executor, guest_t *guest) noexcept nogil:
    while True:
        if cas32(&guest.state, PARKED, QUEUED):
            add64(&executor.woken, 1)
            push_guest(executor, guest)
            return
        if cas32(&guest.state, RUNNING, NOTIFIED):
            return
        if load32(&guest.state) != PARKED and load32(&guest.state) != RUNNING:
            return


cdef bint _poll(executor_t *executor, guest_t *guest, int64_t *clock_ns) noexcept nogil:
    """One slice; whether the guest has ended. Its time counts also where it ended.

    The machine's clock is `clock_ns` before, and set to what it is behind it.
    """
    cdef int64_t began_ns = clock_ns[0]
    cdef int64_t now = began_ns if guest.world == NULL else guest_now_ns(guest)
    cdef bint ended = False
    if now >= guest.deadline_ns and not guest.paused:  # between slices only: a pause is no step
        guest_doom(guest, CAUSE_DEADLINE)
    if load32(&guest.kill) != 0:
        return True
    guest.parking = guest.paused = False
    guest.slice_until_ns = began_ns + executor.tick_ns // 2
    ended = execution_poll(guest)
    clock_ns[0] = monotonic_ns()
    guest.cpu_ns += clock_ns[0] - began_ns
    return ended


cdef void run_slice(executor_t *executor, guest_t *guest, int64_t now) noexcept nogil:
    while True:
        if _poll(executor, guest, &now):
            _finish(executor, guest, now)
            return
        if not guest.counted:
            executor.leave_lane(guest)     # before others may have it
        if guest.paused:
            _pause(executor, guest)
            return
        if not guest.parking:
            guest.slices += 1
            _note(guest, STEP_SLICE, 0)
            requeue(executor, guest)
            return
        guest.parks += 1
        _note(guest, STEP_PARK, <uint64_t>guest.wake_ns)
        _set_due(executor, guest, min(guest.wake_ns, guest.deadline_ns))
        if load32(&guest.kill) == 0 and cas32(&guest.state, RUNNING, PARKED):
            return
        swap32(&guest.state, RUNNING)


cdef void _note(guest_t *guest, StepKind kind, uint64_t detail) noexcept nogil:
    if guest.world != NULL:
        world_note(
            guest.world, kind, guest.number, guest_fuel_used(guest), guest_trace(guest, detail))


cdef void _pause(executor_t *executor, guest_t *guest) noexcept nogil:
    """Its slice goes on before anything else does, so that the pause cannot be told."""
    guest_retain(guest)
    executor.world.current = guest
    swap32(&guest.state, QUEUED)


cdef void requeue(executor_t *executor, guest_t *guest) noexcept nogil:
    _set_due(executor, guest, guest.deadline_ns)
    guest_retain(guest)            # until pushed: it may be claimed and ended once QUEUED
    swap32(&guest.state, QUEUED)
    push_guest(executor, guest)
    if load32(&guest.kill) != 0:   # asked for while it still ran: it waits for no turn
        _claim_and_finish(executor, guest)
    guest_release(guest)

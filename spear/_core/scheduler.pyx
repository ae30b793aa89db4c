"""Workers, timekeeper and the states of guests: the native half of the executor.

Rule: no thread here ever takes the GIL. A guest's state is one word, changed by compare-and-swap
only; whoever moves it to RUNNING owns the record until the next change. A wake-up that comes while
it runs makes it NOTIFIED, so that it cannot park past it. A guest that ends while it stands in a
run queue leaves its entry behind, which the popping worker drops. Workers and the timekeeper start
when first needed.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from spear._core cimport engineapi
from spear._core.engineapi cimport *
from spear._core.execution cimport execution_end, execution_poll
from spear._core.guest cimport *
from spear._core.queues cimport *
from spear._core.sync cimport *

wasmtime_bind(engineapi.functions())

cdef enum:
    DUE_BATCH = 64
    LANE = 1
    STALE_SLACK = 256          # entries of ended guests in the queues, beyond guests_max
    CLOSE_ROUND_NS = 20000000
    LINGER_TICKS = 20          # the timekeeper ticks on for so long after the last guest ran


# ---- life of an executor

cdef executor_t *executor_new(int workers, int guests_max, int64_t tick_ns) noexcept nogil:
    cdef executor_t *executor = <executor_t *>calloc(1, sizeof(executor_t))
    cdef int index
    cdef bint made
    if executor == NULL:
        return NULL
    executor.refs, executor.worker_count = 1, workers
    executor.generation = engineapi.generation()
    executor.guests_max, executor.tick_ns = guests_max, tick_ns
    pthread_mutex_init(&executor.lock, NULL)
    executor.due = due_queue_new(<size_t>guests_max + WORKERS_MAX)
    executor.starving = run_queue_new(4096)
    made = executor.due != NULL and executor.starving != NULL
    for index in range(workers):
        executor.workers[index].executor, executor.workers[index].index = executor, index
        pthread_mutex_init(&executor.workers[index].lock, NULL)
        executor.workers[index].queue = run_queue_new(4 * <size_t>guests_max + 1024)
        made = made and executor.workers[index].queue != NULL
    if not made:
        executor_release(executor)
        return NULL
    return executor


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
                _drop_entry(handle)
            run_queue_free(executor.workers[index].queue)
        pthread_mutex_destroy(&executor.workers[index].lock)
    if executor.starving != NULL:
        run_queue_free(executor.starving)
    if executor.due != NULL:
        while due_queue_pop(executor.due, INT64_MAX, &handle, 1) == 1:
            guest_release(<guest_t *>handle)
        due_queue_free(executor.due)
    pthread_mutex_destroy(&executor.lock)
    free(executor)


cdef bint executor_knows(executor_t *executor, wasm_engine_t *engine) noexcept nogil:
    """Whether the timekeeper advances this engine's epoch; takes it in where there is room."""
    if _ticks(executor, engine):
        return True
    pthread_mutex_lock(&executor.lock)
    cdef int count = executor.engine_count
    cdef bint known = _ticks(executor, engine)     # another thread may have been quicker
    if not known and count < ENGINES_MAX:
        executor.engines[count] = engine
        store32(&executor.engine_count, count + 1)
    pthread_mutex_unlock(&executor.lock)
    return known or count < ENGINES_MAX


cdef bint _ticks(executor_t *executor, wasm_engine_t *engine) noexcept nogil:
    cdef int index
    for index in range(load32(&executor.engine_count)):
        if executor.engines[index] == engine:
            return True
    return False


# ---- the list of live guests

cdef void _enlist(executor_t *executor, guest_t *guest) noexcept nogil:
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
    pthread_mutex_unlock(&shelf.lock)


# ---- queues: an entry is a guest or, with its lowest bit set, a lane of a batch

cdef void _drop_entry(uint64_t entry) noexcept nogil:
    cdef executor_t *executor
    if entry & LANE:
        executor = (<batch_t *>(entry - LANE)).executor
        executor_retain(executor)
        batch_release(<batch_t *>(entry - LANE))
        _settled(executor)
        executor_release(executor)
    else:
        guest_release(<guest_t *>entry)


# What close waits for: one more; refused once it closes.
cdef bint _begin_pending(executor_t *executor) noexcept nogil:
    add32(&executor.pending, 1)
    if load32(&executor.closing) == 0:
        return True
    _settled(executor)
    return False


cdef void _settled(executor_t *executor) noexcept nogil:
    if add32(&executor.pending, -1) == 0 and load32(&executor.closing) != 0:
        futex_wake(&executor.pending, 0x7FFFFFFF)


cdef void _announce_work(executor_t *executor) noexcept nogil:
    add32(&executor.work, 1)
    if load32(&executor.idle) != 0:
        futex_wake(&executor.work, 1)


cdef void _push(executor_t *executor, guest_t *guest) noexcept nogil:
    """Into the queue of the worker that ran it last; the caller made it QUEUED."""
    cdef uint64_t handle = <uint64_t>guest
    guest_retain(guest)
    if not _start_workers(executor) or run_queue_push(
            executor.workers[guest.home].queue, &handle, 1, PRIORITY_NORMAL) != PUSHED:
        guest_doom(guest, CAUSE_MEMORY)
        if _claim_and_finish(executor, guest):
            add32(&executor.stale, -1)     # there is no entry
        guest_release(guest)
        return
    _announce_work(executor)


cdef uint64_t _pop(worker_t *worker) noexcept nogil:
    """Own queue first, then the others'; 0 if all are empty."""
    cdef uint64_t entry
    cdef executor_t *executor = worker.executor
    cdef int step
    for step in range(executor.worker_count):
        if run_queue_pop(
                executor.workers[(worker.index + step) % executor.worker_count].queue,
                &entry, 1) == 1:
            worker.stolen += step != 0
            return entry
    return 0


cdef void _set_due(executor_t *executor, guest_t *guest, int64_t due_ns) noexcept nogil:
    """Has the timekeeper look at the guest at `due_ns`, instead of what was set before."""
    cdef uint64_t handle = <uint64_t>guest
    cdef size_t fault
    if not guest.due or not due_queue_cancel(executor.due, handle):
        guest_retain(guest)
    guest.due = True
    if due_queue_push(executor.due, &handle, &due_ns, 1, &fault) != PUSHED:
        guest_doom(guest, CAUSE_MEMORY)
        guest_release(guest)
        return
    if due_ns < load64(&executor.clock_until_ns):
        _wake_timekeeper(executor)


cdef void _clear_due(executor_t *executor, guest_t *guest) noexcept nogil:
    if guest.due and due_queue_cancel(executor.due, <uint64_t>guest):
        guest_release(guest)


cdef void _sweep(executor_t *executor) noexcept nogil:
    """Drops the entries of guests that ended in their queue, before they fill it."""
    cdef int index
    for index in range(executor.worker_count):
        _sweep_queue(executor, executor.workers[index].queue)
    _announce_work(executor)


cdef void _sweep_queue(executor_t *executor, run_queue *queue) noexcept nogil:
    """Each entry that is there now is taken out once; what still counts goes in again."""
    cdef size_t left = run_queue_size(queue)
    cdef uint64_t entry
    while left > 0 and run_queue_pop(queue, &entry, 1) == 1:
        left -= 1
        if not entry & LANE and load32(&(<guest_t *>entry).state) != QUEUED:
            add32(&executor.stale, -1)
            _drop_entry(entry)
        elif run_queue_push(queue, &entry, 1, PRIORITY_NORMAL) != PUSHED:
            _give_up(executor, entry)


cdef void _give_up(executor_t *executor, uint64_t entry) noexcept nogil:
    """An entry that found no place: what it stands for ends, so that nobody waits for it."""
    if entry & LANE:
        _cancel_rest(<batch_t *>(entry - LANE))
    else:
        guest_doom(<guest_t *>entry, CAUSE_MEMORY)
        if _claim_and_finish(executor, <guest_t *>entry):
            add32(&executor.stale, -1)
    _drop_entry(entry)


# ---- states

cdef void _finish(executor_t *executor, guest_t *guest) noexcept nogil:
    """The caller owns the record; from here it is only read."""
    execution_end(guest)
    _clear_due(executor, guest)
    _delist(executor, guest)
    _leave_room(executor)
    store32(&guest.state, ENDED)
    guest_signal(guest)
    guest_tell(guest)
    if guest.batch != NULL:
        _settle(<batch_t *>guest.batch, guest)
    guest_release(guest)
    _settled(executor)
    executor_release(executor)


cdef bint _take_room(executor_t *executor) noexcept nogil:
    cdef int32_t live = load32(&executor.live)
    while live < executor.guests_max:
        if cas32(&executor.live, live, live + 1):
            return True
        live = load32(&executor.live)
    return False


cdef void _leave_room(executor_t *executor) noexcept nogil:
    add32(&executor.live, -1)
    if load32(&executor.starved) > 0:
        _recall(executor)


cdef bint _claim_and_finish(executor_t *executor, guest_t *guest) noexcept nogil:
    """Ends a doomed guest that no thread runs; one that runs looks again before it parks."""
    while True:
        if cas32(&guest.state, PARKED, RUNNING):
            _finish(executor, guest)
            return True
        if cas32(&guest.state, QUEUED, RUNNING):
            _finish(executor, guest)
            if add32(&executor.stale, 1) > executor.guests_max + STALE_SLACK:
                _sweep(executor)
            return True
        if cas32(&guest.state, RUNNING, NOTIFIED):
            return False
        if load32(&guest.state) == NOTIFIED or load32(&guest.state) == ENDED:
            return False


cdef bint executor_doom(executor_t *executor, guest_t *guest, int32_t cause) noexcept nogil:
    if load32(&guest.state) == ENDED or not guest_doom(guest, cause):
        return False
    if not _claim_and_finish(executor, guest):
        _tick(executor)
    return True


cdef void executor_wake(executor_t *executor, guest_t *guest) noexcept nogil:
    while True:
        if cas32(&guest.state, PARKED, QUEUED):
            add64(&executor.woken, 1)
            _push(executor, guest)
            return
        if cas32(&guest.state, RUNNING, NOTIFIED):
            return
        if load32(&guest.state) != PARKED and load32(&guest.state) != RUNNING:
            return


cdef void _run_slice(executor_t *executor, guest_t *guest) noexcept nogil:
    """Polls until it ends, parks or used its slice; the caller made it RUNNING."""
    while True:
        if monotonic_ns() >= guest.deadline_ns:
            guest_doom(guest, CAUSE_DEADLINE)
        if load32(&guest.kill) != 0:
            _finish(executor, guest)
            return
        guest.parking = False
        guest.slice_until_ns = monotonic_ns() + executor.tick_ns // 2
        if execution_poll(guest):
            _finish(executor, guest)
            return
        if not guest.parking:
            _requeue(executor, guest)
            return
        _set_due(executor, guest, min(guest.wake_ns, guest.deadline_ns))
        if load32(&guest.kill) == 0 and cas32(&guest.state, RUNNING, PARKED):
            return
        swap32(&guest.state, RUNNING)


cdef void _requeue(executor_t *executor, guest_t *guest) noexcept nogil:
    _set_due(executor, guest, guest.deadline_ns)
    guest_retain(guest)            # until pushed: it may be claimed and ended once QUEUED
    swap32(&guest.state, QUEUED)
    _push(executor, guest)
    guest_release(guest)


cdef bint executor_start(executor_t *executor, guest_t *guest, bint run_here) noexcept nogil:
    if not _start_timekeeper(executor) or not _begin_pending(executor):
        return False
    if not _take_room(executor):
        _settled(executor)
        return False
    guest_retain(guest)            # as long as it lives
    executor_retain(executor)
    guest.executor = executor
    guest.home = <int32_t>(
        <uint32_t>add32(&executor.next_worker, 1) % <uint32_t>executor.worker_count)
    guest.state = RUNNING if run_here else QUEUED
    _enlist(executor, guest)               # from here on others may end it
    if not run_here:
        _push(executor, guest)
        return True
    add32(&executor.inline_runs, 1)
    _keep_ticking(executor)
    _run_slice(executor, guest)
    add32(&executor.inline_runs, -1)
    return True


cdef bint executor_enter(executor_t *executor) noexcept nogil:
    if not _start_timekeeper(executor) or not _begin_pending(executor):
        return False
    add32(&executor.inline_runs, 1)
    _keep_ticking(executor)
    return True


cdef void executor_leave(executor_t *executor) noexcept nogil:
    add32(&executor.inline_runs, -1)
    _settled(executor)


# ---- batches

cdef batch_t *batch_new(executor_t *executor, guest_t *model, int64_t count) noexcept nogil:
    cdef batch_t *batch = <batch_t *>calloc(1, sizeof(batch_t))
    if batch == NULL:
        return NULL
    batch.refs, batch.executor, batch.model, batch.count = 1, executor, model, count
    executor_retain(executor)
    guest_retain(model)
    batch.causes = <uint8_t *>calloc(count, 1)
    batch.exit_codes = <int32_t *>calloc(count, sizeof(int32_t))
    batch.durations_ns = <int64_t *>calloc(count, sizeof(int64_t))
    if batch.exit_codes != NULL:
        memset(batch.exit_codes, 0xFF, count * sizeof(int32_t))    # -1: did not exit by itself
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
    executor_release(batch.executor)
    free(batch)


cdef void _push_lane(batch_t *batch, int home) noexcept nogil:
    """A lane begins runs one after another on whichever worker takes it."""
    cdef executor_t *executor = batch.executor
    cdef uint64_t entry = <uint64_t>batch + LANE
    add32(&executor.pending, 1)        # a lane, until its entry is dropped
    add64(&batch.refs, 1)
    if _start_workers(executor) and run_queue_push(
            executor.workers[home].queue, &entry, 1, PRIORITY_NORMAL) == PUSHED:
        _announce_work(executor)
    else:
        _cancel_rest(batch)
        _drop_entry(entry)


cdef bint batch_start(batch_t *batch) noexcept nogil:
    cdef int index
    if not _start_timekeeper(batch.executor) or not _begin_pending(batch.executor):
        return False
    for index in range(batch.executor.worker_count):
        _push_lane(batch, index)
    _settled(batch.executor)
    return True


cdef void batch_doom(batch_t *batch, int32_t cause) noexcept nogil:
    """Ends the runs that are under way; the others never begin."""
    cas32(&batch.kill, CAUSE_NONE, cause)
    cdef guest_t *guest = _any_live(batch.executor, batch)
    while guest != NULL:
        executor_doom(batch.executor, guest, cause)
        guest_release(guest)
        guest = _any_live(batch.executor, batch)


cdef guest_t *_next_of(batch_t *batch) noexcept nogil:
    """The record of the next run; NULL if all have begun. The caller has taken room."""
    cdef int64_t number = add64(&batch.next, 1) - 1
    cdef guest_t *guest
    if number >= batch.count:
        return NULL
    guest = guest_like(batch.model)
    if guest == NULL:
        batch.causes[number] = CAUSE_MEMORY
        _count_end(batch)
        return NULL
    guest.batch, guest.batch_number = batch, number
    guest.began_ns = monotonic_ns()
    guest.deadline_ns = guest.began_ns + batch.model.deadline_ns
    return guest


cdef bint _begin_next(worker_t *worker, batch_t *batch) noexcept nogil:
    """Begins one run and gives it its first slice; False if the lane has nothing to begin."""
    cdef executor_t *executor = batch.executor
    cdef guest_t *guest
    if load32(&executor.closing) != 0 or load32(&batch.kill) != 0:
        _cancel_rest(batch)
    if load64(&batch.next) >= batch.count:
        if load32(&executor.starved) > 0:
            _recall(executor)              # the batch's other lanes end likewise
        return False
    if not _take_room(executor):
        _starve(executor, batch)
        return False
    guest = _next_of(batch)
    if guest == NULL:
        _leave_room(executor)
        return load64(&batch.next) < batch.count
    add32(&executor.pending, 1)
    executor_retain(executor)
    add64(&batch.refs, 1)
    guest.executor, guest.home = executor, worker.index
    guest.state = RUNNING
    _enlist(executor, guest)
    if load32(&batch.kill) != 0:           # asked for before it stood in the list
        guest_doom(guest, load32(&batch.kill))
    _run_slice(executor, guest)
    return True


cdef void _run_lane(worker_t *worker, batch_t *batch) noexcept nogil:
    """Begins runs for about a slice, then lets other work have the worker."""
    cdef int64_t until_ns = monotonic_ns() + batch.executor.tick_ns // 2
    while _begin_next(worker, batch):
        if monotonic_ns() >= until_ns:
            _push_lane(batch, worker.index)
            return


cdef void _cancel_rest(batch_t *batch) noexcept nogil:
    """What has not begun never will."""
    cdef int64_t number = add64(&batch.next, 1) - 1
    while number < batch.count:
        batch.causes[number] = CAUSE_CANCELLED
        _count_end(batch)
        number = add64(&batch.next, 1) - 1


cdef void _starve(executor_t *executor, batch_t *batch) noexcept nogil:
    """The lane waits until some guest ends; one may have ended just now."""
    cdef uint64_t entry = <uint64_t>batch + LANE
    add64(&batch.refs, 1)
    add32(&executor.pending, 1)
    if run_queue_push(executor.starving, &entry, 1, PRIORITY_NORMAL) != PUSHED:
        _cancel_rest(batch)
        _drop_entry(entry)
        return
    add32(&executor.starved, 1)
    if load32(&executor.live) < executor.guests_max:
        _recall(executor)


cdef void _recall(executor_t *executor) noexcept nogil:
    """There is room again: one lane that waits for it goes on."""
    cdef uint64_t entry
    if run_queue_pop(executor.starving, &entry, 1) == 1:
        add32(&executor.starved, -1)
        _push_lane(<batch_t *>(entry - LANE), 0)
        _drop_entry(entry)


cdef void _count_end(batch_t *batch) noexcept nogil:
    if add64(&batch.ended, 1) == batch.count:
        add32(&batch.events, 1)
        futex_wake(&batch.events, 0x7FFFFFFF)


cdef void _settle(batch_t *batch, guest_t *guest) noexcept nogil:
    batch.causes[guest.batch_number] = <uint8_t>guest.cause
    batch.exit_codes[guest.batch_number] = guest.exit_code
    batch.durations_ns[guest.batch_number] = guest.ended_ns - guest.began_ns
    _count_end(batch)
    batch_release(batch)


# ---- workers

cdef void *_work(void *argument) noexcept nogil:
    cdef worker_t *worker = <worker_t *>argument
    cdef executor_t *executor = worker.executor
    cdef uint64_t entry
    cdef int32_t seen
    while load32(&executor.stopping) == 0:
        seen = load32(&executor.work)
        entry = _pop(worker)
        if entry == 0:
            store32(&worker.busy, 0)
            add32(&executor.idle, 1)
            if load32(&executor.work) == seen and load32(&executor.stopping) == 0:
                futex_wait(&executor.work, seen, -1)
            add32(&executor.idle, -1)
            continue
        if worker.busy == 0:
            swap32(&worker.busy, 1)
        _keep_ticking(executor)
        worker.polls += 1
        _serve(worker, entry)
        _drop_entry(entry)
    return NULL


cdef void _serve(worker_t *worker, uint64_t entry) noexcept nogil:
    cdef guest_t *guest
    if entry & LANE:
        _run_lane(worker, <batch_t *>(entry - LANE))
        return
    guest = <guest_t *>entry
    if cas32(&guest.state, QUEUED, RUNNING):
        guest.home = worker.index
        _run_slice(worker.executor, guest)
    else:
        add32(&worker.executor.stale, -1)


cdef bint _start_workers(executor_t *executor) noexcept nogil:
    """At the first push; False if the system gives not one thread."""
    cdef sigset_t before
    if load32(&executor.threads) != 0:
        return True
    pthread_mutex_lock(&executor.lock)
    cdef int made = executor.threads
    if made == 0 and load32(&executor.stopping) == 0:
        block_signals(&before)
        while made < executor.worker_count and pthread_create(
                &executor.workers[made].thread, NULL, _work, &executor.workers[made]) == 0:
            made += 1
        restore_signals(&before)
        store32(&executor.threads, made)
    pthread_mutex_unlock(&executor.lock)
    return made > 0


# ---- the timekeeper

cdef void _tick(executor_t *executor) noexcept nogil:
    cdef int index
    for index in range(load32(&executor.engine_count)):
        wasmtime_engine_increment_epoch(executor.engines[index])


cdef void _wake_timekeeper(executor_t *executor) noexcept nogil:
    add32(&executor.clock_word, 1)
    futex_wake(&executor.clock_word, 1)


cdef void _keep_ticking(executor_t *executor) noexcept nogil:
    """Before a guest runs: epochs must advance meanwhile."""
    if load32(&executor.ticking) == 0:
        store32(&executor.ticking, 1)
        _wake_timekeeper(executor)


cdef bint _start_timekeeper(executor_t *executor) noexcept nogil:
    """At the first start; False if the system gives no thread."""
    cdef sigset_t before
    if load32(&executor.timekeeper_running) != 0:
        return True
    pthread_mutex_lock(&executor.lock)
    cdef bint made = executor.timekeeper_running != 0
    if not made and load32(&executor.stopping) == 0:
        block_signals(&before)
        made = pthread_create(&executor.timekeeper, NULL, _keep_time, executor) == 0
        restore_signals(&before)
        store32(&executor.timekeeper_running, made)
    pthread_mutex_unlock(&executor.lock)
    return made


cdef bint _any_running(executor_t *executor) noexcept nogil:
    cdef int index
    if load32(&executor.inline_runs) != 0:
        return True
    for index in range(executor.worker_count):
        if load32(&executor.workers[index].busy) != 0:
            return True
    return False


cdef void _look_at(executor_t *executor, guest_t *guest, int64_t now) noexcept nogil:
    """A guest's time has come: its deadline, or the end of its wait."""
    if now >= guest.deadline_ns:
        executor_doom(executor, guest, CAUSE_DEADLINE)
    else:
        executor_wake(executor, guest)


cdef void _serve_due(executor_t *executor, int64_t now) noexcept nogil:
    cdef uint64_t handles[DUE_BATCH]
    cdef size_t index, count = DUE_BATCH
    while count == DUE_BATCH:
        count = due_queue_pop(executor.due, now, handles, DUE_BATCH)
        for index in range(count):
            _look_at(executor, <guest_t *>handles[index], now)
            guest_release(<guest_t *>handles[index])


cdef void *_keep_time(void *argument) noexcept nogil:
    cdef executor_t *executor = <executor_t *>argument
    cdef int64_t now, due, tick_at = 0
    cdef int32_t seen, quiet = 0
    while load32(&executor.stopping) == 0:
        seen = load32(&executor.clock_word)
        now = monotonic_ns()
        _serve_due(executor, now)
        if load32(&executor.ticking) != 0 and now >= tick_at:
            _tick(executor)
            tick_at = now + executor.tick_ns
            quiet = 0 if _any_running(executor) else quiet + 1
            if quiet > LINGER_TICKS:
                _rest(executor)
                quiet = 0
        store64(&executor.clock_until_ns, INT64_MAX)
        if not due_queue_next(executor.due, &due):
            due = INT64_MAX
        if load32(&executor.ticking) != 0 and tick_at < due:
            due = tick_at
        store64(&executor.clock_until_ns, due)
        if load32(&executor.clock_word) == seen and due > now:
            futex_wait(&executor.clock_word, seen, -1 if due == INT64_MAX else due - now)
    return NULL


cdef void _rest(executor_t *executor) noexcept nogil:
    """Stops ticking, unless a guest began to run while that was decided."""
    swap32(&executor.ticking, 0)
    if _any_running(executor):
        store32(&executor.ticking, 1)


# ---- the end

cdef guest_t *_any_live(executor_t *executor, const batch_t *batch) noexcept nogil:
    """A live guest whose end nobody asked for yet, with a reference; of `batch` unless NULL."""
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


cdef void _wait_until_settled(executor_t *executor, int64_t until_ns) noexcept nogil:
    cdef int32_t pending = load32(&executor.pending)
    cdef int64_t now = monotonic_ns()
    while pending != 0 and now < until_ns:
        futex_wait(&executor.pending, pending, until_ns - now)
        pending = load32(&executor.pending)
        now = monotonic_ns()


cdef void _doom_all(executor_t *executor) noexcept nogil:
    cdef guest_t *guest = _any_live(executor, NULL)
    while guest != NULL:
        executor_doom(executor, guest, CAUSE_CANCELLED)
        guest_release(guest)
        guest = _any_live(executor, NULL)


cdef void executor_close(executor_t *executor, int64_t grace_ns) noexcept nogil:
    cdef int64_t grace_until_ns = monotonic_ns() + grace_ns
    if swap32(&executor.closing, 1) != 0:
        while load32(&executor.closed) == 0:       # another thread closes it: until it is done
            futex_wait(&executor.closed, 0, -1)
        return
    while load32(&executor.starved) > 0:           # lanes that wait for room never get it
        _recall(executor)
    _wait_until_settled(executor, grace_until_ns)
    while load32(&executor.pending) != 0:          # one that was starting may come late
        _doom_all(executor)
        while load32(&executor.starved) > 0:
            _recall(executor)
        _wait_until_settled(executor, monotonic_ns() + CLOSE_ROUND_NS)
    _end_threads(executor)
    store32(&executor.closed, 1)
    futex_wake(&executor.closed, 0x7FFFFFFF)


cdef void _end_threads(executor_t *executor) noexcept nogil:
    cdef int index
    pthread_mutex_lock(&executor.lock)
    store32(&executor.stopping, 1)                 # from here on none is started
    pthread_mutex_unlock(&executor.lock)
    add32(&executor.work, 1)
    futex_wake(&executor.work, 0x7FFFFFFF)
    _wake_timekeeper(executor)
    for index in range(executor.threads):
        pthread_join(executor.workers[index].thread, NULL)
    if executor.timekeeper_running:
        pthread_join(executor.timekeeper, NULL)

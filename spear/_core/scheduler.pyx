"""Workers, timekeeper and the states of guests: the native half of the executor.

Rule: no thread here ever takes the GIL. A guest's state is one word, changed by compare-and-swap
only; whoever moves it to RUNNING owns the record until the next change. A wake-up that comes while
it runs makes it NOTIFIED, so that it cannot park past it. A guest that ends while it stands in a
run queue leaves its entry behind, which the popping worker drops. Workers and the timekeeper start
when first needed.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from spear._core cimport engineapi
from spear._core.engineapi cimport *
from spear._core.execution cimport execution_end, execution_poll
from spear._core.guest cimport *
from spear._core.queues cimport *
from spear._core.sync cimport *

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int start, int flags)
    const int EFD_NONBLOCK, EFD_CLOEXEC

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int fd, const void *data, size_t size)
    int close(int fd)

wasmtime_bind(engineapi.functions())

cdef enum:
    DUE_BATCH = 64
    LINGER_TICKS = 20          # the timekeeper ticks on for so long after the last guest ran


# ---- the completion hub of an event loop

cdef hub_t *hub_new() noexcept nogil:
    cdef hub_t *hub = <hub_t *>calloc(1, sizeof(hub_t))
    if hub == NULL:
        return NULL
    hub.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
    hub.refs = 1
    if hub.fd < 0:
        free(hub)
        return NULL
    return hub


cdef void hub_release(hub_t *hub) noexcept nogil:
    cdef guest_t *guest
    cdef guest_t *following
    if add64(&hub.refs, -1) != 0:
        return
    guest = hub_take(hub)
    while guest != NULL:
        following = guest.next_done
        guest_release(guest)
        guest = following
    close(hub.fd)
    free(hub)


cdef bint hub_watch(hub_t *hub, guest_t *guest) noexcept nogil:
    add64(&hub.refs, 1)
    if cas_ptr(&guest.hub, NULL, hub):
        if load32(&guest.state) != ENDED:
            return True
        if not cas_ptr(&guest.hub, hub, NULL):
            return True            # its end has taken the hub and tells it
    hub_release(hub)
    return False


cdef void _tell_hub(guest_t *guest) noexcept nogil:
    """After ENDED is visible; whoever swaps the hub out does the telling."""
    cdef hub_t *hub = <hub_t *>swap_ptr(&guest.hub, NULL)
    cdef void *head
    cdef uint64_t one = 1
    if hub == NULL:
        return
    guest_retain(guest)
    while True:
        head = load_ptr(&hub.head)
        guest.next_done = <guest_t *>head
        if cas_ptr(&hub.head, head, guest):
            break
    if head == NULL:
        write(hub.fd, &one, 8)
    hub_release(hub)


cdef guest_t *hub_take(hub_t *hub) noexcept nogil:
    return <guest_t *>swap_ptr(&hub.head, NULL)


# ---- life of an executor

cdef executor_t *executor_new(int workers, int guests_max, int64_t tick_ns) noexcept nogil:
    cdef executor_t *executor = <executor_t *>calloc(1, sizeof(executor_t))
    cdef int index
    cdef bint made
    if executor == NULL:
        return NULL
    executor.refs, executor.worker_count = 1, workers
    executor.guests_max, executor.tick_ns = guests_max, tick_ns
    pthread_mutex_init(&executor.lock, NULL)
    executor.due = due_queue_new(<size_t>guests_max + WORKERS_MAX)
    made = executor.due != NULL
    for index in range(workers):
        executor.workers[index].executor, executor.workers[index].index = executor, index
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
                guest_release(<guest_t *>handle)
            run_queue_free(executor.workers[index].queue)
    if executor.due != NULL:
        while due_queue_pop(executor.due, INT64_MAX, &handle, 1) == 1:
            guest_release(<guest_t *>handle)
        due_queue_free(executor.due)
    pthread_mutex_destroy(&executor.lock)
    free(executor)


cdef bint executor_knows(executor_t *executor, wasm_engine_t *engine) noexcept nogil:
    """Whether the timekeeper advances this engine's epoch; takes it in where there is room."""
    cdef int index
    for index in range(load32(&executor.engine_count)):
        if executor.engines[index] == engine:
            return True
    pthread_mutex_lock(&executor.lock)
    cdef int count = executor.engine_count
    if count < ENGINES_MAX:
        executor.engines[count] = engine
        store32(&executor.engine_count, count + 1)
    pthread_mutex_unlock(&executor.lock)
    return count < ENGINES_MAX


# ---- the list of live guests

cdef void _enlist(executor_t *executor, guest_t *guest) noexcept nogil:
    pthread_mutex_lock(&executor.lock)
    guest.following = executor.first
    if executor.first != NULL:
        executor.first.previous = guest
    executor.first = guest
    executor.started += 1
    pthread_mutex_unlock(&executor.lock)


cdef void _delist(executor_t *executor, guest_t *guest) noexcept nogil:
    pthread_mutex_lock(&executor.lock)
    if guest.previous != NULL:
        guest.previous.following = guest.following
    else:
        executor.first = guest.following
    if guest.following != NULL:
        guest.following.previous = guest.previous
    executor.ended += 1
    pthread_mutex_unlock(&executor.lock)


# ---- queues

cdef void _push(executor_t *executor, guest_t *guest) noexcept nogil:
    """Into the queue of the worker that ran it last; the caller made it QUEUED."""
    cdef uint64_t handle = <uint64_t>guest
    guest_retain(guest)
    _start_workers(executor)
    if run_queue_push(
            executor.workers[guest.home].queue, &handle, 1, PRIORITY_NORMAL) != PUSHED:
        guest_doom(guest, CAUSE_MEMORY)
        _claim_and_finish(executor, guest)
        guest_release(guest)
        return
    add32(&executor.work, 1)
    if load32(&executor.idle) != 0:
        futex_wake(&executor.work, 1)


cdef guest_t *_pop(worker_t *worker) noexcept nogil:
    """Own queue first, then the others'."""
    cdef uint64_t handle
    cdef executor_t *executor = worker.executor
    cdef int step
    for step in range(executor.worker_count):
        if run_queue_pop(
                executor.workers[(worker.index + step) % executor.worker_count].queue,
                &handle, 1) == 1:
            worker.stolen += step != 0
            return <guest_t *>handle
    return NULL


cdef void _set_due(executor_t *executor, guest_t *guest, int64_t due_ns) noexcept nogil:
    """Has the timekeeper look at the guest at `due_ns`, instead of what was set before."""
    cdef uint64_t handle = <uint64_t>guest
    cdef size_t fault
    if not due_queue_cancel(executor.due, handle):
        guest_retain(guest)
    if due_queue_push(executor.due, &handle, &due_ns, 1, &fault) != PUSHED:
        guest_doom(guest, CAUSE_MEMORY)
        guest_release(guest)
        return
    if due_ns < load64(&executor.clock_until_ns):
        _wake_timekeeper(executor)


cdef void _clear_due(executor_t *executor, guest_t *guest) noexcept nogil:
    if due_queue_cancel(executor.due, <uint64_t>guest):
        guest_release(guest)


# ---- states

cdef void _finish(executor_t *executor, guest_t *guest) noexcept nogil:
    """The caller owns the record; from here it is only read."""
    execution_end(guest)
    _clear_due(executor, guest)
    _delist(executor, guest)
    store32(&guest.state, ENDED)
    guest_signal(guest)
    _tell_hub(guest)
    guest_release(guest)
    if add32(&executor.live, -1) == 0 and load32(&executor.closing) != 0:
        futex_wake(&executor.live, 0x7FFFFFFF)
    executor_release(executor)


cdef bint _claim_and_finish(executor_t *executor, guest_t *guest) noexcept nogil:
    """Ends a doomed guest that no thread runs; one that runs looks again before it parks."""
    while True:
        if cas32(&guest.state, PARKED, RUNNING) or cas32(&guest.state, QUEUED, RUNNING):
            _finish(executor, guest)
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
        guest.slices += 1
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
    if add32(&executor.live, 1) > executor.guests_max or load32(&executor.closing) != 0:
        if add32(&executor.live, -1) == 0 and load32(&executor.closing) != 0:
            futex_wake(&executor.live, 0x7FFFFFFF)
        return False
    guest_retain(guest)            # as long as it lives
    executor_retain(executor)
    guest.executor = executor
    guest.home = <int32_t>(
        <uint32_t>add32(&executor.next_worker, 1) % <uint32_t>executor.worker_count)
    _enlist(executor, guest)
    if not run_here:
        store32(&guest.state, QUEUED)
        _push(executor, guest)
        return True
    store32(&guest.state, RUNNING)
    add32(&executor.inline_runs, 1)
    _keep_ticking(executor)
    _run_slice(executor, guest)
    add32(&executor.inline_runs, -1)
    return True


# ---- workers

cdef void *_work(void *argument) noexcept nogil:
    cdef worker_t *worker = <worker_t *>argument
    cdef executor_t *executor = worker.executor
    cdef guest_t *guest
    cdef int32_t seen
    while load32(&executor.stopping) == 0:
        seen = load32(&executor.work)
        guest = _pop(worker)
        if guest == NULL:
            store32(&worker.busy, 0)
            add32(&executor.idle, 1)
            if load32(&executor.work) == seen and load32(&executor.stopping) == 0:
                futex_wait(&executor.work, seen, -1)
            add32(&executor.idle, -1)
            continue
        if worker.busy == 0:
            swap32(&worker.busy, 1)
        _keep_ticking(executor)
        if cas32(&guest.state, QUEUED, RUNNING):
            guest.home = worker.index
            worker.polls += 1
            _run_slice(executor, guest)
        guest_release(guest)
    return NULL


cdef void _start_workers(executor_t *executor) noexcept nogil:
    cdef sigset_t before
    cdef int index
    if load32(&executor.workers_running) != 0:
        return
    pthread_mutex_lock(&executor.lock)
    if executor.workers_running == 0:
        block_signals(&before)
        for index in range(executor.worker_count):
            pthread_create(&executor.workers[index].thread, NULL, _work, &executor.workers[index])
        restore_signals(&before)
        store32(&executor.workers_running, 1)
    pthread_mutex_unlock(&executor.lock)


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
    cdef sigset_t before
    if load32(&executor.ticking) != 0:
        return
    pthread_mutex_lock(&executor.lock)
    if not executor.timekeeper_running:
        executor.timekeeper_running = True
        block_signals(&before)
        pthread_create(&executor.timekeeper, NULL, _keep_time, executor)
        restore_signals(&before)
    pthread_mutex_unlock(&executor.lock)
    store32(&executor.ticking, 1)
    _wake_timekeeper(executor)


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

cdef guest_t *_any_live(executor_t *executor) noexcept nogil:
    """A live guest whose end nobody asked for yet, with a reference."""
    cdef guest_t *guest
    pthread_mutex_lock(&executor.lock)
    guest = executor.first
    while guest != NULL and load32(&guest.kill) != 0:
        guest = guest.following
    if guest != NULL:
        guest_retain(guest)
    pthread_mutex_unlock(&executor.lock)
    return guest


cdef void _wait_until_none_live(executor_t *executor, int64_t until_ns) noexcept nogil:
    cdef int32_t live = load32(&executor.live)
    cdef int64_t now = monotonic_ns()
    while live != 0 and now < until_ns:
        futex_wait(&executor.live, live, min(until_ns - now, <int64_t>100000000))
        live = load32(&executor.live)
        now = monotonic_ns()


cdef void executor_close(executor_t *executor, int64_t grace_ns) noexcept nogil:
    cdef guest_t *guest
    cdef int index
    if swap32(&executor.closing, 1) != 0:
        return
    _wait_until_none_live(executor, monotonic_ns() + grace_ns)
    guest = _any_live(executor)
    while guest != NULL:
        executor_doom(executor, guest, CAUSE_CANCELLED)
        guest_release(guest)
        guest = _any_live(executor)
    _wait_until_none_live(executor, INT64_MAX)
    store32(&executor.stopping, 1)
    add32(&executor.work, 1)
    futex_wake(&executor.work, 0x7FFFFFFF)
    _wake_timekeeper(executor)
    if executor.workers_running:
        for index in range(executor.worker_count):
            pthread_join(executor.workers[index].thread, NULL)
    if executor.timekeeper_running:
        pthread_join(executor.timekeeper, NULL)

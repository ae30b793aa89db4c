"""Workers and the timekeeper: the threads that run an executor's guests.

Rule: no thread here ever takes the GIL. Workers and the timekeeper start when first needed. A
worker serves its own queue first, then the others'; every TURN_EVERY-th time the levels of its
queue have their turn, one after another, so that urgent guests which never wait cannot starve the
others.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc

from spear._core cimport engineapi
from spear._core.batches cimport *
from spear._core.engineapi cimport *
from spear._core.guest cimport *
from spear._core.queues cimport *
from spear._core.states cimport *
from spear._core.sync cimport *
from spear._core.world cimport *

wasmtime_bind(engineapi.functions())

cdef enum:
    TURN_EVERY = 8
    CLOSE_ROUND_NS = 20000000
    REST_NS = 250000           # the timekeeper serves together what is due within so long
    LINGER_TICKS = 20          # the timekeeper ticks on for so long after the last guest ran


cdef executor_t *executor_new(
    int workers, int guests_max, int64_t tick_ns, world_t *world
) noexcept nogil:
    cdef executor_t *executor = <executor_t *>calloc(1, sizeof(executor_t))
    cdef int index
    cdef bint made
    if executor == NULL:
        world_free(world)
        return NULL
    executor.refs, executor.worker_count, executor.world = 1, workers, world
    executor.start_workers, executor.settle_run = _start_workers, batch_settle
    executor.drop_lane, executor.cancel_lane = batch_drop_lane, batch_cancel_lane
    executor.recall_lane, executor.leave_lane = batch_recall, batch_leave_lane
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


# ---- starting guests

cdef bint executor_start(executor_t *executor, guest_t *guest, bint run_here) noexcept nogil:
    if not executor_watch(executor) or not begin_pending(executor):
        return False
    if not take_room(executor):
        end_pending(executor)
        return False
    guest_retain(guest)            # as long as it lives
    executor_retain(executor)
    guest.executor, guest.counted = executor, True
    guest.home = <int32_t>(
        <uint32_t>add32(&executor.next_worker, 1) % <uint32_t>executor.worker_count)
    run_here = run_here and executor.world == NULL
    guest.state = RUNNING if executor.world == NULL else QUEUED
    if executor.world != NULL:
        _start_in_world(executor, guest)
        return True
    enlist(executor, guest)        # from here on others may end it
    if not run_here:
        requeue(executor, guest)
        return True
    add32(&executor.inline_runs, 1)
    _keep_ticking(executor)
    run_slice(executor, guest, monotonic_ns())
    add32(&executor.inline_runs, -1)
    return True


cdef void _start_in_world(executor_t *executor, guest_t *guest) noexcept nogil:
    """Between two steps. The caller has set its times as of the world's clock."""
    cdef world_t *world = executor.world
    pthread_mutex_lock(&world.lock)
    world.guests += 1
    guest.world, guest.number = world, world.guests
    guest.random_state = world_stream(world, guest.number)
    world_note(world, STEP_START, guest.number, 0, guest_input_hash(guest))
    enlist(executor, guest)
    push_guest(executor, guest)
    pthread_mutex_unlock(&world.lock)


cdef void watch_world(executor_t *executor, bint begins) noexcept nogil:
    add32(&executor.inline_runs, 1 if begins else -1)
    if begins:
        _keep_ticking(executor)


cdef bint executor_enter(executor_t *executor) noexcept nogil:
    if not executor_watch(executor) or not begin_pending(executor):
        return False
    add32(&executor.inline_runs, 1)
    _keep_ticking(executor)
    return True


cdef void executor_leave(executor_t *executor) noexcept nogil:
    add32(&executor.inline_runs, -1)
    end_pending(executor)


# ---- workers

cdef uint64_t next_entry(worker_t *worker) noexcept nogil:
    cdef uint64_t entry
    cdef executor_t *executor = worker.executor
    cdef int step
    worker.pops += 1
    if worker.pops % TURN_EVERY == 0 and run_queue_pop_from(worker.queue, &worker.turn, &entry):
        return entry
    for step in range(executor.worker_count):
        if run_queue_pop(
                executor.workers[(worker.index + step) % executor.worker_count].queue,
                &entry, 1) == 1:
            worker.stolen += step != 0
            return entry
    return 0


cdef void *_work(void *argument) noexcept nogil:
    cdef worker_t *worker = <worker_t *>argument
    cdef executor_t *executor = worker.executor
    cdef uint64_t entry
    cdef int32_t seen
    while load32(&executor.stopping) == 0:
        seen = load32(&executor.work)
        entry = next_entry(worker)
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
        drop_entry(entry)
    return NULL


cdef void _serve(worker_t *worker, uint64_t entry) noexcept nogil:
    cdef guest_t *guest
    if entry & LANE:
        batch_run_lane(worker, <batch_t *>(entry - LANE))
        return
    guest = <guest_t *>entry
    if cas32(&guest.state, QUEUED, RUNNING):
        guest.home = worker.index
        run_slice(worker.executor, guest, monotonic_ns())
    else:
        add32(&worker.executor.stale, -1)


cdef bint _start_workers(executor_t *executor) noexcept nogil:
    """At the first push; False if the system gives not one thread."""
    cdef sigset_t before
    if load32(&executor.threads) != 0 or executor.world != NULL:
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

cdef void _keep_ticking(executor_t *executor) noexcept nogil:
    """Before a guest runs: epochs must advance meanwhile."""
    if load32(&executor.ticking) == 0:
        store32(&executor.ticking, 1)
        wake_timekeeper(executor)


cdef bint executor_watch(executor_t *executor) noexcept nogil:
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


cdef void *_keep_time(void *argument) noexcept nogil:
    cdef executor_t *executor = <executor_t *>argument
    cdef int64_t now, due, tick_at = 0
    cdef int32_t seen, quiet = 0
    while load32(&executor.stopping) == 0:
        seen = load32(&executor.clock_word)
        now = monotonic_ns()
        if executor.world == NULL:             # whose time is not the timekeeper's
            serve_due(executor, now)
        if load32(&executor.ticking) != 0 and now >= tick_at:
            tick(executor)
            tick_at = now + executor.tick_ns
            quiet = 0 if _any_running(executor) else quiet + 1
            if quiet > LINGER_TICKS:
                _rest(executor)
                quiet = 0
        store64(&executor.clock_until_ns, INT64_MAX)
        if executor.world != NULL or not due_queue_next(executor.due, &due):
            due = INT64_MAX
        if due > now and due < now + REST_NS:
            due = now + REST_NS
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

cdef void _wait_until_settled(executor_t *executor, int64_t until_ns) noexcept nogil:
    cdef int32_t pending = load32(&executor.pending)
    cdef int64_t now = monotonic_ns()
    while pending != 0 and now < until_ns:
        futex_wait(&executor.pending, pending, until_ns - now)
        pending = load32(&executor.pending)
        now = monotonic_ns()


cdef void executor_doom_all(executor_t *executor) noexcept nogil:
    cdef guest_t *guest = any_live(executor, NULL)
    while guest != NULL:
        executor_doom(executor, guest, CAUSE_CANCELLED)
        guest_release(guest)
        guest = any_live(executor, NULL)


cdef void executor_close(executor_t *executor, int64_t grace_ns) noexcept nogil:
    cdef int64_t grace_until_ns = monotonic_ns() + grace_ns
    if swap32(&executor.closing, 1) != 0:
        while load32(&executor.closed) == 0:       # another thread closes it: until it is done
            futex_wait(&executor.closed, 0, -1)
        return
    while load32(&executor.starved) > 0:           # lanes that wait for room never get it
        batch_recall(executor)
    _wait_until_settled(executor, grace_until_ns)
    while load32(&executor.pending) != 0:          # one that was starting may come late
        executor_doom_all(executor)
        while load32(&executor.starved) > 0:
            batch_recall(executor)
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
    wake_timekeeper(executor)
    for index in range(executor.threads):
        pthread_join(executor.workers[index].thread, NULL)
    if executor.timekeeper_running:
        pthread_join(executor.timekeeper, NULL)

"""The guest record: all that one run of a module needs natively, and its output and log.

Rule: no Python object, no GIL. The record outlives the store, since a reader may come later; the
store never outlives its run. Output and log have a byte limit each and the log a ring of
log_lines_max entries: when a slow reader lets it overflow the oldest go and are counted, or, where
the log waits for its reader, the guest does at its next check. What it logs before that check is
kept as well, so there a line counts as many bytes as it takes here, also an empty one.
"""

from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcpy, memset, strlen

from spear._core cimport engineapi
from spear._core.filetable cimport DESCRIPTORS_MAX, file_table_free
from spear._core.channels cimport bell_release
from spear._core.hub cimport hub_push, hub_release, hub_retain
from spear._core.streams cimport streams_release
from spear._core.sync cimport *
from spear._core.world cimport *

cdef extern from "entropy.h" nogil:
    void entropy_fill(void *out, size_t size, int generation)

wasmtime_bind(engineapi.functions())

cdef const char *_TRUNCATED = "the log limit is reached: what follows is not kept"


cdef void _clear(guest_t *guest) noexcept nogil:
    """All but the lock, which is free."""
    memset(guest, 0, <size_t>(<char *>&guest.lock - <char *>guest))
    guest.refs = 1
    guest.trap_code = -1
    guest.exit_code = -1
    guest.priority = 128
    guest.execution_id = b""
    guest.descriptors_max = DESCRIPTORS_MAX


cdef guest_t *guest_new() noexcept nogil:
    cdef guest_t *guest = <guest_t *>malloc(sizeof(guest_t))
    if guest == NULL:
        return NULL
    pthread_mutex_init(&guest.lock, NULL)
    _clear(guest)
    return guest


cdef guest_t *guest_like(const guest_t *model) noexcept nogil:
    cdef guest_t *guest = guest_new()
    if guest != NULL:
        _copy(guest, model)
    return guest


cdef bint guest_renew(guest_t *guest, const guest_t *model) noexcept nogil:
    if load64(&guest.refs) != 1:
        return False
    _empty(guest)
    _clear(guest)
    _copy(guest, model)
    return True


cdef void _copy(guest_t *guest, const guest_t *model) noexcept nogil:
    guest.engine, guest.pre, guest.linker = model.engine, model.pre, model.linker
    guest.entry, guest.entry_size = model.entry, model.entry_size
    guest.memory_bytes_max, guest.table_elements_max = (
        model.memory_bytes_max, model.table_elements_max)
    guest.output_bytes_max, guest.log_bytes_max = model.output_bytes_max, model.log_bytes_max
    guest.log_lines_max, guest.log_stdout = model.log_lines_max, model.log_stdout
    guest.log_waits = model.log_waits
    guest.args, guest.args_size, guest.argc = model.args, model.args_size, model.argc
    guest.env, guest.env_size, guest.envc = model.env, model.env_size, model.envc
    guest.stdin_data, guest.stdin_size = model.stdin_data, model.stdin_size
    guest.priority, guest.initializes = model.priority, model.initializes
    guest.fiber_first = model.fiber_first
    guest.metered, guest.fuel_max = model.metered, model.fuel_max
    guest.objects = model.objects
    guest.descriptors_max = model.descriptors_max
    guest.post, guest.shim, guest.module = model.post, model.shim, model.module


cdef void guest_retain(guest_t *guest) noexcept nogil:
    add64(&guest.refs, 1)


cdef void guest_release(guest_t *guest) noexcept nogil:
    if add64(&guest.refs, -1) == 0:
        _empty(guest)
        pthread_mutex_destroy(&guest.lock)
        free(guest)


cdef void _empty(guest_t *guest) noexcept nogil:
    """Frees what the record owns. Nobody else holds it."""
    cdef uint64_t at
    if guest.ring != NULL:
        for at in range(guest.log_head, guest.log_tail):
            free(guest.ring[at % guest.ring_room])
        free(guest.ring)
    cdef int stream
    for stream in range(3):
        free(guest.partial[stream].data)
    cdef uint32_t index
    for index in range(guest.frame_count):
        free(guest.frames[index].name)
    free(guest.frames)
    free(guest.output.data)
    free(guest.values)
    free(guest.message)
    if guest.streams != NULL:
        streams_release(guest.streams)
    if guest.bell != NULL:
        bell_release(guest.bell)
    if guest.files != NULL:        # of one that never ran
        file_table_free(guest.files)
    if guest.warm != NULL:
        guest_release(guest.warm)


cdef bool_t _always(void *env) noexcept nogil:
    return True


cdef void guest_go_on(wasmtime_async_continuation_t *continuation) noexcept nogil:
    continuation.callback, continuation.env, continuation.finalizer = _always, NULL, NULL


cdef void guest_park(
    guest_t *guest, int64_t wake_ns, wasmtime_ready_t ready,
    wasmtime_async_continuation_t *continuation
) noexcept nogil:
    guest.wake_ns = wake_ns
    continuation.callback, continuation.env, continuation.finalizer = ready, guest, NULL


cdef wasm_trap_t *guest_stop() noexcept nogil:
    return wasmtime_trap_new("ended by the host", 17)


cdef guest_t *guest_of(wasmtime_caller_t *caller) noexcept nogil:
    return <guest_t *>wasmtime_context_get_data(wasmtime_caller_context(caller))


cdef uint8_t *guest_span(
    guest_t *guest, wasmtime_caller_t *caller, uint32_t at, uint64_t size
) noexcept nogil:
    if not guest.has_memory and (caller == NULL or not _find_memory(guest, caller)):
        return NULL
    cdef uint64_t have = wasmtime_memory_data_size(guest.context, &guest.memory)
    if size > have or at > have - size:
        return NULL
    return wasmtime_memory_data(guest.context, &guest.memory) + at


cdef bint _find_memory(guest_t *guest, wasmtime_caller_t *caller) noexcept nogil:
    cdef wasmtime_extern_t item
    if not wasmtime_caller_export_get(caller, "memory", 6, &item):
        return False
    if item.kind != WASMTIME_EXTERN_KIND_MEMORY:
        return False
    guest.memory = item.of.memory
    guest.has_memory = True
    return True


# ---- time, randomness, fuel

cdef uint64_t _fuel_left(guest_t *guest) noexcept nogil:
    cdef uint64_t left = guest.fuel_left
    if guest.metered and guest.context != NULL:
        wasmtime_context_get_fuel(guest.context, &left)
    return left


cdef void guest_count_fuel(guest_t *guest) noexcept nogil:
    cdef uint64_t left = _fuel_left(guest)
    if guest.world != NULL:
        guest.world.now_ns += <int64_t>(guest.fuel_left - left)
    guest.fuel_left = left


cdef uint64_t guest_fuel_used(guest_t *guest) noexcept nogil:
    return guest.fuel_max - guest.fuel_left + guest.charged


cdef void guest_charge(guest_t *guest, uint64_t units) noexcept nogil:
    if not guest.metered:
        return
    guest.charged += units
    if guest.charged > _fuel_left(guest):      # of fuel_max: used + charged > fuel_max
        guest_doom(guest, CAUSE_FUEL)
    if guest.world != NULL:
        guest.world.now_ns += <int64_t>units
        if guest_now_ns(guest) >= guest.deadline_ns:
            guest_doom(guest, CAUSE_DEADLINE)


cdef int64_t guest_now_ns(guest_t *guest) noexcept nogil:
    """In a world: its time when the slice began, and the fuel used since."""
    if guest.world == NULL:
        return monotonic_ns()
    return guest.world.now_ns + <int64_t>(guest.fuel_left - _fuel_left(guest))


cdef int64_t guest_wall_ns(guest_t *guest) noexcept nogil:
    if guest.world == NULL:
        return realtime_ns()
    return <int64_t>WALL_BEGIN_S * 1000000000 + guest_now_ns(guest)


cdef void guest_random(guest_t *guest, void *out, size_t size) noexcept nogil:
    cdef char *at = <char *>out
    cdef uint64_t word
    cdef size_t part
    guest_charge(guest, size)
    if guest.world == NULL:
        entropy_fill(out, size, engineapi.generation())
        return
    while size > 0:
        word = world_random(&guest.random_state)
        part = size if size < 8 else 8
        memcpy(at, &word, part)
        at, size = at + part, size - part


cdef uint64_t guest_trace(guest_t *guest, uint64_t detail) noexcept nogil:
    pthread_mutex_lock(&guest.lock)        # who cancels it logs that
    cdef uint64_t trace = guest.trace
    pthread_mutex_unlock(&guest.lock)
    return world_mix(trace, detail)


cdef uint64_t guest_input_hash(guest_t *guest) noexcept nogil:
    cdef uint64_t hash = world_hash(guest.trace, guest.args, guest.args_size)
    hash = world_hash(hash, guest.env, guest.env_size)
    hash = world_hash(hash, guest.stdin_data, guest.stdin_size)
    hash = world_hash(hash, guest.entry, guest.entry_size)
    return world_mix(hash, <uint64_t>guest.deadline_ns)


cdef bint guest_doom(guest_t *guest, int32_t cause) noexcept nogil:
    return cas32(&guest.kill, CAUSE_NONE, cause)


cdef void guest_signal(guest_t *guest) noexcept nogil:
    add32(&guest.events, 1)
    if load32(&guest.waiters) != 0:
        futex_wake(&guest.events, 0x7FFFFFFF)
    if load32(&guest.watch_news) != 0:
        guest_tell(guest)


cdef bint guest_has_news(guest_t *guest) noexcept nogil:
    pthread_mutex_lock(&guest.lock)
    cdef bint news = (
        guest.output.size > guest.output_read or guest.log_tail > guest.log_head)
    pthread_mutex_unlock(&guest.lock)
    return news


cdef Watch guest_watch(guest_t *guest, hub_t *hub, bint news) noexcept nogil:
    if news:
        swap32(&guest.watch_news, 1)
    cdef bint ours = load_ptr(&guest.hub) == hub
    if not ours:
        hub_retain(hub)
        if not cas_ptr(&guest.hub, NULL, hub):
            hub_release(hub)
            return LOOK_AGAIN if load32(&guest.state) == ENDED else ELSEWHERE
    if load32(&guest.state) != ENDED and not (news and guest_has_news(guest)):
        return WATCHED
    if not ours and cas_ptr(&guest.hub, hub, NULL):
        hub_release(hub)
    return LOOK_AGAIN


cdef void guest_unwatch(guest_t *guest, hub_t *hub) noexcept nogil:
    if cas_ptr(&guest.hub, hub, NULL):
        hub_release(hub)


cdef void guest_let_go(void *guest) noexcept nogil:
    guest_release(<guest_t *>guest)


cdef void guest_tell(guest_t *guest) noexcept nogil:
    """Whoever swaps the hub out does the telling."""
    cdef hub_t *hub = <hub_t *>swap_ptr(&guest.hub, NULL)
    if hub == NULL:
        return
    store32(&guest.watch_news, 0)
    guest_retain(guest)
    hub_push(hub, guest, guest_let_go)
    hub_release(hub)


cdef bint _reserve(byte_buffer *buffer, size_t more) noexcept nogil:
    if buffer.room - buffer.size >= more:
        return True
    cdef size_t room = buffer.room * 2
    if room < buffer.size + more:
        room = buffer.size + more
    if room < BUFFER_ROOM_MIN:
        room = BUFFER_ROOM_MIN
    cdef char *data = <char *>realloc(buffer.data, room)
    if data == NULL:
        return False
    buffer.data, buffer.room = data, room
    return True


cdef bint _append(byte_buffer *buffer, const char *data, size_t size) noexcept nogil:
    if size == 0:
        return True
    if not _reserve(buffer, size):
        return False
    memcpy(buffer.data + buffer.size, data, size)
    buffer.size += size
    return True


cdef bint _ring_place(guest_t *guest) noexcept nogil:
    """A free place at the tail: the ring grows up to its limit, then the oldest entry goes."""
    cdef uint64_t at, room = guest.ring_room * 2 if guest.ring_room else RING_ROOM_MIN
    cdef uint64_t room_max = RING_ROOM_MAX if guest.log_waits else guest.log_lines_max
    cdef log_entry **ring
    if guest.log_tail - guest.log_head < guest.ring_room:
        return True
    if guest.ring_room >= room_max:
        if guest.ring_room == 0:
            return False
        free(guest.ring[guest.log_head % guest.ring_room])
        guest.log_head += 1
        guest.log_lost += 1
        return True
    if room > room_max:
        room = room_max
    ring = <log_entry **>malloc(room * sizeof(log_entry *))
    if ring == NULL:
        return False
    for at in range(guest.log_head, guest.log_tail):
        ring[at % room] = guest.ring[at % guest.ring_room]
    free(guest.ring)
    guest.ring, guest.ring_room = ring, room
    return True


cdef int64_t _log_time_ms(guest_t *guest) noexcept nogil:
    """Lines are logged by other threads too, so a running guest's fuel is not looked at."""
    if guest.world == NULL:
        return realtime_ns() // 1000000
    return <int64_t>WALL_BEGIN_S * 1000 + guest.world.now_ns // 1000000


cdef void _log_locked(
    guest_t *guest, int level, int stream, const char *text, size_t size
) noexcept nogil:
    cdef size_t counted = size + sizeof(log_entry) if guest.log_waits else size
    if guest.log_truncated:
        return
    if (guest.log_bytes + counted > guest.log_bytes_max
            or guest.log_lines - guest.log_lines_before >= LINES_MAX):
        guest.log_truncated, counted = True, 0
        level, stream, text, size = LEVEL_WARN, STREAM_LOG, _TRUNCATED, strlen(_TRUNCATED)
    cdef log_entry *entry = <log_entry *>malloc(sizeof(log_entry) + size)
    if entry == NULL or not _ring_place(guest):
        free(entry)
        guest.log_lost += 1
        return
    guest.log_bytes += counted
    guest.log_lines += 1
    if guest.world != NULL:
        guest.trace = world_hash(guest.trace ^ <uint64_t>level, text, size)
    entry.seq, entry.time_ms = guest.log_lines, _log_time_ms(guest)
    entry.level, entry.stream, entry.size = <uint8_t>level, <uint8_t>stream, <uint32_t>size
    if size > 0:
        memcpy(entry.text, text, size)
    guest.ring[guest.log_tail % guest.ring_room] = entry
    guest.log_tail += 1
    if guest.log_waits and guest.log_tail - guest.log_head == guest.log_lines_max:
        wasmtime_engine_increment_epoch(guest.engine)  # so that it looks at once: see execution


cdef void guest_log(
    guest_t *guest, int level, int stream, const char *text, size_t size
) noexcept nogil:
    pthread_mutex_lock(&guest.lock)
    _log_locked(guest, level, stream, text, size)
    pthread_mutex_unlock(&guest.lock)
    guest_signal(guest)


cdef void _flush_line(guest_t *guest, int stream) noexcept nogil:
    cdef byte_buffer *line = &guest.partial[stream]
    _log_locked(
        guest, LEVEL_ERROR if stream == STREAM_STDERR else LEVEL_INFO, stream, line.data, line.size)
    line.size = 0


cdef void _split_lines(guest_t *guest, int stream, const char *data, size_t size) noexcept nogil:
    """Adds to the stream's unfinished line; each newline, or LINE_BYTES_MAX, ends one."""
    cdef byte_buffer *line = &guest.partial[stream]
    cdef const char *newline
    cdef size_t part
    cdef bint whole
    while size > 0 and not guest.log_truncated:
        newline = <const char *>memchr(data, 10, size)
        part = newline - data if newline != NULL else size
        whole = newline != NULL or part > LINE_BYTES_MAX - line.size
        if part > LINE_BYTES_MAX - line.size:
            part, newline = LINE_BYTES_MAX - line.size, NULL
        if not _append(line, data, part):
            guest.log_lost += 1
            return
        data, size = data + part, size - part
        if whole:
            _flush_line(guest, stream)
        if newline != NULL:
            data, size = data + 1, size - 1


cdef bint _write_piece(guest_t *guest, int stream, const char *data, size_t size) noexcept nogil:
    cdef bint fits = True
    pthread_mutex_lock(&guest.lock)
    if stream == STREAM_STDOUT:
        fits = guest.output.size + size <= guest.output_bytes_max
        fits = fits and _append(&guest.output, data, size)
        if guest.world != NULL:
            guest.trace = world_hash(guest.trace, data, size)
    if fits and (stream == STREAM_STDERR or guest.log_stdout):
        _split_lines(guest, stream, data, size)
    pthread_mutex_unlock(&guest.lock)
    return fits


cdef bint guest_write(guest_t *guest, int stream, const char *data, size_t size) noexcept nogil:
    """In pieces, so that a reader never waits long for the lock."""
    cdef bint fits = True
    cdef size_t piece
    guest_charge(guest, size)
    while fits and size > 0:
        piece = size if size < WRITE_PIECE else WRITE_PIECE
        fits = _write_piece(guest, stream, data, piece)
        data, size = data + piece, size - piece
    guest_signal(guest)
    return fits


cdef void guest_flush_lines(guest_t *guest) noexcept nogil:
    cdef int stream
    if guest.partial[<int>STREAM_STDOUT].size + guest.partial[<int>STREAM_STDERR].size == 0:
        return                     # only its own writes change that
    pthread_mutex_lock(&guest.lock)
    for stream in range(1, 3):
        if guest.partial[stream].size > 0:
            _flush_line(guest, stream)
    pthread_mutex_unlock(&guest.lock)


cdef size_t guest_take_output(guest_t *guest, char *out, size_t size) noexcept nogil:
    cdef size_t there
    pthread_mutex_lock(&guest.lock)
    there = guest.output.size - guest.output_read
    if size > there:               # another reader was quicker
        size = there
    if size > 0:
        memcpy(out, guest.output.data + guest.output_read, size)
    guest.output_read += size
    pthread_mutex_unlock(&guest.lock)
    return size


cdef bint guest_log_full(guest_t *guest) noexcept nogil:
    pthread_mutex_lock(&guest.lock)
    guest.log_stopped = guest.log_tail - guest.log_head >= guest.log_lines_max
    cdef bint stopped = guest.log_stopped
    pthread_mutex_unlock(&guest.lock)
    return stopped


cdef size_t guest_take_logs(
    guest_t *guest, log_entry **out, size_t count, bint *room
) noexcept nogil:
    cdef size_t taken = 0
    pthread_mutex_lock(&guest.lock)
    while taken < count and guest.log_head < guest.log_tail:
        out[taken] = guest.ring[guest.log_head % guest.ring_room]
        guest.log_head += 1
        taken += 1
    room[0] = guest.log_stopped and guest.log_tail - guest.log_head <= guest.log_lines_max // 2
    if room[0]:
        guest.log_stopped = False
    pthread_mutex_unlock(&guest.lock)
    return taken

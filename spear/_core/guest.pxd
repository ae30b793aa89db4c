"""The guest record: all that one run of a module needs natively, and its output and log.

Shared by the import tables (hostabi, wasi) and the executor. A record is counted: whoever keeps a
pointer holds a reference. Fields under "owner" belong to the thread that has the guest in state
RUNNING; the rest are atomic, or guarded by `lock` as stated.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t, uint8_t

from spear._core.channels cimport bell_t
from spear._core.engineapi cimport *
from spear._core.filetable cimport file_table_t
from spear._core.hub cimport hub_t
from spear._core.streams cimport streams_t
from spear._core.sync cimport pthread_mutex_t
from spear._core.world cimport world_t

cdef enum:
    LOG_LINES = 2048           # kept for a reader, unless the run asks for more
    LOG_LINES_MAX = 262144
    RING_ROOM_MIN = 4          # most guests log little, and ten thousand of them may wait
    BUFFER_ROOM_MIN = 64
    LINE_BYTES_MAX = 16384     # longer lines of stdout and stderr are logged in pieces
    LINES_MAX = 1000000        # of one log: short ones count few bytes
    RING_ROOM_MAX = 1048576    # of a log that waits for its reader: no line of it is lost
    WRITE_PIECE = 16384        # written under one hold of the lock
    FRAMES_MAX = 64            # of a backtrace
    FRAME_NAME_BYTES_MAX = 256
    MESSAGE_BYTES_MAX = 4096   # of the engine's, of which the end is kept: there is the cause
    EXECUTION_ID_MAX = 64

cdef enum GuestState:
    QUEUED = 0                 # in a run queue, which holds a reference
    RUNNING = 1                # one thread polls it
    NOTIFIED = 2               # running, and a reply came meanwhile
    PARKED = 3                 # waits inside a hostcall
    ENDED = 4

cdef enum Cause:
    CAUSE_NONE = 0
    CAUSE_EXIT = 1
    CAUSE_TRAP = 2
    CAUSE_DEADLINE = 3
    CAUSE_CANCELLED = 4
    CAUSE_OUTPUT = 5           # wrote more than its output limit
    CAUSE_INSTANTIATE = 6      # could not be instantiated: no room, limits
    CAUSE_MEMORY = 7           # the host had no memory for it
    CAUSE_FUEL = 8             # it used up its fuel
    CAUSES = 9                 # how many there are

cdef enum Stage:               # of a run, as far as it has come
    STAGE_NEW = 0
    STAGE_INSTANTIATE = 1
    STAGE_INITIALIZE = 2       # a reactor's `_initialize`
    STAGE_CALL = 3             # its entry

cdef enum Watch:
    WATCHED = 0                # the hub will be told
    LOOK_AGAIN = 1             # there is something to see already
    ELSEWHERE = 2              # another hub watches it

cdef enum:
    TABLES_MAX = 4             # of one module

cdef enum Stream:
    STREAM_LOG = 0
    STREAM_STDOUT = 1
    STREAM_STDERR = 2

cdef enum LogLevel:
    LEVEL_INFO = 2
    LEVEL_WARN = 3
    LEVEL_ERROR = 4

cdef struct log_entry:
    uint64_t seq
    int64_t time_ms
    uint8_t level
    uint8_t stream
    uint32_t size
    char text[1]               # `size` bytes, allocated behind

cdef struct byte_buffer:
    char *data
    size_t size
    size_t room

cdef struct trace_frame:
    uint32_t index
    uint64_t offset
    char *name                 # UTF-8, owned; NULL where the guest has none

cdef struct guest_t:
    # life: atomic
    int64_t refs
    int32_t state              # GuestState
    int32_t kill               # Cause that ends it; 0: none
    int32_t events             # futex: counts what a waiter may want to see
    int32_t waiters
    void *hub                  # hub_t that is to be told, once, or NULL
    int32_t watch_news         # told of output and log lines too, not only of the end

    # engine: owner
    wasm_engine_t *engine
    const wasmtime_instance_pre_t *pre
    const wasmtime_linker_t *linker
    wasmtime_store_t *store
    wasmtime_context_t *context
    wasmtime_call_future_t *future
    wasmtime_instance_t instance
    wasmtime_func_t func
    wasm_trap_t *trap
    wasmtime_error_t *error
    wasmtime_memory_t memory
    bint has_memory
    int32_t stage              # Stage
    bint fiber_first           # is instantiated on a fiber, not in place
    bint initializes           # has an `_initialize` to be called before the entry
    const char *entry          # NUL-terminated, kept alive by the run; NULL: none is called
    uint32_t entry_size
    wasmtime_val_t *values     # owned: arguments, and behind them results
    uint32_t value_count       # arguments
    uint32_t result_count

    # warm instances: a store that outlives its calls
    guest_t *warm              # the record whose store this run borrows, retained; NULL: its own
    bint keeps                 # the store stays when the run ends well
    int32_t lent               # atomic: a call is under way in this store

    # fuel
    bint metered               # the engine counts
    uint64_t fuel_max
    uint64_t fuel_left

    # the world it lives in
    world_t *world             # NULL: the machine's clocks and randomness
    uint32_t number            # in that world, from 1
    uint64_t random_state
    uint64_t trace             # hash of what it wrote and logged

    # accounting: owner
    int64_t slices             # that it used up
    int64_t parks
    int64_t cpu_ns
    bint paused                # a world's guest that ran long by the machine's clock: no step
    uint64_t charged           # fuel for what hostcalls did for it

    # park: owner
    bint parking
    bint yielded
    int32_t relayed            # atomic: its turn has come (trial.pyx)
    int64_t wake_ns            # as of guest_now_ns; INT64_MAX: only a reply wakes it
    int64_t slice_until_ns     # the machine's monotonic clock: others may run from then on

    uint32_t wait_at[4]        # its arguments
    int64_t wait_began_ns      # as of guest_now_ns
    wasmtime_func_t inner_wait  # of its store, where a hostcall has waited so (innerwaits)
    void *executor             # who runs it
    int32_t home               # worker that ran it last
    uint8_t priority           # 0 is the most urgent
    int32_t shelf              # which list of live guests it stands in
    guest_t *previous          # in that list, under its lock
    guest_t *following
    int64_t due_ns             # when its last entry in the due queue was due; 0: it had none
    void *batch                # what it is one of, or NULL
    int64_t batch_number
    bint counted               # takes room and holds what it needs itself, not by its lane

    # calls that Python answers, and tools (post.pxd, shim.pxd): owner
    void *post                 # post_t of who runs it, borrowed; NULL: Python answers nothing
    void *start_context        # what its start was given, kept by the run; NULL: nothing
    void *asked                # request_t: calls under way, the innermost first
    uint64_t unanswered        # bit op % 64: a warning was given for it
    void *shim                 # shim_t of its module, borrowed; NULL: it imports no send
    const wasmtime_module_t *module
    wasmtime_instance_pre_t *own_pre    # linked to its own shim, until it is instantiated
    wasmtime_table_t slots     # of its shim: the tools to be called
    wasmtime_table_t functions
    bint has_functions         # it was looked for its exported table, and has one
    int32_t sends              # under way, one inside another

    # limits
    int64_t deadline_ns        # as of guest_now_ns
    int64_t memory_bytes_max
    int64_t table_elements_max
    size_t output_bytes_max
    size_t log_bytes_max
    uint64_t log_lines_max     # kept for a reader
    bint log_waits             # with as many unread lines it waits; each counts its entry as well
    bint log_stdout

    # input: borrowed from the run
    const char *args           # argc NUL-terminated strings, one behind another
    size_t args_size
    uint32_t argc
    const char *env
    size_t env_size
    uint32_t envc
    const char *stdin_data
    size_t stdin_size
    size_t stdin_at
    uint64_t warned            # bit n: a warning was given for unserved import n

    # objects: owner
    const void *objects        # lease_t (objlease), kept by the run; NULL: no store
    bint durable_warned

    # WASI descriptors: owner
    file_table_t *files        # NULL: the three streams, as they began
    int32_t descriptors_max    # of WASI's, and as many of SPEAR's

    # output and log: under lock, which stands last
    byte_buffer output
    size_t output_read
    byte_buffer partial[3]     # unfinished line of each stream
    log_entry **ring           # ring_room places, grown up to _ring_room_max
    uint64_t ring_room
    uint64_t log_head          # entries taken by the reader
    uint64_t log_tail          # entries written
    uint64_t log_lines
    uint64_t log_lines_before  # of earlier calls in place
    uint64_t log_lost
    size_t log_bytes
    bint log_truncated
    bint log_stopped           # it waits, or is about to

    # descriptors: made when first used
    void *fds                  # fd_table, or NULL: owner
    void *kept                 # kept_t (hosthandles): bodies behind closed ones, or NULL: owner
    bell_t *bell               # or NULL: atomic, made by any thread, kept until the record goes
    streams_t *streams         # likewise
    int32_t streams_over       # the end has come: atomic
    wasmtime_val_t *wait_result    # of the pending call: owner
    const char *execution_id   # kept by the run; "" where it was given none

    # outcome: written before ENDED, then constant
    int32_t cause
    bint exited
    int32_t exit_code
    int32_t trap_code          # -1: none
    char *message              # owned
    trace_frame *frames        # innermost first, frame_count of them
    uint32_t frame_count
    int64_t started_ns         # Unix time
    int64_t began_ns           # as of guest_now_ns
    int64_t ended_ns
    uint64_t memory_bytes

    pthread_mutex_t lock

cdef guest_t *guest_new() noexcept nogil
# A fresh record with the model's module, limits and input, which the model's owner keeps.
cdef guest_t *guest_like(const guest_t *model) noexcept nogil
# The same in a record whose run has ended; False, and nothing done, where others hold it still.
cdef bint guest_renew(guest_t *guest, const guest_t *model) noexcept nogil
cdef void guest_retain(guest_t *guest) noexcept nogil
cdef void guest_release(guest_t *guest) noexcept nogil

# Leaves a hostcall waiting: until `wake_ns` at the latest, or until `ready` says so when polled.
cdef void guest_park(
    guest_t *guest, int64_t wake_ns, wasmtime_ready_t ready,
    wasmtime_async_continuation_t *continuation) noexcept nogil
# Leaves it at once.
cdef void guest_go_on(wasmtime_async_continuation_t *continuation) noexcept nogil
# The trap that ends a guest which asked for its end, or whose end was asked for.
cdef wasm_trap_t *guest_stop() noexcept nogil

# Monotonic and Unix time, and randomness, as its world has them.
cdef int64_t guest_now_ns(guest_t *guest) noexcept nogil
cdef int64_t guest_wall_ns(guest_t *guest) noexcept nogil
cdef void guest_random(guest_t *guest, void *out, size_t size) noexcept nogil
cdef uint64_t guest_fuel_used(guest_t *guest) noexcept nogil
# What a record of its world says of it: `detail`, and all it wrote and logged so far.
cdef uint64_t guest_trace(guest_t *guest, uint64_t detail) noexcept nogil
cdef uint64_t guest_input_hash(guest_t *guest) noexcept nogil
# Counts the fuel used since the last look; its world's time goes on by as much.
cdef void guest_count_fuel(guest_t *guest) noexcept nogil

# Fuel for what a hostcall does in the guest's stead, about one unit a byte; where there is no more,
# or its world's time is up, its end is asked for.
cdef void guest_charge(guest_t *guest, uint64_t units) noexcept nogil

# The guest behind a hostcall.
cdef guest_t *guest_of(wasmtime_caller_t *caller) noexcept nogil
# `size` bytes of the guest's memory at `at`, valid until the guest runs again; NULL if not inside.
# `caller` is NULL for a guest that waits inside a call, whose memory was found when it began.
cdef uint8_t *guest_span(
    guest_t *guest, wasmtime_caller_t *caller, uint32_t at, uint64_t size) noexcept nogil
# Asks that the guest be ended with `cause`; the first cause stays. It ends at its next check.
cdef bint guest_doom(guest_t *guest, int32_t cause) noexcept nogil

# One log line; cut where the log's limit is reached.
cdef void guest_log(
    guest_t *guest, int level, int stream, const char *text, size_t size) noexcept nogil
# Bytes for stdout or stderr: output, and log lines. False once the output limit is passed.
cdef bint guest_write(guest_t *guest, int stream, const char *data, size_t size) noexcept nogil
# Logs what stands in unfinished lines.
cdef void guest_flush_lines(guest_t *guest) noexcept nogil
# Tells waiters, and a hub that wants to know, that there is something new.
cdef void guest_signal(guest_t *guest) noexcept nogil
# Whether output or log lines wait for a reader.
cdef bint guest_has_news(guest_t *guest) noexcept nogil
# Has `hub` told once: of the end or, with `news`, of anything to read.
cdef Watch guest_watch(guest_t *guest, hub_t *hub, bint news) noexcept nogil
# Takes the hub's wish back; it may have been told already.
cdef void guest_unwatch(guest_t *guest, hub_t *hub) noexcept nogil
# Tells the hub, if there is one; after ENDED is visible, or after news.
cdef void guest_tell(guest_t *guest) noexcept nogil
cdef void guest_let_go(void *guest) noexcept nogil
# Copies up to `size` bytes of stdout that were not taken before; how many.
cdef size_t guest_take_output(guest_t *guest, char *out, size_t size) noexcept nogil
# Takes up to `count` entries; the caller frees each and, with `room`, wakes the guest.
cdef size_t guest_take_logs(
    guest_t *guest, log_entry **out, size_t count, bint *room) noexcept nogil
# Whether the guest is to wait now until its log is read; who reads it wakes it.
cdef bint guest_log_full(guest_t *guest) noexcept nogil

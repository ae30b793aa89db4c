"""The contract of calls that Python answers; see post.pyx."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from spear._core.engineapi cimport *
from spear._core.guest cimport guest_t
from spear._core.hub cimport hub_t
from spear._core.imports cimport import_row, posted_row
from spear._core.nativehandles cimport handle_t
from spear._core.toolcalls cimport tool_plan

cdef enum:
    LETTERS_MAX = 8                # of a shape
    OPS = 256                      # operation codes are below
    OBJECT_PUT = 17                # of a durable put; others' stand with their rows

cdef enum Turn:
    TURN_PYTHON = 0                # asked, and not answered yet
    TURN_GUEST = 1                 # answered
    TURN_GONE = 2                  # the guest has ended: nobody waits for an answer

# Gives a promised handle a number in the guest's table, or takes the promise and gives an error.
# The guest's own thread only.
ctypedef int32_t (*open_t)(guest_t *guest, handle_t *handle) noexcept nogil


cdef struct post_t:                # where an executor's guests post their calls
    hub_t *hub
    uint8_t answers[OPS]           # 1: there is a handler
    bint drafts                    # sessions are opened and written natively
    open_t open                    # hosthandles', which stands above this file


cdef struct request_t:             # one call, from its beginning to its result
    int32_t topic                  # TOPIC_REQUEST
    int64_t refs
    int32_t turn                   # Turn, atomic: whose the fields below are
    guest_t *guest                 # retained
    hub_t *hub
    void *call                     # Python's Call of it, which the door keeps; NULL: none
    const posted_row *row
    request_t *below               # of the same guest, begun before this
    wasmtime_val_t *results        # of the hostcall, where the engine keeps them while it waits

    # the question; its numbers stand last
    uint8_t *bytes                 # of all letters, one behind another
    int32_t out_at
    int32_t len_at
    bint gives                     # it has room for bytes out
    handle_t *handle               # the descriptor that it names, retained; NULL: none

    # the answer
    int32_t status                 # 0 with bytes out stands for their size
    uint8_t *data                  # owned; NULL: no bytes out
    uint32_t size
    handle_t *opening              # promised: its number is the result; NULL: none
    bint more                      # not the last word: run this tool first, and ask again
    int64_t function               # in the guest's table
    int64_t arena_at
    int64_t arena_size
    int64_t out_max

    # the tool's result, part of the next question
    tool_plan plan
    bint retried
    int32_t tool_status
    uint8_t *output                # owned
    uint32_t output_size

    int64_t values[LETTERS_MAX]    # a letter's number, or how many bytes came with it


# Fills an import row that Python answers; for the files that hold import tables.
cdef void post_row(import_row *row, posted_row *posted) noexcept

# Such a row's hostcall, for those that answer a part of it in place; `env` is the posted_row.
cdef void post_call(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation) noexcept nogil

# A hostcall's common beginning: the request with its arguments copied, or NULL and why.
cdef request_t *request_begin(
    guest_t *guest, wasmtime_caller_t *caller, const posted_row *row, const wasmtime_val_t *args,
    int32_t *error) noexcept nogil
# The same for a call that has checked its arguments itself, of shape "bI"; NULL: no memory.
cdef request_t *request_about(
    guest_t *guest, const posted_row *row, const uint8_t *data, uint32_t size, int64_t number
) noexcept nogil
# Gives it to Python. False: no memory.
cdef bint request_ask(request_t *request) noexcept nogil
# What the answer gives where it is a descriptor: its number or an error; else its status.
cdef int32_t request_status(guest_t *guest, request_t *request) noexcept nogil
# Frees the guest's innermost request, which is not Python's turn.
cdef void request_close(guest_t *guest) noexcept nogil
# The guest has ended: all its requests are gone, and Python hears of it. Its owner only.
cdef void requests_leave(guest_t *guest) noexcept nogil

# Python's side. True: the guest is to be woken; False: it is gone.
cdef bint request_answer(request_t *request) noexcept nogil
cdef void request_retain(request_t *request) noexcept nogil
cdef void request_release(request_t *request) noexcept nogil
# No guest will take what was opened for it, which closes now: others may keep the request longer.
cdef void request_untaken(request_t *request) noexcept nogil
cdef void request_let_go(void *request) noexcept nogil
# Bytes of an answer, or of a tool's output, in place of what was there. False: no memory.
cdef bint bytes_replace(
    uint8_t **place, uint32_t *size, const uint8_t *data, uint32_t data_size) noexcept nogil

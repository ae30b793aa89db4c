"""The deterministic world that guests may live in instead of real time; see world.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from spear._core.sync cimport pthread_mutex_t

cdef enum:
    SLICE_FUEL = 100000            # a slice; also 0.1 ms, since one unit of fuel is one nanosecond
    WALL_BEGIN_S = 1577836800      # the Unix time at which every world begins: 2020-01-01

cdef enum StepKind:
    STEP_START = 1                 # a guest was started; detail: hash of its input
    STEP_SLICE = 2                 # it used up its slice
    STEP_PARK = 3                  # it waits; detail: until when
    STEP_END = 4                   # detail: exit code and cause
    STEP_CLOCK = 5                 # nothing could run: time went on to what is due


cdef struct step_t:
    uint64_t number                # from 1
    uint8_t kind
    uint32_t guest                 # from 1 in the order of starting; 0: none
    int64_t now_ns                 # since the world began, after the step
    uint64_t fuel                  # the guest has used in all
    uint64_t detail
    uint64_t digest                # of this step and all before it


cdef struct world_t:
    pthread_mutex_t lock           # recursive: held for a step, a start, an end from outside
    void *current                  # guest_t that was paused within its slice; a queue entry
    int64_t now_ns                 # monotonic time
    uint64_t seed
    uint32_t guests                # started
    uint64_t steps                 # taken
    uint64_t digest
    bint recording
    step_t *records                # not taken yet, `record_count` of them
    size_t record_count
    size_t record_room
    uint64_t lost                  # records for which there was no memory
    uint64_t *expected             # digests that the steps must have, or NULL
    uint64_t expected_count
    uint64_t diverged              # number of the first step that had another; 0: none


cdef world_t *world_new(uint64_t seed) noexcept nogil
cdef void world_free(world_t *world) noexcept nogil
cdef uint64_t world_mix(uint64_t hash, uint64_t value) noexcept nogil
cdef uint64_t world_hash(uint64_t hash, const void *data, size_t size) noexcept nogil
# Takes note of a step. False where it is not the one that was expected.
cdef bint world_note(
    world_t *world, StepKind kind, uint32_t guest, uint64_t fuel, uint64_t detail) noexcept nogil
# The next 64 bits of a guest's own stream; `state` begins with what world_stream gives.
cdef uint64_t world_stream(world_t *world, uint32_t guest) noexcept nogil
cdef uint64_t world_random(uint64_t *state) noexcept nogil

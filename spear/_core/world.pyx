"""A deterministic world: a clock that only work moves, seeded randomness, and a record of steps.

Rule: nothing here asks the machine. Time is counted in fuel, one nanosecond a unit, and jumps to
what is due when no guest can run. Each step's digest covers all steps before it, so two runs that
agree in one digest agree in everything up to there. The generator is splitmix64: it repeats, it
does not keep secrets.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy

from spear._core.sync cimport pthread_mutex_destroy, recursive_mutex_init

cdef enum:
    RECORDS_MIN = 1024


cdef world_t *world_new(uint64_t seed) noexcept nogil:
    cdef world_t *world = <world_t *>calloc(1, sizeof(world_t))
    if world != NULL:
        recursive_mutex_init(&world.lock)
        world.seed, world.digest = seed, world_mix(<uint64_t>0x5350454152, seed)
    return world


cdef void world_free(world_t *world) noexcept nogil:
    if world != NULL:
        pthread_mutex_destroy(&world.lock)
        free(world.records)
        free(world.expected)
        free(world)


cdef uint64_t world_mix(uint64_t hash, uint64_t value) noexcept nogil:
    """A bijection of either argument while the other stands still, so no single change is lost."""
    hash = (hash ^ value) * <uint64_t>0x9E3779B97F4A7C15
    hash = (hash ^ (hash >> 32)) * <uint64_t>0xD6E8FEB86659FD93
    return hash ^ (hash >> 29)


cdef uint64_t world_hash(uint64_t hash, const void *data, size_t size) noexcept nogil:
    """The bytes, little-endian words at a time, and then their number."""
    cdef const char *at = <const char *>data
    cdef size_t left = size
    cdef uint64_t word
    while left > 0:
        word = 0
        memcpy(&word, at, left if left < 8 else 8)
        hash = world_mix(hash, word)
        if left <= 8:
            break
        at, left = at + 8, left - 8
    return world_mix(hash, size)


cdef bint _reserve(world_t *world) noexcept nogil:
    cdef size_t room = world.record_room * 2 if world.record_room else RECORDS_MIN
    cdef step_t *records
    if world.record_count < world.record_room:
        return True
    records = <step_t *>realloc(world.records, room * sizeof(step_t))
    if records == NULL:
        return False
    world.records, world.record_room = records, room
    return True


cdef bint _is_expected(world_t *world) noexcept nogil:
    if world.expected == NULL or world.diverged != 0:
        return world.diverged == 0
    if world.steps > world.expected_count or world.expected[world.steps - 1] != world.digest:
        world.diverged = world.steps
    return world.diverged == 0


cdef bint world_note(
    world_t *world, StepKind kind, uint32_t guest, uint64_t fuel, uint64_t detail
) noexcept nogil:
    cdef step_t *step = NULL
    cdef uint64_t hash = world_mix(world.digest, <uint64_t>guest << 8 | <uint64_t>kind)
    hash = world_mix(world_mix(hash, <uint64_t>world.now_ns), fuel)
    world.digest = world_mix(hash, detail)
    world.steps += 1
    if world.recording and not _reserve(world):
        world.lost += 1
    elif world.recording:
        step = &world.records[world.record_count]
        step.number, step.kind, step.guest = world.steps, kind, guest
        step.now_ns, step.fuel, step.detail = world.now_ns, fuel, detail
        step.digest = world.digest
        world.record_count += 1
    return _is_expected(world)


cdef uint64_t world_stream(world_t *world, uint32_t guest) noexcept nogil:
    return world_mix(world_mix(guest, 0), world.seed)


cdef uint64_t world_random(uint64_t *state) noexcept nogil:
    cdef uint64_t value
    state[0] += <uint64_t>0x9E3779B97F4A7C15
    value = state[0]
    value = (value ^ (value >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    value = (value ^ (value >> 27)) * <uint64_t>0x94D049BB133111EB
    return value ^ (value >> 31)

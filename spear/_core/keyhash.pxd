"""SipHash-1-3 of a key: guests choose keys, so the hash has a secret and no known collisions.

Rule: pure arithmetic, no memory but the key. Source: Aumasson and Bernstein, "SipHash", 2012, in
the 1-3 rounds that CPython and Rust use for their tables.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

cdef struct SipState:
    uint64_t a
    uint64_t b
    uint64_t c
    uint64_t d


cdef inline uint64_t rotated(uint64_t word, int bits) noexcept nogil:
    return word << bits | word >> (64 - bits)


cdef inline void sip_round(SipState *s) noexcept nogil:
    s.a += s.b
    s.b = rotated(s.b, 13) ^ s.a
    s.a = rotated(s.a, 32)
    s.c += s.d
    s.d = rotated(s.d, 16) ^ s.c
    s.a += s.d
    s.d = rotated(s.d, 21) ^ s.a
    s.c += s.b
    s.b = rotated(s.b, 17) ^ s.c
    s.c = rotated(s.c, 32)


cdef inline uint64_t key_hash(
    const unsigned char *key, uint32_t key_bytes, const uint64_t *secret
) noexcept nogil:
    cdef SipState s
    cdef uint64_t word
    cdef uint32_t rest = key_bytes
    s.a = secret[0] ^ 0x736f6d6570736575ULL
    s.b = secret[1] ^ 0x646f72616e646f6dULL
    s.c = secret[0] ^ 0x6c7967656e657261ULL
    s.d = secret[1] ^ 0x7465646279746573ULL
    while rest >= 8:
        memcpy(&word, key, 8)
        s.d ^= word
        sip_round(&s)
        s.a ^= word
        key += 8
        rest -= 8
    word = 0
    memcpy(&word, key, rest)
    word |= <uint64_t>key_bytes << 56
    s.d ^= word
    sip_round(&s)
    s.a ^= word
    s.c ^= 0xFF
    sip_round(&s)
    sip_round(&s)
    sip_round(&s)
    return s.a ^ s.b ^ s.c ^ s.d

"""The plain statement of spear/_core/logwalk.pyx."""

from __future__ import annotations

from struct import Struct

BLOCK_BYTES = 32768
HEAD = Struct("<4xHB")  # checksum, length, kind
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4
BATCH = Struct("<QI")
SEQUENCE_MAX = (1 << 56) - 1


def walked(data: bytes) -> tuple[int, int, int, bool]:
    first, behind, end = _spanned(data)
    return first, behind, end, any(data[end:])


def _spanned(data: bytes) -> tuple[int, int, int]:
    at = first = behind = 0
    beginning: bytes | None = None  # of a record whose last piece has not come
    while at + HEAD.size <= len(data):
        left = BLOCK_BYTES - at % BLOCK_BYTES
        if left < HEAD.size:
            at += left
            continue
        length, kind = HEAD.unpack_from(data, at)
        if not WHOLE <= kind <= LAST or HEAD.size + length > left:
            return first, behind, at
        start, at = at + HEAD.size, at + HEAD.size + length
        if at > len(data):
            break
        if kind in (WHOLE, FIRST):
            beginning = b""
        if beginning is None:
            continue
        beginning += data[start:at]
        if kind in (WHOLE, LAST):
            if len(beginning) < BATCH.size:
                break
            sequence, count = BATCH.unpack_from(beginning)
            if sequence > SEQUENCE_MAX:
                break
            first, behind = first or sequence, max(behind, sequence + count)
            beginning = None
    return first, behind, len(data)

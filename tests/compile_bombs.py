"""Modules that are small, valid, and more than a compiler can take.

Rule: each says what of the compiler it makes grow, and by how much; none of them is ever run.
"""

from __future__ import annotations

import wasm_asm as asm
from wasm_bytes import HEADER, func_type, leb, section, text, vector

_LOCAL_GET, _LOCAL_SET, _BR_IF_0 = b"\x20", b"\x21", b"\x0d\x00"


def _module(bodies: list[bytes]) -> bytes:
    return b"".join((
        HEADER,
        section(1, vector(func_type())),
        section(3, vector(*(b"\0" for _ in bodies))),
        section(10, vector(*(text(body) for body in bodies))),
    ))  # fmt: skip


def slow(count: int = 512) -> bytes:
    """`count` loops within each other, and as many locals set in the innermost: each loop joins
    each local, and the register allocator takes the square of that. 512: beyond 100 s in 11 KiB."""
    step = b"".join(
        _LOCAL_GET + leb(i) + asm.i32_const(1) + asm.I32_ADD + _LOCAL_SET + leb(i)
        for i in range(count)
    )
    again = (_LOCAL_GET + leb(0) + _BR_IF_0 + asm.END) * count
    kept = b"".join(_LOCAL_GET + leb(i) + asm.DROP for i in range(count))
    locals_ = leb(1) + leb(count) + asm.VALUE_TYPES["i"]
    return _module([locals_ + asm.LOOP * count + step + again + kept + asm.END])


def large(count: int = 100_000) -> bytes:
    """`count` functions that do nothing, 4 bytes each here, about 1 KiB each in the compiler."""
    return _module([leb(0) + asm.END] * count)

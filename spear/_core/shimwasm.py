"""The shim: a small module that stands between a guest's send and the host, and calls its tools.

Rule: the bytes are written here instruction by instruction, so no text format or compiler is needed
where the package is installed. What it does:

    send(fd, flags):
        n = last = 0
        loop:
            op, a, b, c, d = step(fd, flags, n, last)      # imported, may wait
            if op < 0: return a
            last = slots[op](a, b, c, d)                   # one of the guest's own functions
            n += 1
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

I32 = b"\x7f"
FUNCREF = b"\x70"
STEP, SEND, TOOL = range(3)  # types; function 0 is the imported step, function 1 is send
FD, FLAGS, N, LAST, OP, A, B, C, D = (bytes([local]) for local in range(9))
GET, SET = b"\x20", b"\x21"
EMPTY = b"\x40"


def _vector(*items: bytes) -> bytes:
    """Counted; no part of the shim is longer than one byte of LEB128 can count."""
    return bytes([len(items)]) + b"".join(items)


def _text(content: bytes) -> bytes:
    return bytes([len(content)]) + content


def _type(params: int, results: int) -> bytes:
    return b"\x60" + _vector(*[I32] * params) + _vector(*[I32] * results)


def _section(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + _text(content)


def _each(instruction: bytes, local_indices: Iterable[bytes]) -> bytes:
    return b"".join(instruction + local for local in local_indices)


SEND_CODE = b"".join((
    b"\x03", EMPTY,                                # loop
    _each(GET, (FD, FLAGS, N, LAST)), b"\x10\x00",  # step
    _each(SET, (D, C, B, A, OP)),
    GET, OP, b"\x41\x00\x48",                      # op < 0
    b"\x04", EMPTY, GET, A, b"\x0f\x0b",           # if: return a
    _each(GET, (A, B, C, D, OP)), b"\x11", bytes([TOOL]), b"\x00",  # call_indirect
    SET, LAST,
    GET, N, b"\x41\x01\x6a", SET, N,               # n + 1
    b"\x0c\x00\x0b",                               # again
    b"\x00\x0b",                                   # never reached
))  # fmt: skip


def shim_wasm(slots: int) -> bytes:
    """The module, with room for `slots` functions: one for each send inside another."""
    return b"".join((
        b"\0asm\x01\0\0\0",
        _section(1, _vector(_type(4, 5), _type(2, 1), _type(4, 1))),
        _section(2, _vector(_text(b"host") + _text(b"step") + b"\x00" + bytes([STEP]))),
        _section(3, _vector(bytes([SEND]))),
        _section(4, _vector(FUNCREF + b"\x01" + bytes([slots, slots]))),
        _section(7, _vector(_text(b"send") + b"\x00\x01", _text(b"slots") + b"\x01\x00")),
        _section(10, _vector(_text(_vector(b"\x07" + I32) + SEND_CODE))),
        _section(0, _text(b"name") + b"\x01" + _text(_vector(b"\x01" + _text(b"send")))),
    ))  # fmt: skip

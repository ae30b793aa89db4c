"""Writes small guests: instructions, and a module of one function around them.

Rule: the few instructions that tests need, each named as in the specification's text format; what
the bytes mean is the engine's question, so wrong guests can be written as well as right ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from wasm_bytes import HEADER, custom, export, func_type, import_func, leb, section, text, vector

WASI = "wasi_snapshot_preview1"
VALUE_TYPES = {"i": b"\x7f", "I": b"\x7e"}
ImportRow = tuple[str, str, str, str]  # module, name, parameters, results: one letter a value

END, DROP, UNREACHABLE, RETURN = b"\x0b", b"\x1a", b"\x00", b"\x0f"
LOOP, BR_0, IF, I32_ADD = b"\x03\x40", b"\x0c\x00", b"\x04\x40", b"\x6a"
FOREVER = LOOP + BR_0 + END


def sleb(value: int) -> bytes:
    out = bytearray()
    while True:
        low, value = value & 0x7F, value >> 7
        if (value == 0 and not low & 0x40) or (value == -1 and low & 0x40):
            return bytes([*out, low])
        out.append(low | 0x80)


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def i32_const(value: int) -> bytes:
    """Of any 32 bits, written signed or unsigned."""
    return b"\x41" + sleb(_signed(value, 32))


def i64_const(value: int) -> bytes:
    return b"\x42" + sleb(_signed(value, 64))


def i32_store(address: int, value: int) -> bytes:
    return i32_const(address) + i32_const(value) + b"\x36\x02\x00"


def i64_store(address: int, value: int) -> bytes:
    return i32_const(address) + i64_const(value) + b"\x37\x03\x00"


def i32_load(address: int) -> bytes:
    return i32_const(address) + b"\x28\x02\x00"


def call(index: int) -> bytes:
    return b"\x10" + leb(index)


def types_of(letters: str) -> bytes:
    return b"".join(VALUE_TYPES[letter] for letter in letters)


def data_section(pieces: Sequence[tuple[int, bytes]]) -> bytes:
    return section(11, vector(*(b"\0" + i32_const(at) + END + text(data) for at, data in pieces)))


def name_section(names: Sequence[tuple[int, str]]) -> bytes:
    functions = vector(*(leb(index) + text(name) for index, name in names))
    return custom("name", b"\x01" + text(functions))


def module(
    imports: Sequence[ImportRow] = (), body: bytes = b"", *, pages: int | None = 1,
    memory_name: str = "memory", data: Sequence[tuple[int, bytes]] = (), start: bytes | None = None,
) -> bytes:  # fmt: skip
    """`_start` does `body`; `start` is the start function's body; imported functions count from 0.

    `pages` None: no memory at all.
    """
    types = [func_type(), *(func_type(types_of(row[2]), types_of(row[3])) for row in imports)]
    rows = [import_func(row[0], row[1], number + 1) for number, row in enumerate(imports)]
    bodies = [body] if start is None else [body, start]
    first = len(imports)
    exports = [export("_start", 0, first)]
    if pages is not None:
        exports.append(export(memory_name, 2, 0))
    return b"".join((
        HEADER,
        section(1, vector(*types)),
        section(2, vector(*rows)),
        section(3, vector(*(b"\0" for _ in bodies))),
        section(5, vector(b"\0" + leb(pages))) if pages is not None else b"",
        section(7, vector(*exports)),
        section(8, leb(first + 1)) if start is not None else b"",
        section(10, vector(*(text(b"\0" + code + END) for code in bodies))),
        data_section(data) if data else b"",
        name_section([(first, "_start"), (first + 1, "prepare")][: len(bodies)]),
    ))  # fmt: skip

"""Writes small wasm binaries for tests, section by section."""

from __future__ import annotations

HEADER = b"\0asm\x01\0\0\0"


def leb(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return leb(len(data)) + data


def vector(*items: bytes) -> bytes:
    return leb(len(items)) + b"".join(items)


def section(number: int, body: bytes) -> bytes:
    return bytes([number]) + leb(len(body)) + body


def func_type(parameters: bytes = b"", results: bytes = b"") -> bytes:
    return b"\x60" + leb(len(parameters)) + parameters + leb(len(results)) + results


def import_func(module: str, name: str, index: int) -> bytes:
    return text(module) + text(name) + b"\0" + leb(index)


def export(name: str, kind: int, index: int) -> bytes:
    return text(name) + bytes([kind]) + leb(index)


def custom(name: str, body: bytes = b"") -> bytes:
    return section(0, text(name) + body)


I32, I64 = b"\x7f", b"\x7e"
TYPES = section(1, vector(func_type(), func_type(I32 + I64, I32), func_type(I32, I32 + I64)))
FUNCTIONS = section(3, vector(b"\0", b"\x01"))
MEMORY = section(5, vector(b"\0" + leb(2)))
EXPORTS = section(7, vector(export("memory", 2, 0), export("_start", 0, 1)))
CODE = section(10, vector(text(b"\0\x0b"), text(b"\0\x41\0\x0b")))


def command(*, pages: int = 2, pages_max: int | None = None, extra: bytes = b"") -> bytes:
    """A module with an import, two functions, a memory, a `_start` and a name section."""
    imports = section(2, vector(import_func("spear", "log", 1)))
    limits = b"\0" + leb(pages) if pages_max is None else b"\x01" + leb(pages) + leb(pages_max)
    memory = section(5, vector(limits))
    return HEADER + TYPES + imports + FUNCTIONS + memory + EXPORTS + CODE + custom("name") + extra

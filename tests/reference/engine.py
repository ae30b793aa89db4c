"""Drives the engine's library through spear/_core/wasmtime_api.h by cffi: oracle and drift guard.

The rule: the declarations are that header's and nobody else's, read in ABI mode (lines that begin
with '#' are dropped), so what is proven here holds for the native modules that are compiled from
it. Nothing of `spear` runs a guest here: a synchronous engine, store and call, step by step.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cffi

from spear._core.engineapi import library

CORE = Path(__file__).resolve().parents[2] / "spear" / "_core"
HEADER, LOADER, VIEW = (CORE / name for name in (
    "wasmtime_api.h", "wasmtime_load.h", "engineapi.pxd"))  # fmt: skip
I32, I64 = 0, 1
KINDS = {"func": 0, "global": 1, "table": 2, "memory": 3}
CANARY = 0xA5


def declarations() -> str:
    """The header without its preprocessor lines, which cffi does not take."""
    return "\n".join(line for line in HEADER.read_text().splitlines() if not line.startswith("#"))


@functools.cache
def ffi() -> cffi.FFI:
    made = cffi.FFI()
    made.cdef(declarations())
    return made


@functools.cache
def lib() -> Any:
    return ffi().dlopen(library()[1])


# ---- the three lists of functions, and what each says of a function

Prototype = tuple[str, tuple[str, ...]]


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)


def split_arguments(text: str) -> list[str]:
    """At the commas that are not inside parentheses."""
    parts, depth, begin = [], 0, 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append(text[begin:at])
            begin = at + 1
    return [part.strip() for part in [*parts, text[begin:]] if part.strip() not in ("", "void")]


FINALIZER = re.compile(r"void \(\*\w+\)\(void \*\)")


def type_of(declaration: str) -> str:
    """`const char *name` -> `char*`: the type without its name and without const."""
    text = FINALIZER.sub("wasmtime_finalizer_t f", " ".join(declaration.split()))
    text = re.sub(r"\bconst\b", " ", text).replace("*", " * ")
    words = text.split()
    if len(words) > 1 and words[-1] not in ("*",):
        words = words[:-1]
    return "".join("bool" if word == "bint" else word for word in words)


def prototype(result: str, arguments: str) -> Prototype:
    given = "".join("bool" if word == "bint" else word for word in
                    re.sub(r"\bconst\b", " ", result).replace("*", " * ").split())  # fmt: skip
    return given, tuple(map(type_of, split_arguments(arguments)))


def prototypes_in_header() -> dict[str, Prototype]:
    text = " ".join(without_comments(declarations()).split())
    found = re.findall(r"([\w ]+?[ *]+)(wasm(?:time)?_\w+)\(((?:[^()]|\([^()]*\))*)\);", text)
    names = function_names()
    return {name: prototype(result, rest) for result, name, rest in found if name in names}


def function_names() -> set[str]:
    """Every function that the header declares, as cffi reads it."""
    return {name for name in dir(lib()) if callable_in_library(name)}


def callable_in_library(name: str) -> bool:
    found = getattr(lib(), name)  # raises where the library lacks it
    return isinstance(found, cffi.FFI.CData) and ffi().typeof(found).kind == "function"


def names_in_loader() -> list[str]:
    return re.findall(r"^ +X\((\w+)\)", LOADER.read_text(), flags=re.MULTILINE)


def redefined_in_loader() -> dict[str, str]:
    return dict(
        re.findall(r"^#define (\w+) \(spear_wasmtime->(\w+)\)$", LOADER.read_text(), re.MULTILINE)
    )


def prototypes_in_view() -> dict[str, Prototype]:
    text = " ".join(VIEW.read_text().split())
    found = re.findall(r"((?:const )?\w+[ *]+)(wasm(?:time)?_\w+)\(((?:[^()]|\([^()]*\))*)\)", text)
    names = function_names()
    return {name: prototype(result, rest) for result, name, rest in found if name in names}


# ---- a guest, step by step


@dataclass
class Answer:
    """What a call gave: results, or the trap's code (-1: none) and message with its frames."""

    results: tuple[int, ...] = ()
    trapped: bool = False
    code: int = -1
    message: str = ""
    frames: tuple[tuple[int, str], ...] = ()


def taken(vector: Any) -> bytes:
    data = bytes(ffi().buffer(vector.data, vector.size))
    lib().wasm_byte_vec_delete(vector)
    return data


def error_message(error: Any) -> str:
    vector = ffi().new("wasm_byte_vec_t *")
    lib().wasmtime_error_message(error, vector)
    lib().wasmtime_error_delete(error)
    return taken(vector).decode()


class EngineError(Exception):
    """The library's own message."""


def check(error: Any) -> None:
    if error != ffi().NULL:
        raise EngineError(error_message(error))


class Guest:
    """An instance of a module without imports, in a store of its own."""

    def __init__(self, wasm: bytes, *, memory_bytes_max: int = -1) -> None:
        self.engine = lib().wasm_engine_new_with_config(lib().wasm_config_new())
        self.module = self.store = self.linker = ffi().NULL
        out = ffi().new("wasmtime_module_t **")
        check(lib().wasmtime_module_new(self.engine, wasm, len(wasm), out))
        self.module = out[0]
        self.store = lib().wasmtime_store_new(self.engine, ffi().NULL, ffi().NULL)
        lib().wasmtime_store_limiter(self.store, memory_bytes_max, -1, -1, -1, -1)
        self.context = lib().wasmtime_store_context(self.store)
        self.linker = lib().wasmtime_linker_new(self.engine)
        self.instance = ffi().new("wasmtime_instance_t *")
        self.start = self._instantiate()

    def _instantiate(self) -> Answer:
        pre, trap = ffi().new("wasmtime_instance_pre_t **"), ffi().new("wasm_trap_t **")
        check(lib().wasmtime_linker_instantiate_pre(self.linker, self.module, pre))
        error = lib().wasmtime_instance_pre_instantiate(
            pre[0], self.context, self.instance, trap)  # fmt: skip
        lib().wasmtime_instance_pre_delete(pre[0])
        check(error)
        return Answer() if trap[0] == ffi().NULL else told(trap[0])

    def close(self) -> None:
        lib().wasmtime_linker_delete(self.linker)
        lib().wasmtime_store_delete(self.store)
        lib().wasmtime_module_delete(self.module)
        lib().wasm_engine_delete(self.engine)

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def export(self, name: str) -> Any:
        """The `wasmtime_extern_t`, or None."""
        item, encoded = ffi().new("wasmtime_extern_t *"), name.encode()
        found = lib().wasmtime_instance_export_get(
            self.context, self.instance, encoded, len(encoded), item)  # fmt: skip
        return item if found else None

    def exports(self) -> list[tuple[str, int]]:
        """(name, kind) of each."""
        found: list[tuple[str, int]] = []
        name, size = ffi().new("char **"), ffi().new("size_t *")
        item = ffi().new("wasmtime_extern_t *")
        while lib().wasmtime_instance_export_nth(
            self.context, self.instance, len(found), name, size, item
        ):
            found.append((ffi().unpack(name[0], size[0]).decode(), item.kind))
        return found

    def func(self, name: str) -> Any:
        """A copy with an owner: a view into a struct does not keep the struct in cffi."""
        item = self.export(name)
        return ffi().new("wasmtime_func_t *", item.of.func)

    def call(self, name: str, *args: int) -> Answer:
        """With i32 values, checked by the library; as many results as the type says."""
        pointer = self.func(name)
        type_ = lib().wasmtime_func_type(self.context, pointer)
        count = lib().wasm_functype_results(type_).size
        lib().wasm_functype_delete(type_)
        given, results = ffi().new("wasmtime_val_t[]", len(args)), ffi().new(
            "wasmtime_val_t[]", count)  # fmt: skip
        for place, value in enumerate(args):
            given[place].kind, given[place].of.i32 = I32, value
        trap = ffi().new("wasm_trap_t **")
        check(lib().wasmtime_func_call(
            self.context, pointer, given, len(args), results, count, trap))  # fmt: skip
        if trap[0] != ffi().NULL:
            return told(trap[0])
        return Answer(tuple(r.of.i32 if r.kind == I32 else r.of.i64 for r in results))

    def memory(self) -> bytes:
        item = self.export("memory")
        memory = ffi().new("wasmtime_memory_t *", item.of.memory)
        size = lib().wasmtime_memory_data_size(self.context, memory)
        return bytes(ffi().buffer(lib().wasmtime_memory_data(self.context, memory), size))


def told(trap: Any) -> Answer:
    """The trap's code, message and frames; it is deleted."""
    code, frames = ffi().new("uint8_t *"), ffi().new("wasm_frame_vec_t *")
    text = ffi().new("wasm_byte_vec_t *")
    answer = Answer(trapped=True)
    if lib().wasmtime_trap_code(trap, code):
        answer.code = code[0]
    lib().wasm_trap_message(trap, text)
    answer.message = taken(text).rstrip(b"\0").decode()
    lib().wasm_trap_trace(trap, frames)
    answer.frames = tuple(frame(frames.data[n]) for n in range(frames.size))
    lib().wasm_frame_vec_delete(frames)
    lib().wasm_trap_delete(trap)
    return answer


def frame(of: Any) -> tuple[int, str]:
    name = lib().wasmtime_frame_func_name(of)
    text = "" if name == ffi().NULL else ffi().unpack(name.data, name.size).decode()
    return lib().wasm_frame_func_index(of), text


def written(kind: str, fill: Any) -> list[bool]:
    """Which bytes around and in a struct of type `kind` the library's `fill(pointer)` changed.

    The struct stands between two canaries of 64 bytes, and holds canary bytes itself.
    """
    size = ffi().sizeof(kind)
    buffers = []
    for byte in (CANARY, CANARY ^ 0xFF):  # a byte written with its canary's value shows in one
        block = ffi().new("uint8_t[]", 64 + size + 64)
        ffi().memmove(block, bytes([byte]) * len(block), len(block))
        fill(ffi().cast(f"{kind} *", block + 64))
        buffers.append([value != byte for value in bytes(ffi().buffer(block))])
    return [a or b for a, b in zip(*buffers, strict=True)]


def serialized(wasm: bytes) -> bytes:
    """Compiled code by an engine of other settings than ours."""
    with Guest(wasm) as guest:
        out = ffi().new("wasm_byte_vec_t *")
        check(lib().wasmtime_module_serialize(guest.module, out))
        return taken(out)

"""Whatever the bytes, the scanner gives a WasmFile or ModuleInvalid, and stays within them."""

from __future__ import annotations

import tracemalloc

import pytest
from conftest import guest_path
from hypothesis import given
from hypothesis import strategies as st
from wasm_bytes import (
    HEADER,
    command,
    custom,
    func_type,
    import_func,
    leb,
    section,
    vector,
)  # fmt: skip

from spear._core import wasmfile
from spear._core.wasmfile import WasmFile
from spear.errors import ModuleInvalid

MODULES = [command(), command(pages=259), guest_path("hello").read_bytes()]
VALUE_TYPES = {"i32": b"\x7f", "i64": b"\x7e", "f32": b"\x7d", "f64": b"\x7c"}
value_types = st.lists(st.sampled_from(sorted(VALUE_TYPES)), max_size=6)
names = st.text(max_size=12)


def scan(wasm: bytes) -> WasmFile | None:
    try:
        return wasmfile.scan(wasm)
    except ModuleInvalid:
        return None


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_or_read(tail: bytes) -> None:
    scan(tail)
    scan(HEADER + tail)


@given(st.sampled_from(MODULES), st.data())
def test_a_module_cut_anywhere_is_refused_or_read(wasm: bytes, data: st.DataObject) -> None:
    scan(wasm[: data.draw(st.integers(0, len(wasm)))])


@given(st.sampled_from(MODULES), st.data())
def test_flipped_bits_are_refused_or_read(wasm: bytes, data: st.DataObject) -> None:
    damaged = bytearray(wasm)
    places = st.integers(0, min(len(wasm), 2000) * 8 - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=8)):
        damaged[place // 8] ^= 1 << place % 8
    scan(bytes(damaged))


@given(st.integers(1, 13), st.binary(max_size=60))
def test_a_section_with_any_contents_is_refused_or_read(number: int, body: bytes) -> None:
    scan(HEADER + section(number, body))


@given(st.lists(st.tuples(names, names, value_types, value_types), max_size=20))
def test_what_was_written_is_read(wanted: list[tuple[str, str, list[str], list[str]]]) -> None:
    types = [
        func_type(*(b"".join(VALUE_TYPES[t] for t in side) for side in (parameters, results)))
        for _, _, parameters, results in wanted
    ]
    imports = [import_func(module, name, i) for i, (module, name, _, _) in enumerate(wanted)]
    found = wasmfile.scan(HEADER + section(1, vector(*types)) + section(2, vector(*imports)))
    for read, (module, name, parameters, results) in zip(found.imports, wanted, strict=True):
        right = results[0] if len(results) == 1 else f"({', '.join(results)})"
        assert (read.module, read.name) == (module, name)
        assert read.signature == f"({', '.join(parameters)}) -> {right}"


@given(st.binary(max_size=40), names)
def test_custom_sections_change_nothing_else(body: bytes, name: str) -> None:
    plain, more = wasmfile.scan(command()), wasmfile.scan(command(extra=custom(name, body)))
    assert more.custom_sections == (*plain.custom_sections, name)
    assert more.exports == plain.exports


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 7, 10, 13])
@pytest.mark.parametrize("count", [1 << 16, 1 << 31, (1 << 32) - 1])
def test_an_announced_count_allocates_nothing(number: int, count: int) -> None:
    wasm = HEADER + section(number, leb(count) + b"\x01" * 16)
    scan(wasm)
    tracemalloc.start()
    try:
        assert scan(wasm) is None
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()

"""What a module declares is read; what is wrong with it is said with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from wasm_bytes import (
    CODE,
    EXPORTS,
    FUNCTIONS,
    HEADER,
    I32,
    MEMORY,
    TYPES,
    command,
    custom,
    export,
    func_type,
    import_func,
    leb,
    section,
    text,
    vector,
)  # fmt: skip

from spear._core import wasmfile
from spear.errors import ModuleInvalid

ROOT = Path(__file__).parents[3]
GUESTS = sorted((ROOT / "examples").glob("*/*.wasm")) + sorted(
    (ROOT / "tests" / "guests").glob("*/*.wasm")
)


def message(wasm: bytes) -> str:
    with pytest.raises(ModuleInvalid) as caught:
        wasmfile.scan(wasm)
    return str(caught.value)


def test_a_command_module_declares_its_parts() -> None:
    module = wasmfile.scan(command())
    (wanted,) = module.imports
    assert (wanted.module, wanted.name, wanted.kind) == ("spear", "log", "func")
    assert wanted.signature == "(i32, i64) -> i32"
    assert module.exports == (("memory", "memory", None), ("_start", "func", "() -> ()"))
    assert module.memories == ((2, None, False),)
    assert module.function_count == 3
    assert module.names
    assert not module.has_start
    assert module.tables == ()


def test_several_results_stand_in_parentheses() -> None:
    wasm = HEADER + TYPES + section(2, vector(import_func("m", "f", 2)))
    assert wasmfile.scan(wasm).imports[0].signature == "(i32) -> (i32, i64)"


def test_an_empty_module_is_valid_and_small() -> None:
    module = wasmfile.scan(HEADER)
    assert (module.imports, module.exports, module.shape) == ((), (), "small")


@pytest.mark.parametrize(("pages", "shape"), [(0, "small"), (16, "small"), (17, "large")])
def test_the_shape_follows_the_memory_s_minimum(pages: int, shape: str) -> None:
    assert wasmfile.scan(command(pages=pages)).shape == shape


def test_a_memory_s_maximum_is_read() -> None:
    assert wasmfile.scan(command(pages=2, pages_max=300)).memories == ((2, 300, False),)


def test_imports_of_every_kind_are_read() -> None:
    wasm = HEADER + section(1, vector(func_type(I32))) + section(2, vector(
        text("m") + text("table") + b"\x01\x70\x01\x02\x05",
        text("m") + text("memory") + b"\x02\x00\x11",
        text("m") + text("global") + b"\x03\x7f\x01",
        text("m") + text("tag") + b"\x04\x00\x00",
    ))  # fmt: skip
    module = wasmfile.scan(wasm)
    assert [found.signature for found in module.imports] == [
        "funcref min 2, max 5", "min 17 pages", "mut i32", "(i32) -> ()",
    ]  # fmt: skip
    assert module.memories == ((17, None, True),)
    assert module.tables == ((2, 5),)


def test_many_types_take_indices_of_several_bytes() -> None:
    types = section(1, vector(*[func_type()] * 200, func_type(I32)))
    functions = section(3, vector(leb(200)))
    exports = section(7, vector(export("f", 0, 0)))
    wasm = HEADER + types + functions + exports + section(10, vector(text(b"\0\x0b")))
    assert wasmfile.scan(wasm).exports == (("f", "func", "(i32) -> ()"),)


def test_a_start_function_is_seen() -> None:
    wasm = HEADER + TYPES + FUNCTIONS + section(8, b"\0") + CODE
    assert wasmfile.scan(wasm).has_start


@pytest.mark.parametrize(("names", "reactor"), [
    (["_initialize", "add"], True),
    (["_initialize", "_start"], False),
    (["_start"], False),
    (["add"], False),
])  # fmt: skip
def test_a_reactor_is_initialized_and_has_no_start(names: list[str], reactor: bool) -> None:
    exports = section(7, vector(*(export(name, 0, 0) for name in names)))
    assert wasmfile.scan(HEADER + TYPES + FUNCTIONS + exports + CODE).reactor is reactor


def test_a_component_is_named_with_the_remedy() -> None:
    found = message(b"\0asm\x0d\0\x01\0rest")
    assert "component" in found
    assert "wasm32-wasip1" in found


def test_text_is_named_with_the_remedy() -> None:
    assert "wat2wasm" in message(b"(module)")


@pytest.mark.parametrize(
    ("wasm", "said"),
    [
        (b"", "empty"),
        (b"\x7fELF\0\0\0\0", "this is not wasm"),
        (b"\0as", "this is not wasm"),
        (HEADER[:6], "cut off at byte 6"),
        (b"\0asm\x02\0\0\0", "wasm version 1, found 2"),
        (HEADER + b"\x01", "byte 9 (module): expected the size of section 'type', found the end"),
        (HEADER + b"\x01\x05", "section 'type' of 5 bytes, found only 0 left"),
        (HEADER + b"\x0e\x00", "the number of a section, found 14"),
        (HEADER + MEMORY + TYPES, "no second or late section 'type'"),
        (HEADER + TYPES + TYPES, "no second or late section 'type'"),
        (HEADER + section(1, vector(b"\x5f")), "GC proposal"),
        (HEADER + section(1, vector(b"\x60\x01\x40\0")), "a value type, found 0x40"),
        (HEADER + section(1, leb(1 << 30)), "found 1073741824 announced"),
        (HEADER + section(1, b"\xff\xff\xff\xff\x1f"), "at most 32 bits"),
        (HEADER + section(1, b"\xff\xff\xff\xff\xff\0"), "at most 32 bits"),
        (HEADER + section(1, vector(func_type()) + b"x"), "the end of the section, found 1 bytes"),
        (HEADER + section(2, vector(text(b"\xff") + text("n") + b"\0\0")), "UTF-8"),
        (HEADER + section(2, vector(import_func("m", "n", 0))), "a type below 0, found 0"),
        (HEADER + section(2, vector(text("m") + text("n") + b"\x09")), "a kind (0 to 4), found 9"),
        (HEADER + TYPES + FUNCTIONS, "2 function bodies, found 0"),
        (HEADER + TYPES + FUNCTIONS + EXPORTS, "a memory below 0, found 0"),
        (HEADER + section(5, vector(b"\x03\x01\x02")), "a shared one"),
        (HEADER + section(5, vector(b"\x04\x01")), "a 64-bit one"),
        (HEADER + section(5, vector(b"\x08\x01")), "limits of form 0 or 1"),
        (HEADER + section(5, vector(b"\x01\x05\x02")), "maximum of at least 5, found 2"),
        (HEADER + section(5, vector(b"\0" + leb(65537))), "at most 65536 pages"),
        (HEADER + section(8, b"\0"), "a func below 0"),
        (HEADER + section(0, b"\x05ab"), "custom section of 5 bytes"),
    ],
)
def test_what_is_wrong_is_said(wasm: bytes, said: str) -> None:
    assert said in message(wasm)


def test_the_offset_is_that_of_the_bad_byte() -> None:
    wasm = HEADER + custom("x") + section(1, vector(b"\x61"))
    offset = int(message(wasm).split()[1])
    assert wasm[offset] == 0x61


@pytest.mark.parametrize("path", GUESTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_committed_guest_is_read_or_refused_with_a_sentence(path: Path) -> None:
    wasm = path.read_bytes()
    if path.stem == "component":
        assert "component" in message(wasm)
    else:
        assert wasmfile.scan(wasm).function_count >= 0

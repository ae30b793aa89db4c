"""The committed guests are what their sources say: same source, intended imports, shape and names.

Rule: reads files only; needs no compiler and no engine.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
WASM_MODULE = b"\0asm\x01\0\0\0"
WASM_COMPONENT = b"\0asm\x0d\0\x01\0"
WASI = "wasi_snapshot_preview1"
FUNCTION, TABLE, MEMORY, GLOBAL = range(4)
LARGE_PAGES_MIN = 257

# Guests that ask for something that is in no host, for it in a wrong way, or for what only an
# engine for tests has.
STRANGE_IMPORTS = {
    "tools": {("spear_trial", "send"), ("spear_trial", "pause")},
    "unknown_imports": {("spear", "teleport"), ("spear", "read_minds"), ("env", "foo")},
    "imported_memory": {("env", "memory")},
}
# Guests that are not of one or two pages: the least pages of each memory.
SHAPES = {
    "component": [],
    "imported_memory": [],
    "memory_over_limit": [2000],
    "two_memories": [1, 1],
    "touch_small": [3],
    "object_calls": [3],
    "retrieval": [3],
    "talker": [4],
    "touch_large": [258],
    "rest_small": [3],
    "rest_large": [258],
    "waiter_large": [257],
    "classic_sleeper": [257],
    "classic": [257],
}
RUST_LIBRARY = b"/usr/src/rustc-"  # where a distribution's library says it was built from
WITHOUT_MEMORY_EXPORT = {"component", "no_memory"}
WITHOUT_START = {"component", "no_start", "add", "reactor", "basket"}


def _load_builder() -> ModuleType:
    """`scripts/build_guests.py`, which is no package, as a module."""
    spec = importlib.util.spec_from_file_location("build_guests", ROOT / "scripts/build_guests.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


BUILDER = _load_builder()
GUESTS = {guest.target.stem: guest for guest in BUILDER.guests()}
every_guest = pytest.mark.parametrize("name", sorted(GUESTS))


class Reader:
    """Numbers and names of a section, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self) -> int:
        """An unsigned LEB128 number."""
        value, self.at = BUILDER.read_leb(self.data, self.at)
        return value

    def name(self) -> str:
        """A counted UTF-8 string."""
        size = self.number()
        self.at += size
        return self.data[self.at - size : self.at].decode()

    def limits(self) -> int:
        """The minimum of a memory or table; the maximum is passed over."""
        flags = self.number()
        minimum = self.number()
        if flags & 1:
            self.number()
        return minimum


def wasm_of(name: str) -> bytes:
    return GUESTS[name].target.read_bytes()


def section(wasm: bytes, kind: int) -> Reader:
    """One section by its id; without it an empty one of no entries."""
    if not wasm.startswith(WASM_MODULE):
        return Reader(b"\0")
    return Reader(next((body for found, body in BUILDER.sections(wasm) if found == kind), b"\0"))


def imports(wasm: bytes) -> list[tuple[str, str, int]]:
    """Module, name and kind of each import."""
    reader, found = section(wasm, 2), []
    for _ in range(reader.number()):
        module, name, kind = reader.name(), reader.name(), reader.number()
        if kind == FUNCTION:
            reader.number()
        elif kind == MEMORY:
            reader.limits()
        else:
            pytest.fail(f"{module}.{name} is an import of kind {kind}")
        found.append((module, name, kind))
    return found


def exports(wasm: bytes) -> dict[str, int]:
    """The kind of each export."""
    reader, found = section(wasm, 7), {}
    for _ in range(reader.number()):
        name = reader.name()
        found[name] = reader.number()
        reader.number()
    return found


def memories(wasm: bytes) -> list[int]:
    """The least pages of each memory that the module defines."""
    reader = section(wasm, 5)
    return [reader.limits() for _ in range(reader.number())]


def custom(wasm: bytes) -> dict[str, bytes]:
    """The custom sections by name."""
    readers = [Reader(body) for kind, body in BUILDER.sections(wasm) if kind == 0]
    return {reader.name(): reader.data[reader.at :] for reader in readers}


def function_names(wasm: bytes) -> set[str]:
    """What the name section calls the functions."""
    reader = Reader(custom(wasm)["name"])
    while reader.at < len(reader.data):
        kind, size = reader.number(), reader.number()
        if kind != 1:
            reader.at += size
            continue
        names = set()
        for _ in range(reader.number()):
            reader.number()
            names.add(reader.name())
        return names
    return set()


def header_imports() -> set[str]:
    """The names of `spear` that the C header declares."""
    header = (ROOT / "sdk/c/spear.h").read_text()
    return set(re.findall(r'^SPEAR_IMPORT\("(\w+)"\)', header, re.MULTILINE))


def test_the_header_declares_all_50_imports_of_the_abi():
    assert len(header_imports()) == 50


def test_there_is_a_guest_for_each_source_and_a_source_for_each_guest():
    committed = {
        path for folder in ("examples", "tests/guests") for path in (ROOT / folder).rglob("*.wasm")
    }
    assert committed == {guest.target for guest in BUILDER.guests()}


def test_no_two_guests_have_the_same_name():
    assert len(GUESTS) == len(list(BUILDER.guests()))


def test_each_example_has_its_paragraph():
    for folder in (ROOT / "examples").iterdir():
        if any(folder.glob("*.c")):
            assert (folder / "README.md").read_text().startswith(f"# {folder.name}\n")


@every_guest
def test_a_guest_was_built_from_its_source_as_it_is_now(name):
    source = GUESTS[name].source.read_bytes()
    assert custom(wasm_of(name))["source"] == hashlib.sha256(source).digest(), "run `make guests`"


@every_guest
def test_a_guest_is_a_module_but_for_the_component(name):
    preamble = WASM_COMPONENT if name == "component" else WASM_MODULE
    assert wasm_of(name).startswith(preamble)


@every_guest
def test_a_guest_imports_what_the_abi_has_and_nothing_strange_by_accident(name):
    found = imports(wasm_of(name))
    known = header_imports()
    strange = {(m, n) for m, n, _ in found if m != WASI and not (m == "spear" and n in known)}
    assert strange == STRANGE_IMPORTS.get(name, set())


@every_guest
def test_a_guest_is_small_unless_it_is_meant_to_be_large(name):
    found = memories(wasm_of(name))
    if name in SHAPES:
        assert found == SHAPES[name]
    else:
        assert len(found) == 1
        assert found[0] <= 2


@every_guest
def test_a_guest_exports_its_memory_and_start_unless_it_is_about_that(name):
    found = exports(wasm_of(name))
    assert (found.get("memory") == MEMORY) == (name not in WITHOUT_MEMORY_EXPORT)
    assert (found.get("_start") == FUNCTION) == (name not in WITHOUT_START)


@every_guest
def test_a_guest_carries_no_debug_data_and_no_path(name):
    wasm = wasm_of(name)
    assert set(custom(wasm)) <= {"name", "source"}
    wasm = wasm.replace(RUST_LIBRARY, b"")
    assert not re.search(rb"/(home|root|tmp|usr)/", wasm)
    assert bytes(ROOT) not in wasm


@pytest.mark.parametrize(
    ("name", "functions"),
    [
        ("trap", {"main", "sum_prices", "price_of", "read_price"}),
        ("loop", {"main", "run_away"}),
        ("divide", {"share_out", "divide"}),
        ("out_of_bounds", {"look_up", "read_at"}),
        ("recurse", {"descend"}),
        ("unreachable", {"work", "give_up"}),
    ],
)
def test_a_guest_that_traps_keeps_the_names_of_its_functions(name, functions):
    assert functions <= function_names(wasm_of(name))


def test_the_large_guests_are_as_large_as_those_of_a_default_linker():
    for name in ("touch_large", "rest_large", "waiter_large", "classic", "classic_sleeper"):
        assert memories(wasm_of(name))[0] >= LARGE_PAGES_MIN


def test_the_benchmark_guests_import_no_more_than_they_need():
    for name in ("noop", "add", "touch_small", "touch_large"):
        assert imports(wasm_of(name)) == []
    for name in ("rest_least", "rest_small", "rest_large"):
        assert [row[1] for row in imports(wasm_of(name))] == ["sleep_ms"]
    assert exports(wasm_of("add")).keys() >= {"_initialize", "add", "count"}


def test_the_unserved_guest_imports_all_that_is_not_served_first():
    served = {"time_now_ms", "wall_time_s", "random_i64", "sleep_ms", "log"}
    families = ("user_stream_", "spear_", "object_", "cchat_", "embed_", "task_")
    served |= {name for name in header_imports() if name.startswith(families)}
    asked = {n for m, n, _ in imports(wasm_of("unserved")) if m == "spear"}
    assert asked == header_imports() - served

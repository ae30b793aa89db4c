"""Header, loader, Cython view and installed library agree, and so do results and traps."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from guest_runs import ended, engine, executor, guest, guest_bytes

from tests.reference import engine as reference
from tests.reference.engine import KINDS, Guest, ffi, lib, written

# ---- the lists


def test_every_declared_function_is_in_the_library():
    names = reference.function_names()  # asks the library for each
    assert len(names) > 60
    assert names == set(reference.prototypes_in_header())


def test_the_loader_names_what_the_header_declares():
    listed = reference.names_in_loader()
    assert len(listed) == len(set(listed))
    assert set(listed) == reference.function_names()
    assert reference.redefined_in_loader() == {name: name for name in listed}


def test_the_cython_view_agrees_with_the_header():
    view, header = reference.prototypes_in_view(), reference.prototypes_in_header()
    assert set(view) <= set(header)
    assert {name: view[name] for name in view} == {name: header[name] for name in view}


def test_the_view_leaves_nothing_out():
    assert set(reference.prototypes_in_view()) == reference.function_names()


def test_constants_agree():
    view = reference.VIEW.read_text()
    for name, value in (
        ("WASMTIME_EXTERN_KIND_FUNC", 0), ("WASMTIME_EXTERN_KIND_MEMORY", 3),
        ("WASMTIME_KIND_I32", 0), ("WASMTIME_KIND_I64", 1), ("WASMTIME_KIND_F32", 2),
        ("WASMTIME_KIND_F64", 3), ("WASMTIME_UPDATE_DEADLINE_CONTINUE", 0),
        ("WASMTIME_UPDATE_DEADLINE_YIELD", 1),
    ):  # fmt: skip
        assert getattr(lib(), name) == value
        assert name in view


def test_the_parsers_see_a_difference():
    parse = reference.prototype
    assert parse("const char *", "size_t a, const char *b") == ("char*", ("size_t", "char*"))
    assert parse("bint", "void *env, void (*finalizer)(void *)") == parse(
        "bool", "void *x, wasmtime_finalizer_t f"
    )
    assert parse("void", "int32_t a") != parse("void", "int64_t a")
    assert parse("void", "wasm_trap_t *a") != parse("void", "wasm_trap_t **a")
    assert parse("void", "void")[1] == ()


# ---- sizes and places, by what the library writes

SIZES = {
    "wasm_byte_vec_t": 16, "wasm_frame_vec_t": 16, "wasm_valtype_vec_t": 16,
    "wasmtime_instance_t": 16, "wasmtime_func_t": 16, "wasmtime_memory_t": 24,
    "wasmtime_extern_t": 32, "wasmtime_val_t": 32, "wasmtime_val_raw_t": 16,
    "wasmtime_async_continuation_t": 24,
}  # fmt: skip


@pytest.mark.parametrize("kind", SIZES)
def test_structs_have_the_size_of_the_c_api(kind: str):
    assert ffi().sizeof(kind) == SIZES[kind]


def test_structs_are_those_of_the_librarys_own_python_binding():
    """The package's binding is generated from the release's headers: a second witness."""
    import ctypes

    bindings = pytest.importorskip("wasmtime._bindings")
    compared = 0
    for kind in (*SIZES, "wasmtime_global_t", "wasmtime_linear_memory_t",
                 "wasmtime_memory_creator_t"):  # fmt: skip
        theirs = getattr(bindings, kind, None) or getattr(bindings, kind.removesuffix("_t"), None)
        if theirs is None:
            continue
        compared += 1
        assert ctypes.sizeof(theirs) == ffi().sizeof(kind), kind
    assert compared >= 8


def test_functions_take_as_many_arguments_as_in_the_librarys_own_binding():
    bindings = pytest.importorskip("wasmtime._bindings")
    compared = 0
    for name, (_, arguments) in reference.prototypes_in_header().items():
        theirs = getattr(bindings, f"_{name}", None)
        if theirs is not None and theirs.argtypes is not None:
            compared += 1
            assert len(theirs.argtypes) == len(arguments), name
    assert compared > 40


def inside(changed: list[bool]) -> list[bool]:
    """The struct's own bytes; those around it must be untouched."""
    assert not any(changed[:64]), "written before the struct"
    assert not any(changed[-64:]), "written behind the struct"
    return changed[64:-64]


def test_an_instance_is_written_and_nothing_beside_it():
    with Guest(guest_bytes("add")) as other:
        pre, trap = ffi().new("wasmtime_instance_pre_t **"), ffi().new("wasm_trap_t **")
        reference.check(lib().wasmtime_linker_instantiate_pre(other.linker, other.module, pre))

        def fill(pointer: object) -> None:
            reference.check(lib().wasmtime_instance_pre_instantiate(
                pre[0], other.context, pointer, trap))  # fmt: skip

        assert all(inside(written("wasmtime_instance_t", fill))[:12]), "the store's id and an index"
        lib().wasmtime_instance_pre_delete(pre[0])


@pytest.mark.parametrize(("name", "member"), [("add", "func"), ("memory", "memory")])
def test_an_export_is_written_where_the_header_says(name: str, member: str):
    with Guest(guest_bytes("add")) as instance:

        def fill(pointer: object) -> None:
            encoded = name.encode()
            assert lib().wasmtime_instance_export_get(
                instance.context, instance.instance, encoded, len(encoded), pointer)  # fmt: skip

        changed = inside(written("wasmtime_extern_t", fill))
        begin = ffi().offsetof("wasmtime_extern_t", "of")
        assert changed[0], "the kind"
        assert all(changed[begin : begin + 8]), "the store's id"
        assert any(changed[begin + 8 : begin + ffi().sizeof(f"wasmtime_{member}_t")])
        assert instance.export(name).kind == KINDS[member]


def test_a_result_is_written_where_the_header_says():
    with Guest(guest_bytes("add")) as instance:
        func = instance.func("count")
        trap = ffi().new("wasm_trap_t **")

        def fill(pointer: object) -> None:
            reference.check(lib().wasmtime_func_call(
                instance.context, func, ffi().NULL, 0, pointer, 1, trap))  # fmt: skip

        changed = inside(written("wasmtime_val_t", fill))
        begin = ffi().offsetof("wasmtime_val_t", "of")
        assert changed[0]
        assert all(changed[begin : begin + 4])


def test_a_trap_code_is_one_byte():
    with Guest(guest_bytes("divide")) as instance:
        func = instance.func("_start")

        def fill(pointer: object) -> None:
            trap = ffi().new("wasm_trap_t **")
            reference.check(lib().wasmtime_func_call(
                instance.context, func, ffi().NULL, 0, ffi().NULL, 0, trap))  # fmt: skip
            assert lib().wasmtime_trap_code(trap[0], pointer)
            lib().wasm_trap_delete(trap[0])

        assert inside(written("uint8_t", fill)) == [True]


def test_vectors_are_written_whole_and_no_further():
    def fill(pointer: object) -> None:
        error = lib().wasmtime_error_new(b"why")
        lib().wasmtime_error_message(error, pointer)
        lib().wasmtime_error_delete(error)
        assert reference.taken(ffi().cast("wasm_byte_vec_t *", pointer)) == b"why"

    assert all(inside(written("wasm_byte_vec_t", fill))[8:12])


# ---- results

TRAPS = {
    "divide": "integer division by zero",
    "out_of_bounds": "out of bounds memory access",
    "recurse": "call stack exhausted",
}


@pytest.mark.parametrize(("a", "b"), [(1, 2), (-1, 1), (2**31 - 1, 1), (-(2**31), -1)])
def test_a_call_gives_its_result(a: int, b: int):
    with Guest(guest_bytes("add")) as instance:
        total = (a + b + 2**31) % 2**32 - 2**31
        assert instance.call("add", a, b).results == (total,)


def test_an_instance_keeps_its_state():
    with Guest(guest_bytes("add")) as instance:
        assert [instance.call("count").results[0] for _ in range(3)] == [1, 2, 3]
    with Guest(guest_bytes("add")) as fresh:
        assert fresh.call("count").results == (1,)


def test_exports_are_those_that_our_engine_names():
    for name in ("add", "noop", "no_start", "divide", "touch_small"):
        with Guest(guest_bytes(name)) as instance:
            functions = [n for n, kind in instance.exports() if kind == KINDS["func"]]
        assert tuple(functions) == guest(name).exports


@pytest.mark.parametrize("name", ["divide", "out_of_bounds", "recurse", "start_trap"])
def test_traps_are_those_of_our_engine(name: str):
    with Guest(guest_bytes(name)) as instance:
        theirs = instance.start if name == "start_trap" else instance.call("_start")
    with executor(workers=1) as node:
        ours = ended(node.start(guest(name)))
    assert theirs.trapped
    assert ours.cause == "trap"
    assert ours.trap == TRAPS.get(name, "unreachable code reached")
    codes = {"divide": 7, "out_of_bounds": 1, "recurse": 0, "start_trap": 9}
    assert theirs.code == codes[name]
    frames = [(frame.index, frame.function) for frame in ours.backtrace]
    assert frames[:3] == list(theirs.frames[:3])


def test_memory_grows_as_in_our_engine():
    """Guests of one page of zeros, and the limiter of the store."""
    with Guest(guest_bytes("noop")) as instance:
        assert instance.memory() == bytes(65536)
    with pytest.raises(reference.EngineError, match="memory"):
        Guest(guest_bytes("memory_over_limit"), memory_bytes_max=64 << 20)


@pytest.mark.parametrize("name", ["touch_small", "touch_large", "memory_over_limit"])
def test_the_memory_at_the_end_is_as_large(name: str):
    with Guest(guest_bytes(name)) as instance:
        instance.call("_start")
        size = len(instance.memory())
    with executor(workers=1) as node:
        assert ended(node.start(guest(name), memory_bytes_max=1 << 30)).memory_bytes == size


def test_code_compiled_with_other_settings_is_not_taken_from_the_cache(tmp_path: Path):
    wasm, folder = guest_bytes("noop"), tmp_path / "cache"
    engine().load(wasm, cache_dir=str(folder))
    (path,) = folder.iterdir()
    code = reference.serialized(wasm)
    path.write_bytes(code + hashlib.sha256(code).digest())
    module = engine().load(wasm, cache_dir=str(folder))
    assert module.source == "compiled"
    assert "was not taken" in module.warning

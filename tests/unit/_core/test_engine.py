"""What the engine loads and what it refuses, each refusal with a sentence that names its cause."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable

import pytest
import wasm_asm as asm
from guest_runs import ROOT, ended, engine, executor, guest, guest_bytes, python
from wasm_bytes import HEADER, export, func_type, section, text, vector

from spear._core import engine as engine_module
from spear._core.engine import Engine, Module, host_imports
from spear.errors import InvalidArgument, ModuleInvalid, ModuleLimit, SpearError

# ---- the host's table: sections 2, 16 and 17 of the guest ABI, and WASI snapshot preview 1 (witx)

SERVED = {
    "time_now_ms", "wall_time_s", "random_i64", "sleep_ms", "log",
    "user_stream_open", "user_stream_read", "user_stream_write", "user_stream_close",
    "user_stream_ctl_open", "user_stream_ctl_read", "spear_epoll_create", "spear_epoll_ctl",
    "spear_epoll_wait", "spear_epoll_close", "spear_fd_ctl", "object_put", "object_get",
    "object_stat", "object_list", "object_delete", "object_add_ref", "object_remove_ref",
    "object_pin", "object_unpin",
    "cchat_create", "cchat_write_msg", "cchat_write_fn", "cchat_ctl", "cchat_send", "cchat_recv",
    "cchat_close", "cchat_stream", "cchat_stream_read", "embed_send", "task_invoke", "task_wait",
    "task_result", "task_status", "task_cancel", "task_close",
}  # fmt: skip
SPEAR_IMPORTS = """
    time_now_ms () -> i64
    wall_time_s () -> i64
    random_i64 () -> i64
    sleep_ms (i32) -> ()
    log (i32, i32, i32) -> i32
    cchat_create () -> i32
    cchat_write_msg (i32, i32, i32, i32, i32) -> i32
    cchat_write_fn (i32, i32, i32, i32) -> i32
    cchat_ctl (i32, i32, i32, i32) -> i32
    cchat_send (i32, i32) -> i32
    cchat_recv (i32, i32, i32) -> i32
    cchat_close (i32) -> i32
    rtasr_create () -> i32
    rtasr_ctl (i32, i32, i32, i32) -> i32
    rtasr_write (i32, i32, i32) -> i32
    rtasr_read (i32, i32, i32) -> i32
    rtasr_close (i32) -> i32
    mic_create () -> i32
    mic_ctl (i32, i32, i32, i32) -> i32
    mic_read (i32, i32, i32) -> i32
    mic_close (i32) -> i32
    user_stream_open (i32, i32) -> i32
    user_stream_read (i32, i32, i32) -> i32
    user_stream_write (i32, i32, i32) -> i32
    user_stream_close (i32) -> i32
    user_stream_ctl_open () -> i32
    user_stream_ctl_read (i32, i32, i32) -> i32
    spear_epoll_create () -> i32
    spear_epoll_ctl (i32, i32, i32, i32) -> i32
    spear_epoll_wait (i32, i32, i32, i32) -> i32
    spear_epoll_close (i32) -> i32
    spear_fd_ctl (i32, i32, i32, i32) -> i32
    object_put (i32, i32, i32, i32, i64, i32, i32) -> i32
    object_get (i32, i32, i32, i32, i32) -> i32
    object_stat (i32, i32, i32, i32) -> i32
    object_list (i32, i32, i32, i32, i32, i32, i32) -> i32
    object_delete (i32, i32, i64, i32) -> i32
    object_add_ref (i32, i32, i32) -> i32
    object_remove_ref (i32, i32, i32) -> i32
    object_pin (i32, i32) -> i32
    object_unpin (i32, i32) -> i32
    cchat_stream (i32, i32) -> i32
    cchat_stream_read (i32, i32, i32) -> i32
    embed_send (i32, i32, i32) -> i32
    task_invoke (i32, i32, i32, i32, i32) -> i32
    task_wait (i32, i32) -> i32
    task_result (i32, i32, i32) -> i32
    task_status (i32, i32, i32) -> i32
    task_cancel (i32, i32, i32) -> i32
    task_close (i32) -> i32
"""
WASI_IMPORTS = """
    args_get (i32, i32) -> i32
    args_sizes_get (i32, i32) -> i32
    environ_get (i32, i32) -> i32
    environ_sizes_get (i32, i32) -> i32
    clock_res_get (i32, i32) -> i32
    clock_time_get (i32, i64, i32) -> i32
    fd_advise (i32, i64, i64, i32) -> i32
    fd_allocate (i32, i64, i64) -> i32
    fd_close (i32) -> i32
    fd_datasync (i32) -> i32
    fd_fdstat_get (i32, i32) -> i32
    fd_fdstat_set_flags (i32, i32) -> i32
    fd_fdstat_set_rights (i32, i64, i64) -> i32
    fd_filestat_get (i32, i32) -> i32
    fd_filestat_set_size (i32, i64) -> i32
    fd_filestat_set_times (i32, i64, i64, i32) -> i32
    fd_pread (i32, i32, i32, i64, i32) -> i32
    fd_prestat_get (i32, i32) -> i32
    fd_prestat_dir_name (i32, i32, i32) -> i32
    fd_pwrite (i32, i32, i32, i64, i32) -> i32
    fd_read (i32, i32, i32, i32) -> i32
    fd_readdir (i32, i32, i32, i64, i32) -> i32
    fd_renumber (i32, i32) -> i32
    fd_seek (i32, i64, i32, i32) -> i32
    fd_sync (i32) -> i32
    fd_tell (i32, i32) -> i32
    fd_write (i32, i32, i32, i32) -> i32
    path_create_directory (i32, i32, i32) -> i32
    path_filestat_get (i32, i32, i32, i32, i32) -> i32
    path_filestat_set_times (i32, i32, i32, i32, i64, i64, i32) -> i32
    path_link (i32, i32, i32, i32, i32, i32, i32) -> i32
    path_open (i32, i32, i32, i32, i32, i64, i64, i32, i32) -> i32
    path_readlink (i32, i32, i32, i32, i32, i32) -> i32
    path_remove_directory (i32, i32, i32) -> i32
    path_rename (i32, i32, i32, i32, i32, i32) -> i32
    path_symlink (i32, i32, i32, i32, i32) -> i32
    path_unlink_file (i32, i32, i32) -> i32
    poll_oneoff (i32, i32, i32, i32) -> i32
    proc_exit (i32) -> ()
    proc_raise (i32) -> i32
    sched_yield () -> i32
    random_get (i32, i32) -> i32
    sock_accept (i32, i32, i32) -> i32
    sock_recv (i32, i32, i32, i32, i32, i32) -> i32
    sock_send (i32, i32, i32, i32, i32) -> i32
    sock_shutdown (i32, i32) -> i32
"""


def table(module: str, lines: str) -> dict[tuple[str, str], str]:
    rows = (line.strip().partition(" ") for line in lines.strip().splitlines())
    return {(module, name): signature for name, _, signature in rows}


EXPECTED = table("spear", SPEAR_IMPORTS) | table(asm.WASI, WASI_IMPORTS)


def test_the_hosts_table_is_the_contracts():
    assert {key: signature for key, (signature, _) in host_imports().items()} == EXPECTED
    assert len([key for key in EXPECTED if key[0] == "spear"]) == 32 + 9 + 9
    assert len([key for key in EXPECTED if key[0] == asm.WASI]) == 46


def test_the_table_says_what_is_served():
    unserved = {name for (_, name), (_, served) in host_imports().items() if not served}
    assert unserved == {name for module, name in EXPECTED if module == "spear"} - SERVED


def letters(types: str) -> str:
    return "".join({"i32": "i", "i64": "I"}[part] for part in types.strip("()").split(", ") if part)


def rows_of(imports: dict[tuple[str, str], str]) -> list[asm.ImportRow]:
    return [
        (module, name, *map(letters, signature.split(" -> ")))
        for (module, name), signature in imports.items()
    ]


def test_one_module_may_import_everything():
    module = engine().load(asm.module(rows_of(EXPECTED)))
    assert len(module.unserved) == 50 - len(SERVED)


@pytest.mark.parametrize("key", sorted(EXPECTED), ids=lambda key: key[1])
def test_each_import_is_refused_with_another_signature(key: tuple[str, str]):
    wrong = asm.module([(*key, "IIIIIIII", "I")])
    with pytest.raises(ModuleInvalid) as caught:
        engine().load(wrong)
    assert f"{key[0]}.{key[1]} as (i64" in str(caught.value)
    assert f"here {EXPECTED[key]}" in str(caught.value)


# ---- bad modules


@pytest.mark.parametrize(
    ("wasm", "said"),
    [
        (b"", "is empty"),
        (b"\x7fELF" + bytes(60), "not wasm"),
        (b"#!/bin/sh\n", "not wasm"),
        (b"(module)", "WebAssembly text"),
        (b"\0asm", "cut off"),
        (b"\0asm\x02\0\0\0", "version"),
        (HEADER + b"\x63\x01\0", "number of a section, found 99"),
    ],
    ids=["empty", "elf", "script", "text", "no version", "version 2", "section 99"],
)
def test_what_is_not_wasm_is_refused(wasm: bytes, said: str):
    with pytest.raises(ModuleInvalid, match=said):
        engine().load(wasm)


@pytest.mark.parametrize(
    ("name", "error", "parts"),
    [
        ("component", ModuleInvalid, ["component", "core module", "wasm32-wasip1"]),
        ("unknown_imports", ModuleInvalid, ["spear.teleport", "env.foo", "spear.read_minds"]),
        ("imported_memory", ModuleInvalid, ["env.memory (memory)"]),
        ("wrong_signature", ModuleInvalid,
         ["spear.time_now_ms as () -> i32, here () -> i64"]),
        ("two_memories", ModuleInvalid, ["2 memories", "one memory per module"]),
        ("huge_table", ModuleLimit, ["10000000 elements", "the limit is 100000"]),
    ],
)  # fmt: skip
def test_a_module_that_asks_for_too_much_is_refused(
    name: str, error: type[SpearError], parts: list[str]
):
    with pytest.raises(error) as caught:
        engine().load(guest_bytes(name))
    assert [part for part in parts if part not in str(caught.value)] == []
    if name == "unknown_imports":
        assert "proc_exit" not in str(caught.value)


@pytest.mark.parametrize("name", ["hello", "echo", "unreachable", "add"])
def test_a_module_cut_off_anywhere_is_refused(name: str):
    """But behind a section, where what remains may be a whole module."""
    wasm, loaded = guest_bytes(name), 0
    cuts = range(8, len(wasm), max(1, len(wasm) // 150))
    for cut in cuts:
        try:
            engine().load(wasm[:cut])
            loaded += 1
        except ModuleInvalid as error:
            assert str(error)
    assert loaded < len(cuts) // 4


def test_code_that_is_not_valid_is_refused_by_the_engine():
    with pytest.raises(ModuleInvalid, match="not valid"):
        engine().load(asm.module(body=asm.I32_ADD))


def test_a_function_of_another_module_type_is_refused():
    body = section(10, vector(text(b"\0" + asm.i32_const(1) + asm.END)))
    wasm = HEADER + section(1, vector(func_type())) + section(3, vector(b"\0"))
    with pytest.raises(ModuleInvalid, match="not valid"):
        engine().load(wasm + section(7, vector(export("_start", 0, 0))) + body)


def test_a_module_of_a_foreign_type_is_refused():
    for wasm in (None, "text", 7, 1 << 40):
        with pytest.raises(InvalidArgument, match="given as bytes"):
            engine().load(wasm)  # type: ignore[arg-type]


# ---- what a loaded module says


def test_a_module_says_what_it_declares():
    module = guest("add")
    assert module.exports == ("_initialize", "add", "count")
    assert module.shape == "small"
    assert (module.memory_min_bytes, module.memory_max_bytes) == (65536, None)
    assert (module.source, module.warning) == ("compiled", "")
    assert module.unserved == ()
    assert len(module.digest) == 64
    assert module.digest[:12] in repr(module)


def test_shape_and_limits_come_from_the_memory():
    assert guest("touch_large").shape == "large"
    assert guest("touch_large").memory_min_bytes >= 257 * 65536
    assert guest("touch_small").shape == "small"
    assert guest("out_of_bounds").memory_max_bytes == 65536
    without = engine().load(asm.module(pages=None))
    assert (without.memory_min_bytes, without.memory_max_bytes) == (0, None)


def test_unserved_imports_are_listed():
    assert len(guest("unserved").unserved) == 9
    assert "rtasr_read" in guest("unserved").unserved


def test_bytes_like_inputs_are_taken():
    wasm = guest_bytes("noop")
    for given in (wasm, bytearray(wasm), memoryview(wasm)):
        assert engine().load(given).digest == guest("noop").digest


def test_modules_cannot_be_made_by_hand():
    with pytest.raises(TypeError):
        Module()


@pytest.mark.parametrize("slots", [0, -1, 24_001])
def test_slots_out_of_range_are_refused(slots: int):
    with pytest.raises(ValueError, match="slots"):
        Engine(slots=slots)


def test_an_engine_with_few_slots_refuses_the_guest_that_finds_none():
    small = Engine(slots=2)
    sleeper, noop = small.load(guest_bytes("sleeper")), small.load(guest_bytes("noop"))
    with executor() as node:
        sleeping = [node.start(sleeper, args=("sleeper", "-1")) for _ in range(2)]
        for run in sleeping:
            run.wait(events=True)  # it logs before it sleeps
        refused = ended(node.start(noop))
        assert (refused.status, refused.cause) == ("failed", "instantiate")
        assert refused.message.startswith("the module could not be instantiated: ")
        sleeping[0].cancel()
        ended(sleeping[0])
        assert ended(node.start(noop)).cause == "exit"


def test_an_engine_can_go_before_its_modules():
    module = Engine(slots=4).load(guest_bytes("noop"))
    with executor() as node:
        assert ended(node.start(module)).status == "completed"


def test_an_executor_runs_modules_of_several_engines():
    modules = [Engine(slots=4).load(guest_bytes("noop")) for _ in range(3)]
    with executor() as node:
        assert [ended(node.start(module)).status for module in modules] == ["completed"] * 3


def test_statistics_count_recycled_memories():
    own = Engine(slots=8)
    assert own.stats() == {}
    module = own.load(guest_bytes("touch_small"))
    with executor(workers=1) as node:
        for _ in range(20):
            ended(node.start(module))
    stats = own.stats()
    assert 1 <= stats["memories_made"] <= 3
    assert stats["memories_idle"] == stats["memories_made"]
    assert stats["cleaning"] in ("scan", "pagemap", "drop")
    own.trim()
    assert own.stats()["idle_bytes"] == 0


def touching(places: Iterable[int], value: int, all_places: Iterable[int]) -> bytes:
    """A guest that finds a byte of another's, at any of `all_places`, exits with 1."""
    body = b"".join(
        asm.i32_load(at) + asm.IF + asm.i32_const(1) + asm.call(0) + asm.END for at in all_places
    )
    body += b"".join(asm.i32_store(at, value) for at in places)
    return asm.module([(asm.WASI, "proc_exit", "i", "")], body)


@pytest.mark.parametrize("workers", [1, 2])
def test_memory_is_zero_for_each_guest(workers: int):
    """Each writes single bits elsewhere; slots are used again at once, and after many others."""
    chance = random.Random(workers)
    writes = [[chance.randrange(65_533) for _ in range(3)] for _ in range(12)]
    writes += [[0], [65_532], [4_092, 4_096], [4_094], []]
    everywhere = {at for places in writes for at in places}
    own = Engine(slots=300)
    modules = [
        own.load(touching(places, 1 << chance.randrange(31), everywhere)) for places in writes
    ]
    with executor(workers=workers) as node:
        for at_once in [1] * 200 + [150, 2, 150]:
            runs = [node.start(chance.choice(modules)) for _ in range(at_once)]
            assert {ended(run).exit_code for run in runs} == {0}


def test_many_threads_may_load_at_once():
    own, wasm = Engine(slots=4), guest_bytes("hello")
    barrier, loaded = threading.Barrier(8), []

    def load() -> None:
        barrier.wait()
        loaded.append(own.load(wasm))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {module.digest for module in loaded} == {loaded[0].digest}
    with executor() as node:
        assert {ended(node.start(module)).status for module in loaded} == {"completed"}


def test_the_library_and_range_are_given():
    version, path = engine_module.library()
    assert path.endswith(".so")
    assert tuple(map(int, version.split("."))) >= engine_module.VERSION_FLOOR


def test_the_engine_is_made_when_first_needed():
    probe = (
        "from spear._core.engine import Engine\n"
        "from pathlib import Path\n"
        "def maps(): return len(Path('/proc/self/maps').read_bytes().splitlines())\n"
        "before = maps(); engine = Engine(slots=24000); assert engine.stats() == {}, 1\n"
        "assert maps() - before < 10"
    )
    assert python(probe).stderr == ""


def test_the_expected_table_is_the_one_of_the_sdk():
    """Every call that the C header declares is in the table, with as many parameters."""
    header = (ROOT / "sdk/c/spear.h").read_text()
    declared = header.split("SPEAR_IMPORT(")[2:]
    for declaration in declared:
        name = declaration.partition('"')[2].partition('"')[0]
        inside = declaration.partition("(")[2].partition(");")[0]
        count = 0 if inside.strip() == "void" else inside.count(",") + 1
        assert EXPECTED["spear", name].partition(" ->")[0].count("i") == count, name

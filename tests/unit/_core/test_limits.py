"""Limits of what a module declares and of what a guest and its host may use, at their edges."""

from __future__ import annotations

import pytest
import wasm_asm as asm
from guest_runs import assembled, ended, engine, executor, python
from wasm_bytes import HEADER, custom, export, func_type, import_func, leb, section, text, vector

from spear._core import wasmfile
from spear.errors import ModuleInvalid, ModuleLimit

MEMORY = section(5, vector(b"\0\x01"))
MEMORY_EXPORT = export("memory", 2, 0)
CODE_42 = 42


def tables(*minimums: int) -> bytes:
    return section(4, vector(*(b"\x70\0" + leb(minimum) for minimum in minimums)))


def exiting(code: bytes, *before_exports: bytes) -> bytes:
    """A command that exits with what `code` leaves on the stack."""
    return b"".join((
        HEADER,
        section(1, vector(func_type(), func_type(b"\x7f"))),
        section(2, vector(import_func(asm.WASI, "proc_exit", 1))),
        section(3, vector(b"\0")),
        *before_exports[:1],
        MEMORY,
        section(7, vector(export("_start", 0, 1), MEMORY_EXPORT)),
        section(10, vector(text(b"\0" + code + asm.call(0) + asm.END))),
    ))  # fmt: skip


def grown(by: int) -> bytes:
    """What table.grow of table 0 gives, plus 42."""
    grow = b"\xd0\x70" + asm.i32_const(by) + b"\xfc\x0f\x00"
    return grow + asm.i32_const(CODE_42) + asm.I32_ADD


@pytest.mark.parametrize(
    ("begins", "by", "gives"),
    [(1000, 99_000, 1000), (1000, 99_001, -1), (100_000, 0, 100_000), (100_000, 1, -1),
     (0, 2**31 - 1, -1), (0, -1, -1)],
)  # fmt: skip
def test_a_table_grows_up_to_its_limit_and_then_not(begins: int, by: int, gives: int):
    with executor() as node:
        outcome = ended(node.start(assembled(exiting(grown(by), tables(begins)))))
    assert (outcome.cause, outcome.exit_code) == ("exit", gives + CODE_42)


def test_as_many_tables_as_are_served_and_no_more():
    with executor() as node:
        module = assembled(exiting(asm.i32_const(0), tables(*[100_000] * 4)))
        assert ended(node.start(module)).status == "completed"
    with pytest.raises(ModuleLimit, match=r"has 5 tables, the limit is 4$"):
        engine().load(exiting(asm.i32_const(0), tables(1, 1, 1, 1, 1)))
    with pytest.raises(ModuleLimit, match="begins with 100001 elements"):
        engine().load(exiting(asm.i32_const(0), tables(1, 100_001)))


def test_a_module_may_have_ten_thousand_of_each():
    count = 10_000
    exports = [*(export(f"f{i}", 0, i) for i in range(100)),
               *(export(f"g{i}", 3, i) for i in range(count))]  # fmt: skip
    wasm = b"".join((
        HEADER,
        section(1, vector(func_type())),
        section(3, vector(*[b"\0"] * count)),
        MEMORY,
        section(6, vector(*[b"\x7f\x01\x41\0\x0b"] * count)),
        section(7, vector(export("_start", 0, 0), MEMORY_EXPORT, *exports)),
        section(10, vector(*[text(b"\0\x0b")] * count)),
    ))  # fmt: skip
    module = assembled(wasm)
    assert len(module.exports) == 101
    with executor() as node:
        assert ended(node.start(module)).status == "completed"
        with pytest.raises(ModuleInvalid) as caught:
            node.start(module, entry="none")
    assert len(str(caught.value)) < 200


def test_data_up_to_the_memory_and_not_beyond():
    whole = asm.module(pages=512, data=[(0, b"x" * (512 * 65536))])
    with executor() as node:
        outcome = ended(node.start(assembled(whole)))
        assert (outcome.status, outcome.memory_bytes) == ("completed", 512 * 65536)
        beyond = ended(node.start(assembled(asm.module(data=[(65_530, b"x" * 7)]))))
    assert (beyond.status, beyond.cause) == ("failed", "trap")
    assert beyond.message == "the guest trapped: out of bounds memory access"


# ---- names as long as the module


def test_a_long_function_name_is_cut_in_the_backtrace():
    """A record that keeps a backtrace does not keep the module's names whole."""
    wasm = b"".join((
        HEADER,
        section(1, vector(func_type())),
        section(3, vector(b"\0", b"\0")),
        MEMORY,
        section(7, vector(export("_start", 0, 0), MEMORY_EXPORT)),
        section(10, vector(text(b"\0" + asm.call(1) + asm.END),
                           text(b"\0" + asm.UNREACHABLE + asm.END))),
        asm.name_section([(0, "n" * 1_000_000), (1, "m" * 256)]),
    ))  # fmt: skip
    with executor() as node:
        outcome = ended(node.start(assembled(wasm)))
    assert [frame.function for frame in outcome.backtrace] == ["m" * 256, "n" * 256]
    assert outcome.message == "the guest trapped: unreachable code reached"


def test_a_great_many_unknown_imports_are_counted_and_long_ones_cut():
    many = [import_func("env", f"x{i}", 0) for i in range(5000)]
    long = [import_func("env", "y" * 99_999, 0)]
    for rows, ends in ((many, "and 4936 more; "), (long, "... (100010 characters); ")):
        wasm = HEADER + section(1, vector(func_type())) + section(2, vector(*rows))
        with pytest.raises(ModuleInvalid) as caught:
            engine().load(wasm)
        assert ends in str(caught.value)
        assert len(str(caught.value)) < 2000


def test_a_long_entry_and_long_exports_are_cut():
    wasm = exiting(asm.i32_const(0)).replace(b"_start", b"_later")
    with executor() as node, pytest.raises(ModuleInvalid) as caught:
        node.start(assembled(wasm), entry="e" * 100_000)
    assert "... (100000 characters)" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("count", [0, 1, 64, 65, 1000])
def test_lists_name_up_to_64(count: int):
    found = wasmfile.listed([str(i) for i in range(count)])
    assert found.split(", ")[:64] == ([str(i) for i in range(min(count, 64))] or [""])
    assert found.endswith(f"and {count - 64} more") == (count > 64)


# ---- what is read in Python before anything is compiled is bounded


def test_value_types_of_all_types_are_counted_together():
    letters = b"\x7f" * 1000
    most = section(1, vector(*[func_type(letters)] * 1000))
    assert wasmfile.scan(HEADER + most).function_count == 0
    for extra in (func_type(b"\x7f"), func_type(b"", b"\x7f")):
        wasm = HEADER + section(1, vector(*[func_type(letters)] * 1000, extra))
        with pytest.raises(ModuleInvalid, match="at most 1000000 value types in all types"):
            wasmfile.scan(wasm)


def test_custom_sections_are_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wasmfile, "_TYPES_MAX", 3)
    assert wasmfile.scan(HEADER + custom("a") * 3)
    with pytest.raises(ModuleInvalid, match="at most 3 custom sections"):
        wasmfile.scan(HEADER + custom("a") * 4)


# ---- threads that the system does not give: tiny address space stands for any reason

SQUEEZED = """
import ctypes, resource
ctypes.CDLL(None).mallopt(-8, 1)  # that of a new thread takes 64 MiB too much at first
from guest_runs import engine, guest, ended, executor
from spear.errors import NodeBusy
def squeeze():
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (1 << 20), HARD))
SOFT, HARD = resource.getrlimit(resource.RLIMIT_AS)
noop, sleeper, add = guest("noop"), guest("sleeper"), guest("add")
"""
NO_THREAD = """
with executor() as node:
    squeeze()
    for inline in (False, True):
        try: node.start(noop, inline=inline)
        except NodeBusy as error: print(error)
    try: node.run_many(noop, 3)
    except NodeBusy as error: print(error)
    try: node.instantiate(add)
    except NodeBusy as error: print(error)
    print(node.stats()["live"], node.stats()["started"])
    resource.setrlimit(resource.RLIMIT_AS, (SOFT, HARD))
    print(ended(node.start(noop)).cause, node.run_many(noop, 3).counts)
"""
NO_WORKER = """
with executor() as node:
    ended(node.start(sleeper, args=("sleeper", "0"), inline=True))
    squeeze()
    for inline in (True, False):
        outcome = ended(node.start(sleeper, args=("sleeper", "10"), inline=inline))
        print(outcome.cause, outcome.message)
    resource.setrlimit(resource.RLIMIT_AS, (SOFT, HARD))
    print(ended(node.start(sleeper, args=("sleeper", "10"), inline=True)).cause)
"""


def test_a_node_without_a_thread_is_busy_and_works_once_there_is_one():
    result = python(SQUEEZED + NO_THREAD)
    assert result.stdout.splitlines() == [
        *["the system gives no more threads"] * 4, "0 0", "exit {'exit': 3}",
    ], result.stderr  # fmt: skip


def test_a_guest_for_which_no_worker_comes_ends_and_is_not_lost():
    """The timekeeper is there, the workers are not."""
    result = python(SQUEEZED + NO_WORKER)
    said = "no_memory the host had no memory left for the guest"
    assert result.stdout.splitlines() == [said, said, "exit"], result.stderr


GROWING = """(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $times i32)
    (loop $on
      (if (i32.ne (memory.grow (i32.const 16)) (i32.const -1)) (then
        (i32.store (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 4)) (i32.const 7))
        (local.set $times (i32.add (local.get $times) (i32.const 1)))
        (br $on))))
    (call $exit (local.get $times))))"""


def test_memory_that_the_host_refuses_is_refused_to_the_guest_alone():
    """It grows until it is told no. In a process of its own, for a while with a limit on its data
    that a few MiB of the guest's go beyond."""
    probe = f"""
import resource
import wasmtime
from guest_runs import ended, engine, executor, finish
module = engine().load(bytes(wasmtime.wat2wasm('''{GROWING}''')))
with executor(workers=1) as node:
    ended(node.start(module, memory_bytes_max=65536))
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    lines = open("/proc/self/status").read().splitlines()
    (used,) = [int(line.split()[1]) << 10 for line in lines if line.startswith("VmData")]
    resource.setrlimit(resource.RLIMIT_DATA, (used + (16 << 20), limits[1]))
    short = ended(node.start(module))
    other = finish(node, "hello")[1]
    resource.setrlimit(resource.RLIMIT_DATA, limits)
    again = ended(node.start(module))
print(short.cause, 0 < short.exit_code < 63, other.status, again.cause, again.exit_code)
"""
    answered = python(probe)
    assert answered.stdout == "exit True completed exit 63\n", answered.stderr

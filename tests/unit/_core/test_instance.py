"""Warm instances: made once, called often."""

from __future__ import annotations

import gc
import threading

import pytest
import wasmtime
from text_guests import MEMORY, NATIVE, text_engine

from spear._core.batches import Batch
from spear._core.engine import Module
from spear._core.instance import Function, Instance
from spear._core.run import Run
from spear.errors import GuestTrap, InvalidArgument, ModuleInvalid, ModuleLimit, NodeClosed
from tests.guest_runs import assembled, engine, executor, guest
from tests.wasm_bytes import export, section, vector


def test_functions_take_and_give_integers():
    with executor() as node:
        add = node.instantiate(guest("add")).function("add")
        assert (add.name, add.signature) == ("add", "(i32, i32) -> i32")
        assert add(1, 2) == 3
        assert add(-1, 5) == 4
        assert add(2**32 - 1, 0) == -1
        assert add(2**31 - 1, 1) == -(2**31)


def test_an_instance_keeps_its_state_between_calls():
    with executor() as node:
        instance = node.instantiate(guest("add"))
        count = instance.function("count")
        assert [count() for _ in range(5)] == [1, 2, 3, 4, 5]
        assert node.instantiate(guest("add")).function("count")() == 1


@pytest.mark.parametrize("given", [(), (1,), (1, 2, 3)])
def test_a_wrong_number_of_arguments_is_refused(given: tuple[int, ...]):
    with executor() as node:
        add = node.instantiate(guest("add")).function("add")
        with pytest.raises(InvalidArgument, match=f"was given {len(given)} arguments"):
            add(*given)


@pytest.mark.parametrize("given", [2**32, -(2**31) - 1])
def test_a_value_outside_its_type_is_refused(given: int):
    with executor() as node:
        add = node.instantiate(guest("add")).function("add")
        with pytest.raises(InvalidArgument, match="no 32-bit integer"):
            add(given, 0)
        with pytest.raises(TypeError):
            add("1", 0)
        assert add(1, 1) == 2


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_an_integer_of_thousands_of_digits_is_refused_in_any_place(place: int):
    given: list[float] = [0, 0, 0.0, 0.0]
    given[place] = 10**5000
    with executor() as node:
        mix = node.instantiate(guest("reactor")).function("mix")
        with pytest.raises(InvalidArgument, match=r"^an integer of 16610 bits is no "):
            mix(*given)
        assert mix(1, 2, 3.0, 4.5) == mix(1, 2, 3.0, 4.5)


def test_an_unknown_function_is_named_with_those_there_are():
    with executor() as node:
        instance = node.instantiate(guest("add"))
        with pytest.raises(ModuleInvalid, match=r"'sub'; exported: .*add"):
            instance.function("sub")


def test_a_trap_says_where_and_spends_the_instance():
    with executor() as node:
        instance = node.instantiate(guest("unreachable"))
        start = instance.function("_start")
        with pytest.raises(GuestTrap, match="unreachable code reached") as caught:
            start()
        outcome = caught.value.outcome
        assert [frame.function for frame in outcome.backtrace] == ["give_up", "work", "_start"]
        assert next(iter(instance.read_logs())).message == "about to give up"
        assert instance.read_output() == b"half a li"
        with pytest.raises(InvalidArgument, match="spent"):
            start()
        with pytest.raises(InvalidArgument, match="spent"):
            instance.function("_start")


def test_an_endless_call_is_ended_at_its_deadline_also_by_a_fresh_executor():
    with executor() as node, pytest.raises(GuestTrap, match=r"deadline of 0\.05 s"):
        node.instantiate(guest("start_loop"), timeout_ns=50_000_000)


def test_memory_above_the_limit_is_refused():
    with executor() as node, pytest.raises(ModuleLimit, match="memory begins"):
        node.instantiate(guest("memory_over_limit"))


def test_a_closed_instance_and_a_closed_executor_refuse():
    with executor() as node:
        instance = node.instantiate(guest("add"))
        add = instance.function("add")
        instance.close()
        instance.close()
        with pytest.raises(InvalidArgument, match="closed"):
            add(1, 2)
        node.close()
        with pytest.raises(NodeClosed):
            node.instantiate(guest("add"))


def test_instances_free_their_memory():
    with executor() as node:
        for _ in range(50):
            node.instantiate(guest("add")).function("add")(1, 2)
        gc.collect()
        stats = engine().stats()
        assert stats["memories_idle"] == stats["memories_made"]


def test_one_thread_at_a_time():
    """Calls from several threads either run or are refused; none is lost or mixed."""
    with executor() as node:
        instance = node.instantiate(guest("add"))
        add, done, refused = instance.function("add"), [0] * 4, [0] * 4

        def work(number: int) -> None:
            for value in range(2000):
                try:
                    assert add(number, value) == number + value
                    done[number] += 1
                except RuntimeError as error:
                    assert "under way" in str(error)
                    refused[number] += 1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(done) + sum(refused) == 8000
        assert sum(done) > 0


@pytest.mark.parametrize("count", [0, 1, 31, 32])
def test_functions_of_up_to_32_parameters_are_called(count: int):
    wasm = (
        b"\0asm\1\0\0\0"
        + section(1, vector(b"\x60" + bytes([count]) + b"\x7f" * count + b"\1\x7f"))
        + section(3, vector(b"\0"))
        + section(7, vector(export("f", 0, 0)))
        + section(10, vector(b"\x04\0\x41" + bytes([count]) + b"\x0b"))
    )
    with executor() as node:
        assert node.instantiate(assembled(wasm)).function("f")(*range(count)) == count


def test_a_warm_call_after_close_is_refused():
    with executor() as node:
        add = node.instantiate(guest("add")).function("add")
        node.close()
        with pytest.raises(NodeClosed):
            add(1, 2)


def test_a_thread_with_too_small_a_stack_is_refused():
    with executor() as node:
        add = node.instantiate(guest("add")).function("add")
        refused: list[str] = []

        def call() -> None:
            try:
                add(1, 2)
            except InvalidArgument as error:
                refused.append(str(error))

        before = threading.stack_size(256 << 10)
        try:
            thread = threading.Thread(target=call)
            thread.start()
        finally:
            threading.stack_size(before)
        thread.join()
        assert len(refused) == 1
        assert "KiB of stack" in refused[0]


def test_handles_cannot_be_made_by_hand():
    for kind in (Run, Batch, Function):
        with pytest.raises(TypeError, match="are made by"):
            kind.__new__(kind)
    with pytest.raises(InvalidArgument, match="not made"):
        Instance.__new__(Instance).function("add")


WRITE = "(drop (call $write (i32.const 1) (i32.const 400) (i32.const 1) (i32.const 12)))"  # 4 KiB
SAY = "(drop (call $log (i32.const 2) (i32.const 16) (i32.const 6)))"  # "shared"
TALKER = f"""(module {NATIVE} {MEMORY}
  (func (export "write") {WRITE * 2})
  (func (export "say") {SAY * 20}))"""


@pytest.fixture(scope="module")
def talker() -> Module:
    return text_engine(False).load(bytes(wasmtime.wat2wasm(TALKER)))


@pytest.mark.parametrize("isolation", ["shared", "fresh"])
def test_the_limit_of_its_output_holds_for_each_call(talker: Module, isolation: str):
    with executor() as node:
        roomy = node.instantiate(talker, isolation=isolation, output_bytes_max=8192)
        for _ in range(3):
            run = roomy.function("write").start()
            run.wait()
            assert (run.outcome.cause, len(run.output)) == ("exit", 8192)
        narrow = node.instantiate(talker, isolation=isolation, output_bytes_max=8191)
        run = narrow.function("write").start()
        run.wait()
        assert (run.outcome.cause, run.outcome.output_bytes) == ("output_limit", 4096)
        assert "8191" in run.outcome.message
        narrow = node.instantiate(talker, isolation=isolation, output_bytes_max=8191)
        with pytest.raises(GuestTrap, match="8191"):
            narrow.function("write")()


@pytest.mark.parametrize("log_waits", [False, True])
def test_the_limit_of_its_log_holds_for_each_call(talker: Module, log_waits: bool):
    counted = 6 + 32 * log_waits
    with executor() as node:
        instance = node.instantiate(talker, log_bytes_max=10 * counted, log_waits=log_waits)
        for _ in range(3):
            run = instance.function("say").start()
            run.wait()
            assert (run.outcome.log_truncated, len(run.read_logs())) == (True, 11)  # and the mark


@pytest.mark.parametrize(
    ("bytes_max", "lines"), [(60, 11), (5, 1), (0, 1)], ids=["later", "first line", "at once"]
)
def test_a_call_in_place_has_its_limits_too(bytes_max: int, lines: int):
    """Of a module that imports nothing which may wait. The mark of a cut log counts no bytes."""
    with executor() as node:
        instance = node.instantiate(in_place(SAY * 20), log_bytes_max=bytes_max)
        say = instance.function("say")
        for _ in range(3):
            say()
            assert len(instance.read_logs()) == lines


def test_a_call_in_place_is_not_charged_with_empty_lines_of_those_before():
    again = "(br_if 0 (i32.lt_u (local.get 0) (i32.const 400000)))"
    count = "(local.set 0 (i32.add (local.get 0) (i32.const 1)))"
    empty = "(drop (call $log (i32.const 2) (i32.const 16) (i32.const 0)))"
    with executor() as node:
        instance = node.instantiate(in_place(f"(local i32) (loop {empty} {count} {again})"))
        say = instance.function("say")
        for _ in range(3):
            say()
            assert {entry.message for entry in instance.read_logs()} == {""}


def in_place(body: str) -> Module:
    text = f"""(module (import "spear" "log" (func $log (param i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 16) "shared")
      (func (export "say") {body}))"""
    return engine().load(bytes(wasmtime.wat2wasm(text)))


@pytest.mark.parametrize("limit", ["output_bytes_max", "log_bytes_max"])
def test_a_limit_without_sense_is_refused(talker: Module, limit: str):
    with executor() as node, pytest.raises(InvalidArgument, match=limit):
        node.instantiate(talker, **{limit: -1})

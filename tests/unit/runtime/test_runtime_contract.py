"""One suite over every runtime: what the interface promises."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spear.errors import ModuleInvalid, NodeClosed
from spear.runtime.invocation import Invocation
from spear.runtime.stub import StubRun, StubRuntime
from spear.runtime.waiting import drive
from spear.runtime.wasm.runtime import WasmRuntime

NAMES = ("hello", "echo", "sleeper", "exit_code", "trap", "loop", "log_flood")


class Case:
    """A runtime and how it finds a guest of a given behaviour."""

    def __init__(self, runtime: Any, program: Callable[[str], bytes]) -> None:
        self.runtime, self.program = runtime, program

    def start(
        self, name: str, *args: str, stdin: bytes = b"", timeout_ns: int = 10**10, **more: Any
    ) -> Any:
        program = self.runtime.load(self.program(name))
        invocation = Invocation(
            args=(name, *args), stdin=stdin, timeout_ns=timeout_ns, memory_bytes_max=64 << 20,
            output_bytes_max=1 << 20, log_bytes_max=1 << 20, **more,
        )  # fmt: skip
        return self.runtime.start(program, invocation)


def play(run: StubRun) -> None:
    """The stub's side of the guests in NAMES."""
    name, *args = run.invocation.args
    if name == "hello":
        run.log("hello from a guest")
        run.write(b"Hello, SPEAR!\n")
        run.finish()
    elif name == "echo":
        run.write(run.invocation.stdin)
        run.finish()
    elif name == "exit_code" and args and args[0] != "0":
        run.finish("failed", "exit", exit_code=int(args[0]), message="exited")
    elif name == "trap":
        run.finish("failed", "trap", trap="memory out of bounds", message="trapped")
    elif name == "loop":
        run.finish("timeout", "deadline", message="deadline")
    elif name == "log_flood":
        for number in range(int(args[0])):
            run.log(f"line {number}")
        run.finish()
    elif name == "sleeper":
        run.log("going to sleep")
    else:
        run.finish()


@pytest.fixture(params=["stub", "wasm"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    if request.param == "stub":
        found = Case(StubRuntime(play), lambda name: b"stub" + name.encode())
    else:
        pytest.importorskip("spear._core.executor")
        guest = request.getfixturevalue("guest")
        runtime = WasmRuntime(
            guests_max=8, workers=1, cache_dir=str(tmp_path / "cache"),
            compile_ns_max=30 * 10**9, compile_bytes_max=1 << 30,
        )  # fmt: skip
        found = Case(runtime, lambda name: guest(name).read_bytes())
    yield found
    found.runtime.close()


def test_a_program_says_what_it_is(case: Case) -> None:
    program = case.runtime.load(case.program("hello"))
    assert len(program.digest) == 64
    assert program.shape in ("small", "large")
    assert program.source in ("compiled", "cache")
    assert program.warning == ""
    assert not program.unserved


def test_bytes_of_no_program_are_refused(case: Case) -> None:
    with pytest.raises(ModuleInvalid):
        case.runtime.load(b"neither")


def test_a_run_ends_with_its_outcome_and_output(case: Case) -> None:
    run = case.start("hello")
    assert run.wait(10)
    assert run.done
    assert (run.outcome.status, run.outcome.cause, run.outcome.exit_code) == (
        "completed", "exit", 0,
    )  # fmt: skip
    assert run.output == b"Hello, SPEAR!\n"
    assert run.outcome.output_bytes == len(run.output)


def test_runs_that_are_alike_have_inputs_of_their_own(case: Case) -> None:
    program, other = (case.runtime.load(case.program(name)) for name in ("echo", "hello"))
    like = Invocation(
        args=("echo",), stdin=b"not this", timeout_ns=1, memory_bytes_max=64 << 20,
        output_bytes_max=1 << 20, log_bytes_max=1 << 20,
    )  # fmt: skip
    for count in range(5):
        run = case.runtime.begin(program, like, b"x" * count, "0123-4567", 10**10, 128, True)
        assert run.wait(10)
        record = SimpleNamespace()
        run.fill(record)
        assert (run.completed, run.output, record.exit_code) == (True, b"x" * count, 0)
        assert record.finished_ns == record.started_ns + record.duration_ns
        assert (record.cpu_ns, record.value) == (run.outcome.cpu_ns, ())
    like.args = ("hello",)
    like.prepared = None
    assert case.runtime.begin(other, like, b"", "", 10**10, 128, True).wait(10)
    assert case.runtime.begin(program, like, b"", "", 10**10, 128, True).wait(10), "made anew"


def test_input_comes_in_and_output_goes_out(case: Case) -> None:
    data = bytes(range(256)) * 100
    run = case.start("echo", stdin=data)
    assert run.wait(10)
    assert run.output == data


def test_reading_output_takes_it_but_the_whole_remains(case: Case) -> None:
    run = case.start("hello")
    run.wait(10)
    assert run.read_output() == b"Hello, SPEAR!\n"
    assert run.read_output() == b""
    assert run.output == b"Hello, SPEAR!\n"


def test_log_lines_are_numbered_from_one_and_taken_once(case: Case) -> None:
    run = case.start("hello")
    run.wait(10)
    lines = [line for line in run.read_logs() if line.stream == "log"]
    assert lines[0].message == "hello from a guest"
    assert (lines[0].seq, lines[0].level) == (1, 2)
    assert not run.read_logs()


def test_an_exit_code_is_the_guest_s_own(case: Case) -> None:
    run = case.start("exit_code", "7")
    run.wait(10)
    assert (run.outcome.status, run.outcome.cause, run.outcome.exit_code) == ("failed", "exit", 7)


def test_a_trap_is_a_failure_with_the_trap_s_name(case: Case) -> None:
    run = case.start("trap")
    run.wait(10)
    assert (run.outcome.status, run.outcome.cause, run.outcome.exit_code) == ("failed", "trap", -1)
    assert run.outcome.trap


def test_a_deadline_ends_a_loop(case: Case) -> None:
    run = case.start("loop", timeout_ns=100_000_000)
    assert run.wait(30)
    assert (run.outcome.status, run.outcome.cause) == ("timeout", "deadline")


def test_a_wait_can_be_given_up_and_the_run_goes_on(case: Case) -> None:
    run = case.start("sleeper", "60000")
    assert not run.wait(0.01)
    assert not run.done
    with pytest.raises(RuntimeError):
        _ = run.outcome
    run.cancel()


def test_a_cancel_ends_a_run_once(case: Case) -> None:
    run = case.start("sleeper", "60000")
    assert run.cancel("enough")
    assert run.wait(10)
    assert (run.outcome.status, run.outcome.cause) == ("terminated", "cancelled")
    assert not run.cancel("again")


async def test_a_run_can_be_awaited(case: Case) -> None:
    run = case.start("sleeper", "60000")
    asyncio.get_running_loop().call_later(0.01, run.cancel)
    await run
    assert run.outcome.status == "terminated"


def test_a_closed_runtime_takes_no_more_and_ends_what_runs(case: Case) -> None:
    run = case.start("sleeper", "60000")
    case.runtime.close()
    case.runtime.close()
    assert run.wait(10)
    assert run.outcome.status == "terminated"
    with pytest.raises(NodeClosed):
        case.start("hello")


async def change_of(run: Any) -> bool:
    found: bool = await run.changed()
    return found


async def end_by_changes(run: Any) -> None:
    """A runtime may log the end itself, so that there is news before it."""
    while not await run.changed():
        assert run.read_logs()


async def test_a_change_is_awaited_on_a_loop_without_a_thread(case: Case) -> None:
    threads = threading.active_count()
    run = case.start("sleeper", "60000")
    assert not await asyncio.wait_for(change_of(run), 60)
    assert run.read_logs()
    end = asyncio.create_task(end_by_changes(run))
    await asyncio.sleep(0.01)
    assert not end.done()
    assert threading.active_count() == threads
    run.cancel()
    await asyncio.wait_for(end, 60)
    assert await asyncio.wait_for(change_of(run), 60)


def test_a_change_is_waited_for_without_a_loop(case: Case) -> None:
    run = case.start("sleeper", "60000")
    assert not drive(change_of(run))
    assert run.read_logs()
    timer = threading.Timer(0.01, run.cancel)
    timer.start()
    drive(end_by_changes(run))
    assert run.done
    timer.join()


async def test_changes_may_be_awaited_beside_the_end(case: Case) -> None:
    run = case.start("sleeper", "60000")
    end = asyncio.ensure_future(run)
    while not await asyncio.wait_for(change_of(run), 60):
        run.read_logs()
        run.cancel()
    assert (await asyncio.wait_for(end, 60)).status == "terminated"


def test_the_newest_lines_are_kept_and_the_rest_is_counted(case: Case) -> None:
    run = case.start("log_flood", "5", log_lines_max=2)
    assert run.wait(10)
    lines = run.read_logs()
    assert [line.seq for line in lines] == [run.outcome.log_lines - 1, run.outcome.log_lines]
    assert run.outcome.log_lost == run.outcome.log_lines - 2 > 0


def test_an_engine_that_counts_fuel_is_made_when_it_is_asked_for(
    guest: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a second engine, whose guests are slower."""
    pytest.importorskip("spear._core.engine")
    from spear._core.engine import Engine

    made: list[bool] = []

    def engine(*, metered: bool, **more: Any) -> Engine:
        made.append(metered)
        return Engine(metered=metered, **more)

    monkeypatch.setattr("spear.runtime.wasm.runtime._engine_class", lambda: engine)
    runtime = WasmRuntime(
        guests_max=8, workers=1, cache_dir=str(tmp_path), compile_ns_max=30 * 10**9,
        compile_bytes_max=1 << 30,
    )  # fmt: skip
    case = Case(runtime, lambda name: guest(name).read_bytes())
    try:
        run = case.start("hello")
        assert run.wait(10)
        assert (run.outcome.status, run.outcome.fuel) == ("completed", None)
        assert made == [False]
        assert runtime.load(case.program("hello"), metered=True).metered
        assert made == [False, True]
    finally:
        runtime.close()

"""A prepared start is as any other; what it settles once it refuses then."""

from __future__ import annotations

import gc
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from spear._core.engine import Engine
from spear._core.executor import Executor, Launch
from spear.errors import InvalidArgument, ModuleInvalid, ModuleLimit, NodeBusy
from tests.guest_runs import (
    ended,
    engine,
    executor,
    finish,
    guest,
    guest_bytes,
    logged,
    python,
)  # fmt: skip

ID = "01234567-89ab-7def-8123-456789abcdef"
S = 10**9


def go(launch: Launch, name: str, stdin: bytes = b"", timeout_ns: int = 60 * S) -> Any:
    return launch.start(guest(name), stdin, ID, timeout_ns, 128, True)


def test_it_gives_what_a_plain_start_gives_each_time():
    with executor() as node:
        plain, outcome = finish(node, "hello", "a", "b")
        launch = node.prepare(guest("hello"), args=("hello", "a", "b"))
        said = logged(plain)
        for _ in range(20):
            run = go(launch, "hello")
            found = ended(run)
            assert (found.status, found.exit_code) == (outcome.status, outcome.exit_code)
            assert (run.output, logged(run)[0]) == (plain.output, said[0])


def test_each_has_its_own_input_and_what_it_borrows_lives_on():
    with executor() as node:
        launch = node.prepare(guest("echo"), args=["echo"], env={"NAME": "v" * 50})
        inputs = [bytes([n]) * (n * 37) for n in range(50)]
        runs = [go(launch, "echo", data[:]) for data in inputs]
        del launch
        gc.collect()
        for run in runs:
            ended(run)
        assert [run.output for run in runs] == inputs


def test_a_function_gets_its_arguments_each_time():
    with executor() as node:
        launch = node.prepare(guest("reactor"), entry="mix", call_args=(1, 2, 3.0, 4.5))
        runs = [go(launch, "reactor") for _ in range(3)]
        assert [ended(run).status for run in runs] == ["completed"] * 3
        assert [run.value for run in runs] == [10.5] * 3


def test_each_has_a_deadline_and_fuel_of_its_own():
    metered = Engine(slots=10, metered=True)
    loop = metered.load(guest_bytes("start_loop"))
    with executor() as node:
        launch = node.prepare(loop, fuel=1_000_000)
        for _ in range(3):
            assert ended(launch.start(loop, b"", "", 60 * S, 128, True)).fuel == 1_000_000
        stopped = ended(node.prepare(guest("loop"), args=("loop",)).start(
            guest("loop"), b"", "", 50_000_000, 128, False))  # fmt: skip
        assert (stopped.status, stopped.message) == (
            "timeout", "the guest was stopped at its deadline of 0.05 s",
        )  # fmt: skip


def test_it_is_of_one_module_and_one_executor_and_keeps_no_module():
    other = engine().load(guest_bytes("echo"))
    with executor() as node, executor() as second:
        before = sys.getrefcount(other)
        launch = node.prepare(other, args=("echo",))
        assert sys.getrefcount(other) == before
        assert launch.fits(node, other)
        assert not launch.fits(second, other)
        same = engine().load(guest_bytes("echo"))
        assert not launch.fits(node, same)
        with pytest.raises(InvalidArgument, match="another module"):
            launch.start(same, b"", "", S, 128, True)
        del other
        gc.collect()
        assert not launch.fits(node, same), "a new module is no old one, wherever it lies"


def test_what_is_wrong_is_refused_when_it_is_prepared_or_started():
    with executor() as node:
        with pytest.raises(ModuleInvalid, match="exports no function 'nothing'"):
            node.prepare(guest("hello"), entry="nothing")
        with pytest.raises(ModuleLimit):
            node.prepare(guest("hello"), memory_bytes_max=65536)
        with pytest.raises(InvalidArgument, match="log_lines_max"):
            node.prepare(guest("hello"), log_lines_max=-1)
        with pytest.raises(TypeError):
            Launch()  # type: ignore[call-arg]
        launch = node.prepare(guest("hello"))
        for bad in ((b"", "", 0, 128), (b"", "", S, 256), (b"", "no id!", S, 128)):
            with pytest.raises(InvalidArgument):
                launch.start(guest("hello"), *bad, True)
        for wrong in (None, "text"):
            with pytest.raises(TypeError):
                launch.start(guest("hello"), wrong, "", S, 128, True)  # type: ignore[arg-type]


def test_a_forked_child_is_refused():
    probe = """
import os
from guest_runs import guest
from spear._core.executor import Executor
from spear.errors import NodeClosed
node = Executor(workers=1)
launch = node.prepare(guest("hello"))
assert launch.start(guest("hello"), b"", "", 10**10, 128, False).wait(60)
child = os.fork()
if child == 0:
    for inline in (True, False):
        try:
            launch.start(guest("hello"), b"", "", 10**10, 128, inline)
        except NodeClosed as error:
            assert "before a fork" in str(error)
        else:
            os._exit(1)
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
    done = python(probe)
    assert done.stdout == "0\n", done.stderr


def test_where_there_is_no_room_it_is_refused_and_nothing_is_left():
    with executor(guests_max=1) as node:
        waits = node.start(guest("sleeper"), args=("sleeper", "-1"))
        launch = node.prepare(guest("hello"))
        for _ in range(3):
            with pytest.raises(NodeBusy):
                go(launch, "hello")
        waits.cancel()


# ---- what a run says of itself on a record

NAMES = (
    "started_ns", "duration_ns", "cpu_ns", "fuel", "memory_bytes", "log_lines", "log_lost",
    "log_truncated",
)  # fmt: skip


def told(run: Any) -> dict[str, Any]:
    """Plainly, from its outcome: what `fill` sets."""
    outcome = run.outcome
    found = {name: getattr(outcome, name) for name in NAMES}
    found["finished_ns"] = outcome.started_ns + outcome.duration_ns
    found["exit_code"] = outcome.exit_code if outcome.cause == "exit" else None
    if outcome.status == "completed":
        try:
            value = run.value
        except RuntimeError:
            value = None
        found["value"] = () if value is None else value if isinstance(value, tuple) else (value,)
    return found


def runs_of(node: Executor) -> list[Any]:
    metered = Engine(slots=10, metered=True)
    hello, loop = metered.load(guest_bytes("hello")), metered.load(guest_bytes("start_loop"))
    return [
        node.start(guest("hello"), args=("hello",)),
        node.start(guest("exit_code"), args=("exit_code", "0")),
        node.start(guest("exit_code"), args=("exit_code", "7")),
        node.start(guest("exit_code"), args=("exit_code", "-1")),
        node.start(guest("trap"), args=("trap",)),
        node.start(guest("reactor"), entry="mix", call_args=(1, 2, 3.0, 4.5)),
        node.start(guest("log_flood"), args=("log_flood", "50"), log_lines_max=3),
        node.start(guest("loop"), args=("loop",), timeout_ns=30_000_000),
        node.start(hello, args=("hello",)),
        node.start(loop, fuel=1000),
    ]


def test_a_record_is_filled_with_what_the_outcome_says():
    with executor() as node:
        for run in runs_of(node):
            ended(run)
            record = SimpleNamespace()
            run.fill(record)
            assert vars(record) == told(run)
            assert run.completed == (run.outcome.status == "completed")


def test_nothing_is_filled_before_the_end_or_where_the_record_refuses():
    with executor() as node:
        run = node.start(guest("sleeper"), args=("sleeper", "-1"))
        assert not run.completed
        with pytest.raises(RuntimeError, match="has not ended"):
            run.fill(SimpleNamespace())
        run.cancel()
        ended(run)
        assert not run.completed
        with pytest.raises(AttributeError):
            run.fill(object())

"""Deadlines: a guest ends at its own wherever it is, also in a queue that stands still."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import wasm_asm as asm
from guest_runs import (
    MS,
    SLEEP_FOREVER,
    ended,
    executor,
    finish,
    guest,
    looping,
    python,
)

from spear._core.engine import Engine
from spear._core.executor import Executor

TIGHT = 150 * MS
AHEAD = 8  # loops that wait for the worker
TURN_NS = 250_000  # the least between two turns of the timekeeper that nothing else has woken
TICK_NS = 10 * MS


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


TIMEOUTS = {
    "loop": ("loop", ("loop",)),
    "sleep": ("sleeper", SLEEP_FOREVER),
    "poll": ("pause", ("pause", "100000")),
    "start function": ("start_loop", ()),
    "output flood": ("stdout_flood", ("stdout_flood", "900000000000")),
    "log flood": ("log_flood", ("log_flood", "900000000000")),
}


@pytest.mark.parametrize("inline", [False, True], ids=["worker", "inline"])
@pytest.mark.parametrize("kind", TIMEOUTS)
def test_a_deadline_is_met_wherever_the_guest_is(node: Executor, kind: str, inline: bool):
    name, args = TIMEOUTS[kind]
    run = node.start(
        guest(name), args=args, timeout_ns=TIGHT, inline=inline, output_bytes_max=1 << 40,
        log_stdout=False,
    )  # fmt: skip
    outcome = ended(run)
    assert (outcome.status, outcome.cause, outcome.exit_code) == ("timeout", "deadline", -1)
    assert outcome.message == "the guest was stopped at its deadline of 0.15 s"
    assert outcome.duration_ns >= TIGHT


def test_a_deadline_of_a_nanosecond_ends_at_once(node: Executor):
    assert finish(node, "loop", timeout_ns=1)[1].cause == "deadline"


def test_writes_of_many_large_vectors_do_not_outlive_the_deadline():
    """In a process of its own: the wait for the end of such a call would be the test's."""
    probe = """
import wasm_asm as asm
from guest_runs import MS, engine
from spear._core.engine import Engine
from spear._core.executor import Executor
fill = b"".join(
    asm.i32_store(1024 + 8 * i, 65536) + asm.i32_store(1028 + 8 * i, 60 << 20)
    for i in range(1024))
write = asm.i32_const(2) + asm.i32_const(1024) + asm.i32_const(1024) + asm.i32_const(64)
body = fill + asm.LOOP + write + asm.call(0) + asm.DROP + asm.BR_0 + asm.END
wasm = asm.module([(asm.WASI, "fd_write", "iiii", "i")], body, pages=1000)
run = Executor(workers=1).start(engine().load(wasm), timeout_ns=200 * MS)
over = run.wait(20)
print(over and run.outcome.cause, flush=True)
import os; os._exit(0)
"""
    assert python(probe).stdout == "deadline\n"


QUEUED = {
    "fresh": ("noop", (), False),
    "woken": ("sleeper", ("sleeper", "20"), True),  # parks on the caller's thread, then is queued
}


@pytest.mark.parametrize("kind", QUEUED)
def test_a_deadline_is_met_in_the_queue(kind: str):
    """Slices of a second: the guests ahead of it have not had their turns when it ends."""
    name, args, inline = QUEUED[kind]
    with executor(workers=1, epoch_tick_ms=1000) as node:
        looping(node)
        ahead = [node.start(guest("loop"), args=("loop",)) for _ in range(AHEAD)]
        turns = node.stats()["polls"]
        run = node.start(guest(name), args=args, timeout_ns=TIGHT, inline=inline)
        assert ended(run).cause == "deadline"
        assert node.stats()["polls"] - turns < AHEAD
        assert node.stats()["woken"] == (kind == "woken")
        assert not any(loop.done for loop in ahead)


def test_many_that_woke_in_the_queue_end_at_their_deadlines():
    """More sleepers than the timekeeper takes at once."""
    with executor(workers=1, epoch_tick_ms=1000) as node:
        looping(node)
        ahead = [node.start(guest("loop"), args=("loop",)) for _ in range(AHEAD)]
        turns = node.stats()["polls"]
        runs = [
            node.start(guest("sleeper"), args=("sleeper", "20"), inline=True,
                       timeout_ns=TIGHT + (n % 7) * MS)
            for n in range(200)
        ]  # fmt: skip
        assert {ended(run).cause for run in runs} == {"deadline"}
        assert node.stats()["polls"] - turns < AHEAD
        assert not any(loop.done for loop in ahead)


def test_waits_that_are_due_close_together_are_ended_together():
    """The timekeeper takes a turn in 250 us at most, however many guests it ends the waits of."""
    guests, times = 1_000, 50
    naps = (asm.i32_const(1) + asm.call(0)) * times
    napping = asm.module([("spear", "sleep_ms", "i", "")], naps)
    with executor(workers=1, guests_max=guests) as node:
        batch = node.run_many(Engine(slots=guests).load(napping), guests)
        stats = node.stats()
    assert batch.completed == guests
    assert stats["parks"] > guests
    assert 0 < stats["clock_turns"] <= batch.duration_ns / TURN_NS + batch.duration_ns / TICK_NS + 5

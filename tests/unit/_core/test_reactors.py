"""Reactors: initialized once, their functions started on fibers, isolated as asked."""

from __future__ import annotations

import asyncio
import functools
import gc

import pytest

from spear._core.engine import Engine
from spear.errors import GuestTrap, InvalidArgument, NodeBusy
from tests import wasm_asm as asm
from tests.guest_runs import (
    HANG_S,
    assembled,
    ended,
    engine,
    executor,
    guest,
    guest_bytes,
    logged,
    looping,
)


@functools.cache
def metered() -> Engine:
    return Engine(slots=100, metered=True)


def test_a_started_call_gives_its_value_and_has_an_output_and_log_of_its_own():
    with executor() as node:
        reactor = node.instantiate(guest("reactor"))
        say = reactor.function("say")
        first, second = say.start(1), None
        assert ended(first).status == "completed"
        second = say.start(2)
        assert ended(second).status == "completed"
        assert (first.output, second.output) == (b"number 1\n", b"number 2\n")
        assert logged(second) == ["said"]
        assert second.value is None


def test_a_shared_instance_keeps_its_memory_between_started_calls():
    with executor() as node:
        count = node.instantiate(guest("reactor")).function("count")
        runs = []
        for _ in range(5):
            runs.append(count.start())
            ended(runs[-1])
        assert [run.value for run in runs] == [1, 2, 3, 4, 5]


def test_a_fresh_one_is_initialized_anew_for_each_call():
    with executor() as node:
        instance = node.instantiate(guest("reactor"), isolation="fresh")
        assert [instance.function("count")() for _ in range(3)] == [1, 1, 1]
        assert instance.function("ready")() == 1
        assert instance.memory_bytes == 0
        assert (instance.read_logs(), instance.read_output()) == ([], b"")
        with pytest.raises(GuestTrap):
            instance.function("boom")()
        assert instance.function("count")() == 1, "one that trapped spends nothing"


def test_numbers_of_every_type_go_in_and_out():
    with executor() as node:
        mix = node.instantiate(guest("reactor")).function("mix")
        run = mix.start(-1, 2**40, 0.5, 0.25, inline=True)
        ended(run)
        assert run.value == 2**40 - 1 + 0.75
        assert node.start(guest("reactor"), entry="mix", call_args=(1, 2, 3.0, 4.5)).wait(HANG_S)


def test_an_unknown_isolation_is_refused():
    with executor() as node, pytest.raises(InvalidArgument, match=r"'own'.*shared, fresh"):
        node.instantiate(guest("reactor"), isolation="own")


def test_a_call_that_waits_is_served_in_a_sync_call_too():
    with executor() as node:
        nap = node.instantiate(guest("reactor")).function("nap")
        assert [nap(1), nap(0), nap(1)] == [1, 2, 3]


def test_one_call_at_a_time_also_while_it_is_parked():
    with executor() as node:
        reactor = node.instantiate(guest("reactor"))
        nap, count = reactor.function("nap"), reactor.function("count")
        run = nap.start(-1)
        assert not run.wait(HANG_S, events=True), "it logs before it waits"
        with pytest.raises(RuntimeError, match="under way"):
            count()
        with pytest.raises(RuntimeError, match="under way"):
            count.start()
        with pytest.raises(RuntimeError, match="under way"):
            reactor.close()
        run.cancel()
        assert ended(run).status == "terminated"
        with pytest.raises(InvalidArgument, match="spent: a call into it did not return"):
            count()


@pytest.mark.parametrize(("function", "args", "status", "cause"), [
    ("boom", (), "failed", "trap"),
    ("spin", (), "timeout", "deadline"),
    ("nap", (-1,), "timeout", "deadline"),
    ("leave", (3,), "failed", "exit"),
])  # fmt: skip
def test_a_call_that_does_not_return_spends_the_instance(
    function: str, args: tuple[int, ...], status: str, cause: str
):
    with executor() as node:
        reactor = node.instantiate(guest("reactor"))
        run = reactor.function(function).start(*args, timeout_ns=30_000_000)
        assert (ended(run).status, run.outcome.cause) == (status, cause)
        with pytest.raises(RuntimeError, match="did not return"):
            _ = run.value
        with pytest.raises(InvalidArgument, match="spent"):
            reactor.function("count")


def test_a_call_cancelled_before_it_began_spends_nothing():
    with executor(workers=1, epoch_tick_ms=1000) as node:
        reactor = node.instantiate(guest("reactor"))
        spinning = looping(node)  # keeps the one worker for a whole slice
        run = reactor.function("count").start()
        run.cancel()
        assert ended(run).cause == "cancelled"
        spinning.cancel()
        assert reactor.function("count")() == 1


def test_a_refused_start_leaves_the_instance_usable():
    with executor(guests_max=1) as node:
        reactor = node.instantiate(guest("reactor"))
        holder = node.start(guest("sleeper"), args=("sleeper", "-1"))
        with pytest.raises(NodeBusy):
            reactor.function("count").start()
        holder.cancel()
        ended(holder)
        assert reactor.function("count")() == 1


@pytest.mark.parametrize("args", [(), (1, 2)])
def test_a_wrong_number_of_arguments_is_refused(args: tuple[int, ...]):
    with executor() as node:
        reactor = node.instantiate(guest("reactor"))
        with pytest.raises(InvalidArgument, match=f"was given {len(args)} arguments"):
            reactor.function("nap").start(*args)
        with pytest.raises(InvalidArgument, match=f"was given {len(args)} arguments"):
            reactor.function("nap")(*args)


def test_a_reactor_that_cannot_be_initialized_says_why():
    with executor() as node, pytest.raises(GuestTrap, match="unreachable"):
        node.instantiate(guest("start_trap"))


async def test_calls_are_awaited_on_the_loop():
    with executor() as node:
        instances = [node.instantiate(guest("reactor")) for _ in range(20)]
        runs = [instance.function("nap").start(2) for instance in instances]
        outcomes = await asyncio.gather(*runs)
        assert {outcome.status for outcome in outcomes} == {"completed"}
        assert {run.value for run in runs} == {1}


def test_the_record_of_a_call_keeps_its_instance_alive():
    with executor() as node:
        run = node.instantiate(guest("reactor")).function("nap").start(1)
        gc.collect()
        assert ended(run).status == "completed"
        del run
        gc.collect()
        stats = engine().stats()
        assert stats["memories_idle"] == stats["memories_made"]


def test_a_fresh_reactor_run_initializes_before_its_entry():
    with executor() as node:
        run = node.start(guest("reactor"), entry="ready")
        ended(run)
        assert run.value == 1


def test_a_call_in_place_leaves_no_descriptor_closed_and_no_line_counted():
    rows = [("wasi_snapshot_preview1", "fd_close", "i", "i")]
    close = asm.i32_const(1) + asm.call(0) + asm.IF + asm.UNREACHABLE + asm.END
    with executor() as node:
        start = node.instantiate(assembled(asm.module(rows, close))).function("_start")
        for _ in range(3):
            start()


def test_fuel_of_a_call_in_place_is_told():
    with executor() as node:
        spin = node.instantiate(metered().load(guest_bytes("reactor")), fuel=200_000).function(
            "spin"
        )
        with pytest.raises(GuestTrap, match="fuel of 200000") as caught:
            spin()
        assert caught.value.outcome.fuel == 200_000

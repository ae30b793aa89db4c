"""The gate before a backend: slots in order, none lost to who leaves."""

from __future__ import annotations

import asyncio

import pytest
from virtual_time import VirtualClock, run

from spear.errors import ModelUnavailable
from spear.hostcalls.llm.choice.limits import WAITING_MAX, Gate

CLOCK = VirtualClock()


async def turns(gate: Gate, count: int) -> list[asyncio.Task[None]]:
    """Callers that wait, in order."""
    tasks = [asyncio.create_task(gate.enter(0)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


def test_a_slot_that_came_as_its_caller_left_goes_to_the_next() -> None:
    async def main() -> None:
        gate = Gate("a", 1, 0, CLOCK)
        await gate.enter(0)
        first, second = await turns(gate, 2)
        gate.leave()  # the slot is the first one's, which has not run yet
        first.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert first.cancelled()
        assert not second.cancelled()
        assert (gate.busy, gate.waiting) == (1, 0)
        gate.leave()
        assert (gate.busy, gate.open()) == (0, True)

    run(main())


def test_who_leaves_the_queue_is_gone_from_it_at_once() -> None:
    async def main() -> None:
        gate = Gate("a", 1, 0, CLOCK)
        await gate.enter(0)
        first, second, third = await turns(gate, 3)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert gate.waiting == 2
        gate.leave()
        await first
        assert not third.done()
        gate.leave()
        await third
        assert (gate.busy, gate.waiting) == (1, 0)

    run(main())


def test_a_newcomer_does_not_pass_those_that_wait() -> None:
    async def main() -> None:
        gate = Gate("a", 1, 0, CLOCK)
        await gate.enter(0)
        (first,) = await turns(gate, 1)
        gate.leave()
        (newcomer,) = await turns(gate, 1)
        assert (first.done(), newcomer.done()) == (True, False)
        newcomer.cancel()
        await asyncio.gather(newcomer, return_exceptions=True)

    run(main())


def test_the_queue_is_bounded() -> None:
    async def main() -> None:
        gate = Gate("a", 1, 0, CLOCK)
        await gate.enter(0)
        waiting = await turns(gate, WAITING_MAX)
        with pytest.raises(ModelUnavailable, match="'a' has 1 requests under way and 1000"):
            await gate.enter(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert (gate.busy, gate.waiting) == (1, 0)

    run(main())


def test_who_leaves_while_it_waits_for_its_minute_gives_the_slot_back() -> None:
    async def main() -> None:
        gate = Gate("a", 1, 1, CLOCK)
        await gate.enter(0)
        gate.leave()
        (second,) = await turns(gate, 1)
        assert gate.busy == 1
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert gate.busy == 0

    run(main())


def test_a_turn_that_nobody_waits_for_any_more_is_the_next_one_s() -> None:
    async def main() -> None:
        gate = Gate("a", 0, 1, CLOCK)
        began_ns, entered_s = CLOCK.monotonic_ns(), list[float]()

        async def enter() -> None:
            await gate.enter(0)
            entered_s.append((CLOCK.monotonic_ns() - began_ns) / 1e9)

        await enter()
        tasks = [asyncio.create_task(enter()) for _ in range(4)]
        await asyncio.sleep(90)  # the second is gone in, the third waits for its turn
        tasks[1].cancel()
        tasks[2].cancel()
        await asyncio.sleep(1)
        tasks.append(asyncio.create_task(enter()))
        await asyncio.gather(*tasks, return_exceptions=True)
        assert entered_s == pytest.approx([0, 60, 120, 180])

    run(main())


def test_a_turn_after_the_deadline_is_refused_by_its_place_in_line() -> None:
    async def main() -> None:
        gate = Gate("a", 0, 1, CLOCK)
        await gate.enter(0)
        waiting = await turns(gate, 2)  # at 60 and at 120 s
        assert not gate.open()
        deadline_ns = CLOCK.monotonic_ns() + 179 * 10**9
        with pytest.raises(ModelUnavailable, match="would begin in 180000 ms"):
            await gate.enter(deadline_ns)
        waiting[0].cancel()
        await asyncio.gather(waiting[0], return_exceptions=True)
        await gate.enter(deadline_ns)  # at 120 s now
        assert waiting[1].done()

    run(main())


def test_a_gate_goes_on_on_the_next_event_loop() -> None:
    gate = Gate("a", 0, 600, CLOCK)

    async def main() -> None:
        await asyncio.gather(*(gate.enter(0) for _ in range(63)))

    run(main())
    run(main())
    assert gate.busy == 126

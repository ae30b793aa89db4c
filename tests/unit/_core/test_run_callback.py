"""Run.call_back: an event loop hears of a run's end and news without a task or a future."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from guest_runs import HANG_S, executor, guest, guest_bytes, parked

from spear._core.engine import Engine
from spear._core.executor import Executor
from spear._core.run import Run
from spear.errors import InvalidArgument


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


class Told:
    """Collects what was told, and wakes who waits for it."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.came = asyncio.Event()

    def __call__(self, run: Run) -> None:
        self.runs.append(run)
        self.came.set()

    async def once(self) -> None:
        async with asyncio.timeout(HANG_S):
            await self.came.wait()


async def test_the_end_is_told_once_and_never_inside_the_call(node: Executor):
    told = Told()
    run = node.start(guest("hello"))
    run.call_back(told)
    assert told.runs == []
    await told.once()
    await asyncio.sleep(0)
    assert told.runs == [run]
    assert run.done


async def test_an_end_before_the_call_is_told_too(node: Executor):
    told = Told()
    run = node.start(guest("hello"))
    await run
    run.call_back(told)
    assert told.runs == []
    await told.once()
    assert told.runs == [run]


async def test_news_is_told_while_the_guest_goes_on(node: Executor):
    told = Told()
    run = parked(node)
    run.read_logs()
    run.call_back(told, news=True)
    assert run.cancel("enough")  # which is logged first
    await told.once()
    await run
    assert [line.message for line in run.read_logs()] == ["Terminate execution: enough"]


async def test_a_run_that_nobody_holds_but_its_callback_goes_on(node: Executor):
    told = Told()
    node.start(guest("hello")).call_back(told)
    await told.once()
    assert told.runs[0].outcome.status == "completed"


async def test_a_callback_that_raises_leaves_the_others_alone(node: Executor):
    told, errors = Told(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: errors.append(what))
    runs = [parked(node), parked(node)]

    def fail(_: Run) -> None:
        raise ValueError("planted")

    runs[0].call_back(fail)
    runs[1].call_back(told)
    for run in runs:
        run.cancel()
    await told.once()
    await asyncio.gather(*(_end(run) for run in runs))
    assert [str(what["exception"]) for what in errors] == ["planted"]


async def _end(run: Run) -> None:
    await run


def test_without_a_loop_it_is_refused(node: Executor):
    run = node.start(guest("hello"))
    with pytest.raises(RuntimeError, match="no event loop"):
        run.call_back(print)
    run.wait()


async def test_a_world_is_refused():
    with executor(seed=1) as world:
        run = world.start(Engine(slots=4, metered=True).load(guest_bytes("hello")))
        with pytest.raises(InvalidArgument, match="waited for"):
            run.call_back(print)
        await run

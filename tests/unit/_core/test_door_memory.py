"""Whichever allocation fails while a call is answered, no guest waits for ever."""

from __future__ import annotations

import asyncio
import gc
import select
import warnings
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from guest_runs import HANG_S, ended, executor
from handle_guests import INVOKE, handle_guest
from trial_runs import EIO, ENOMEM, OPS, adding, calling, echoing, u32

from spear._core.door import Call
from spear._core.executor import Executor
from spear._core.handles import TASK_CALL, Handle

ROUNDS = 100
TURN_MAX = 256  # see door.pxd
INVOKED = "(call $invoke (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1))"
FIRST = 1000  # the guest's first descriptor


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


class Rings:
    """A loop's reader of a door, rung by hand while one allocation after another fails."""

    def __init__(self, node: Executor, op: int, handler: Any, **options: Any) -> None:
        self._capi = pytest.importorskip("_testcapi")
        loop = asyncio.get_running_loop()
        with mock.patch.object(loop, "add_reader", wraps=loop.add_reader) as added:
            node.serve({op: handler}, **options)
        self._fd, self._ring = added.call_args.args  # the last one

    def ring(self, at: int) -> None:
        """Once a guest has asked; the allocation of this number fails."""
        select.select([self._fd], [], [])
        self._capi.set_nomemory(at, at + 1)
        self.ring_armed()

    def ring_armed(self) -> None:
        try:
            self._ring()
        except MemoryError:
            pass
        finally:
            self._capi.remove_mem_hooks()

    def by_the_loop(self) -> None:
        """It rings by itself, as it would have without this."""
        asyncio.get_running_loop().add_reader(self._fd, self.ring_armed)


async def codes(node: Executor, rings: Rings, module: Any, calm: int, **options: Any) -> set[int]:
    """How guests ended whose call met a failing allocation, each a later one; the last met none."""
    seen: list[int] = []
    await asyncio.sleep(0)  # after its first turn the door heeds its reader
    for at in range(ROUNDS):
        run = node.start(module, **options)
        rings.ring(at)
        outcome = await asyncio.wait_for(run, HANG_S)
        seen.append(run.value if options else outcome.exit_code)
    assert seen[-1] == calm
    return set(seen)


def test_without_memory_for_its_call_a_guest_goes_on(node: Executor):
    """Where the first allocation fails, there is no call yet."""
    asks = calling("echo", 0, 5, 100, 8, data=[(0, b"hello"), (8, u32(90))])

    async def work() -> None:
        seen = await codes(node, Rings(node, OPS["echo"], echoing), asks, 5)
        assert {ENOMEM, 5} <= seen <= {ENOMEM, EIO, 5}

    asyncio.run(work())


async def waits(call: Call) -> int:
    await asyncio.sleep(0)
    return adding(call)


def test_without_memory_to_tell_a_failure_the_guest_has_its_answer(node: Executor):
    """The handler is no function of Python's: CPython 3.11 loses the error of one whose frame
    finds no memory on its way out."""

    async def work() -> None:
        told: dict[Call, BaseException] = {}
        rings = Rings(node, OPS["add"], ord, failed=told.setdefault)
        seen = await codes(node, rings, calling("add", 5, 7), EIO)
        assert seen <= {ENOMEM, EIO}
        assert TypeError in map(type, told.values())

    asyncio.run(work())


def test_without_memory_for_its_task_a_guest_goes_on(node: Executor):
    async def work() -> None:
        seen = await codes(node, Rings(node, OPS["add"], waits), calling("add", 5, 7), 12)
        assert {EIO, 12} <= seen <= {ENOMEM, EIO, 12}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # coroutines without memory for a task
        asyncio.run(work())
        gc.collect()


def test_without_memory_for_its_handle_a_guest_goes_on(node: Executor):
    """Some handles are never given: those are closed."""
    closed: list[Handle] = []
    ready = [Handle(TASK_CALL, "kept", closed=closed.append) for _ in range(ROUNDS)]

    async def work() -> None:
        rings = Rings(node, INVOKE, lambda call: ready.pop())
        seen = await codes(node, rings, handle_guest(INVOKED), FIRST, entry="go")
        assert seen <= {ENOMEM, EIO, FIRST}

    asyncio.run(work())
    assert closed
    assert len(closed) == len(set(map(id, closed))), "each is closed once"


class Armed:
    """A handler after whose last call of a turn an allocation fails, that of the number `at`."""

    def __init__(self) -> None:
        self.capi = pytest.importorskip("_testcapi")
        self.calls = self.at = 0

    def __call__(self, call: Call) -> int:
        self.calls += 1
        if self.calls == TURN_MAX:
            self.capi.set_nomemory(self.at, self.at + 1)
        return 12


def test_without_memory_for_another_turn_there_is_one():
    """More guests ask at once than a turn takes; the rest does not wait for another to ask."""
    asks, quiet = calling("add", 5, 7), calling("noop")

    async def work(handler: Armed, node: Executor) -> None:
        rings = Rings(node, OPS["add"], handler)
        rings.by_the_loop()
        await asyncio.sleep(0)
        for at in range(12):
            handler.calls, handler.at = 0, at
            runs = [node.start(asks) for _ in range(TURN_MAX + 4)]
            ended(node.start(quiet))  # the only worker has run all others to their calls
            results = await asyncio.wait_for(asyncio.gather(*runs), HANG_S)
            assert {result.exit_code for result in results} <= {12, ENOMEM}

    with executor(workers=1) as single:
        asyncio.run(work(Armed(), single))

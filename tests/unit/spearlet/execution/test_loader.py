"""However many ask for a module at a time, it is compiled once."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from spear.errors import ModuleInvalid
from spear.runtime.stub import StubProgram, StubRuntime
from spear.runtime.waiting import drive
from spear.spearlet.execution.loader import Loader

WASM = b"stub guest"
GUARD_S = 60.0


class SlowRuntime(StubRuntime):
    """Compiles when it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.go_on = threading.Semaphore(0), threading.Event()

    def load(self, wasm: bytes, *, metered: bool = False) -> StubProgram:
        self.began.release()
        assert self.go_on.wait(GUARD_S)
        return super().load(wasm, metered=metered)


@pytest.fixture
def runtime() -> SlowRuntime:
    return SlowRuntime()


def asking(loader: Loader, wasm: bytes, count: int) -> tuple[list[threading.Thread], list[Any]]:
    """Threads that load, and what they get."""
    found: list[Any] = []

    def ask() -> None:
        try:
            found.append(drive(loader.load(wasm)))
        except Exception as error:
            found.append(error)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, found


def waiting(loader: Loader, count: int) -> None:
    """Until so many wait for the compile."""
    (loading,) = loader._loading.values()
    for _ in range(6000):
        if len(loading.ended._wakers) >= count:
            return
        threading.Event().wait(0.01)
    raise AssertionError("they do not wait")


async def test_concurrent_loads_on_a_loop_compile_once(runtime: SlowRuntime) -> None:
    loader = Loader(runtime, 1 << 20)
    loads = [asyncio.create_task(loader.load(WASM)) for _ in range(4)]
    assert await asyncio.to_thread(runtime.began.acquire, timeout=GUARD_S)
    await asyncio.sleep(0.01)  # the loop goes on
    runtime.go_on.set()
    artifacts = await asyncio.wait_for(asyncio.gather(*loads), GUARD_S)
    assert runtime.loads == 1
    assert len(set(map(id, artifacts))) == 1


def test_concurrent_loads_of_threads_compile_once(runtime: SlowRuntime) -> None:
    loader = Loader(runtime, 1 << 20)
    threads, found = asking(loader, WASM, 4)
    assert runtime.began.acquire(timeout=GUARD_S)
    waiting(loader, 3)
    runtime.go_on.set()
    for thread in threads:
        thread.join(GUARD_S)
    assert runtime.loads == 1
    assert len(found) == 4
    assert len(set(map(id, found))) == 1


async def test_a_thread_and_a_loop_share_a_compile(runtime: SlowRuntime) -> None:
    loader = Loader(runtime, 1 << 20)
    threads, found = asking(loader, WASM, 1)
    assert await asyncio.to_thread(runtime.began.acquire, timeout=GUARD_S)
    load = asyncio.create_task(loader.load(WASM))
    await asyncio.sleep(0)
    runtime.go_on.set()
    artifact = await asyncio.wait_for(load, GUARD_S)
    await asyncio.to_thread(threads[0].join, GUARD_S)
    assert found == [artifact]
    assert runtime.loads == 1


async def test_who_gives_up_leaves_the_compile_to_the_others(runtime: SlowRuntime) -> None:
    loader = Loader(runtime, 1 << 20)
    first, second = (asyncio.create_task(loader.load(WASM)) for _ in range(2))
    assert await asyncio.to_thread(runtime.began.acquire, timeout=GUARD_S)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    runtime.go_on.set()
    assert (await asyncio.wait_for(second, GUARD_S)).wasm == WASM
    assert runtime.loads == 1


def test_an_interrupted_compile_is_taken_over(runtime: SlowRuntime) -> None:
    class Interrupted(SlowRuntime):
        def load(self, wasm: bytes, *, metered: bool = False) -> StubProgram:
            program = super().load(wasm, metered=metered)
            if self.loads == 1:
                raise KeyboardInterrupt
            return program

    runtime = Interrupted()
    loader = Loader(runtime, 1 << 20)
    raised: list[bool] = []

    def interrupted() -> None:
        try:
            drive(loader.load(WASM))
        except KeyboardInterrupt:
            raised.append(True)

    first = threading.Thread(target=interrupted)
    first.start()
    assert runtime.began.acquire(timeout=GUARD_S)
    threads, found = asking(loader, WASM, 1)
    waiting(loader, 1)
    runtime.go_on.set()
    for thread in (first, *threads):
        thread.join(GUARD_S)
    assert raised == [True]
    assert found[0].wasm == WASM
    assert runtime.loads == 2


def test_a_bad_module_is_refused_to_all_and_to_the_next(runtime: SlowRuntime) -> None:
    loader = Loader(runtime, 1 << 20)
    threads, found = asking(loader, b"neither", 3)
    assert runtime.began.acquire(timeout=GUARD_S)
    waiting(loader, 2)
    runtime.go_on.set()
    for thread in threads:
        thread.join(GUARD_S)
    assert [type(error) for error in found] == [ModuleInvalid] * 3
    assert runtime.loads == 1
    with pytest.raises(ModuleInvalid):
        drive(loader.load(b"neither"))
    assert loader.stats() == {"count": 0, "bytes": 0}

"""One coroutine, driven with a loop and without."""

from __future__ import annotations

import asyncio
import sys
import threading
from types import ModuleType

import pytest

from spear.runtime.invocation import Invocation
from spear.runtime.stub import StubProgram, StubRun, StubRuntime
from spear.runtime.waiting import Latch, drive, offload, running_loop, submit, within

LIMITS = {
    "timeout_ns": 1, "memory_bytes_max": 65536, "output_bytes_max": 10, "log_bytes_max": 10,
}  # fmt: skip


def start() -> StubRun:
    return StubRuntime().start(StubProgram(b"stub"), Invocation(**LIMITS))


async def status_of(run: StubRun) -> str:
    await run
    return run.outcome.status


def test_a_run_that_has_ended_is_not_waited_for() -> None:
    run = start()
    run.finish()
    assert drive(status_of(run)) == "completed"


def test_without_a_loop_a_run_is_waited_for_on_this_thread() -> None:
    run = start()
    thread = threading.Thread(target=run.finish)
    run_status = None
    thread.start()
    run_status = drive(status_of(run))
    thread.join()
    assert run_status == "completed"


async def test_with_a_loop_the_loop_goes_on_while_a_run_is_waited_for() -> None:
    run = start()
    asyncio.get_running_loop().call_soon(run.finish)
    assert await status_of(run) == "completed"


async def test_a_run_may_be_awaited_by_many_and_from_another_thread() -> None:
    run = start()
    waits = [asyncio.create_task(status_of(run)) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.to_thread(run.finish)
    assert await asyncio.gather(*waits) == ["completed"] * 3


def test_an_interrupt_is_raised_inside_the_coroutine() -> None:
    class Interrupted:
        def wait(self) -> None:
            raise KeyboardInterrupt

        def __await__(self):  # type: ignore[no-untyped-def]
            yield self

    seen = []

    async def waiting() -> None:
        try:
            await Interrupted()
        except KeyboardInterrupt:
            seen.append("inside")
            raise

    with pytest.raises(KeyboardInterrupt):
        drive(waiting())
    assert seen == ["inside"]


async def test_the_sync_face_refuses_to_stop_a_running_loop() -> None:
    with pytest.raises(RuntimeError, match="await the async methods"):
        drive(status_of(start()))


async def test_offloaded_work_leaves_the_loop_s_thread() -> None:
    assert running_loop() is asyncio.get_running_loop()
    assert await offload(threading.get_ident) != threading.get_ident()


def test_offloaded_work_stays_where_there_is_no_loop() -> None:
    assert running_loop() is None
    assert drive(offload(threading.get_ident)) == threading.get_ident()


async def test_submitted_work_leaves_the_loop_s_thread_and_nobody_waits() -> None:
    latch, found = Latch(), []
    submit(lambda: (found.append(threading.get_ident()), latch.open()))  # type: ignore[arg-type]
    await asyncio.wait_for(opening(latch), 60)
    assert found != [threading.get_ident()]


def test_submitted_work_is_done_at_once_where_there_is_no_loop() -> None:
    latch = Latch()
    submit(latch.open)
    assert latch.opened


async def opening(latch: Latch) -> None:
    await latch


def test_a_latch_is_waited_for_by_threads() -> None:
    latch, found = Latch(), []
    threads = [threading.Thread(target=lambda: found.append(latch.wait(60))) for _ in range(4)]
    threads.append(threading.Thread(target=lambda: found.append(drive(opening(latch)) is None)))
    for thread in threads:
        thread.start()
    latch.open()
    for thread in threads:
        thread.join(60)
    assert found == [True] * 5
    assert latch.wait(0)


def test_a_wait_for_a_latch_ends_with_its_time_and_leaves_nothing() -> None:
    latch = Latch()
    assert not latch.wait(0.001)
    assert latch._wakers == []
    latch.open()
    latch.open()
    assert latch.wait()


async def test_a_latch_is_awaited_by_many_and_opened_by_a_thread() -> None:
    latch = Latch()
    waits = [asyncio.create_task(opening(latch)) for _ in range(3)]
    gone = asyncio.create_task(opening(latch))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    assert len(latch._wakers) == 3
    await asyncio.to_thread(latch.open)
    await asyncio.wait_for(asyncio.gather(*waits), 60)


def test_a_latch_opens_although_a_loop_that_waited_is_closed() -> None:
    latch, loop = Latch(), asyncio.new_event_loop()
    task = loop.create_task(opening(latch))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    latch.open()
    assert latch.opened
    task.get_coro().close()  # type: ignore[union-attr]
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_wait_within_a_time_tells_whether_it_came() -> None:
    run = start()
    assert not drive(within(run, 0.001))
    run.finish()
    assert drive(within(run, 0))


async def test_a_wait_within_a_time_tells_it_on_a_loop_too() -> None:
    run = start()
    assert not await within(run, 0.001)
    run.finish()
    assert await within(run, 0)


async def test_a_cancelled_wait_within_a_time_is_cancelled() -> None:
    task = asyncio.create_task(within(start(), 60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_no_loop_runs_where_asyncio_is_half_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may be about it."""
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "asyncio", ModuleType("asyncio"))
        assert running_loop() is None

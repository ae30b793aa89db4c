"""One coroutine, driven with a loop and without."""

from __future__ import annotations

import asyncio
import threading

import pytest

from spear.runtime.invocation import Invocation
from spear.runtime.stub import StubProgram, StubRun, StubRuntime
from spear.runtime.waiting import drive, offload, running_loop

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

from __future__ import annotations

import asyncio

import pytest

from spear.hostcalls.llm.waits import WaitLimit, within


async def for_ever() -> None:
    await asyncio.Event().wait()


async def over(limit: WaitLimit) -> None:
    """Until its time has come, without a wait that it ends."""
    while not limit._over:
        await asyncio.sleep(0)


async def test_a_wait_is_ended_by_the_limit() -> None:
    limit = WaitLimit(0.0)
    with pytest.raises(TimeoutError), limit:
        await for_ever()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # nothing of it is left


async def test_what_lies_between_two_waits_is_not_ended_but_the_next_wait_is() -> None:
    limit = WaitLimit(0.0)
    with limit:
        pass
    await over(limit)
    with pytest.raises(TimeoutError), limit:
        raise AssertionError("it was waited")


async def test_a_wait_that_is_done_just_then_ends_all_the_same() -> None:
    limit, done = WaitLimit(0.0), asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.0, done.set_result, None)
    with pytest.raises(TimeoutError), limit:
        await done
        await for_ever()


async def test_a_cancelling_from_elsewhere_stays_one() -> None:
    limit = WaitLimit(3600.0)

    async def wait() -> None:
        with limit:
            await for_ever()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    limit.close()


async def test_both_at_once_are_a_cancelling() -> None:
    limit = WaitLimit(3600.0)

    async def wait() -> None:
        with limit:
            await for_ever()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    limit._strike()
    with pytest.raises(asyncio.CancelledError):
        await task
    limit.close()


async def test_an_error_of_the_wait_stays_the_error() -> None:
    limit = WaitLimit(0.0)
    with pytest.raises(ZeroDivisionError), limit:
        try:
            await for_ever()
        except asyncio.CancelledError:
            raise ZeroDivisionError from None
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_limit_that_is_closed_ends_nothing() -> None:
    limit = WaitLimit(0.0)
    limit.close()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not limit._over


async def test_what_is_waited_for_outside_is_not_ended_but_the_next_wait_is() -> None:
    limit, seen = WaitLimit(0.0), []

    async def slow() -> None:
        await over(limit)
        seen.append("slow")

    with pytest.raises(TimeoutError), limit:
        await limit.outside(slow())
        raise AssertionError("it went on")
    assert seen == ["slow"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_behind_a_wait_outside_the_limit_counts_again() -> None:
    limit = WaitLimit(0.01)
    with pytest.raises(TimeoutError), limit:
        await limit.outside(asyncio.sleep(0))
        await for_ever()


# ---- the one wait of a request


def cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def test_one_wait_gives_what_it_gives_and_leaves_no_timer() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 7

    assert await within(0.001, answer()) == 7
    await asyncio.sleep(0.01)
    assert cancelling() == 0


async def test_one_wait_is_ended_in_time() -> None:
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await within(0.0, for_ever())
        assert cancelling() == 0
    await asyncio.sleep(0)


async def test_an_error_of_the_one_wait_stays_the_error() -> None:
    async def wait() -> None:
        try:
            await for_ever()
        except asyncio.CancelledError:
            raise ZeroDivisionError from None

    with pytest.raises(ZeroDivisionError):
        await within(0.0, wait())
    assert cancelling() == 0


async def test_an_answer_in_the_moment_of_the_limit_is_one() -> None:
    async def wait() -> int:
        try:
            await for_ever()
        except asyncio.CancelledError:
            return 7
        return 0

    assert await within(0.0, wait()) == 7
    assert cancelling() == 0


async def test_the_one_wait_is_cancelled_from_elsewhere_also_when_its_time_is_over() -> None:
    loop = asyncio.get_running_loop()
    for left_s in (3600.0, 0.0):
        task = asyncio.create_task(within(left_s, for_ever()))
        await asyncio.sleep(0)
        if left_s:
            task.cancel()
        else:
            loop.call_later(0.0, task.cancel)  # in the same turn as the limit, behind it
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelling() == 1


async def test_a_limit_within_a_limit_ends_only_its_own() -> None:
    with pytest.raises(TimeoutError):
        await within(0.01, within(3600.0, for_ever()))
    with pytest.raises(TimeoutError):
        await within(3600.0, within(0.01, for_ever()))
    assert cancelling() == 0

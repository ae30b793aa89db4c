"""Group commit: who is told by which flush, decided without a thread; and the thread's errors."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spear.errors import KvError
from spear.kv.committer import Committer, GroupCommit


def test_all_who_wait_share_one_flush_of_all_that_is_written() -> None:
    state: GroupCommit[str] = GroupCommit(0)
    assert state.begin() is None
    state.written = 3
    for waiter in "abc":
        state.wait(3, waiter)
    assert state.begin() == 3
    assert state.begin() is None  # one at a time
    assert state.end(done=True) == ["a", "b", "c"]
    assert state.synced == 3


def test_who_writes_during_a_flush_waits_for_the_next() -> None:
    state: GroupCommit[str] = GroupCommit(0)
    state.written = 1
    state.wait(1, "first")
    assert state.begin() == 1
    state.written = 2
    state.wait(2, "second")
    state.wait(1, "of the first write, late")
    assert state.end(done=True) == ["first", "of the first write, late"]
    assert state.synced == 1
    assert state.begin() == 2
    assert state.end(done=True) == ["second"]


def test_a_failed_flush_tells_everybody_and_makes_nothing_safe() -> None:
    state: GroupCommit[str] = GroupCommit(0)
    state.written = 2
    state.wait(1, "a")
    state.begin()
    state.wait(2, "b")
    assert state.end(done=False) == ["a", "b"]
    assert (state.synced, state.flushing) == (0, None)
    state.wait(2, "c")
    assert state.give_up() == ["c"]


@given(st.lists(st.sampled_from(["write", "wait", "begin", "end"]), max_size=60))
def test_nobody_is_told_before_a_flush_that_began_after_the_write(steps: list[str]) -> None:
    state: GroupCommit[int] = GroupCommit(0)
    at_begin = safe = 0  # writes when the flush under way began; writes that are on the disk
    for step in steps:
        if step == "write":
            state.written += 1
        elif step == "wait" and state.written > state.synced:
            state.wait(state.written, state.written)
        elif step == "begin" and state.begin() is not None:
            at_begin = state.written
        elif step == "end" and state.flushing is not None:
            safe = at_begin
            assert all(write <= safe for write in state.end(done=True))
            assert state.synced == safe


async def test_the_flush_runs_in_another_thread_and_covers_the_writes_of_a_turn() -> None:
    threads: list[int] = []
    targets: list[int] = []

    def flush() -> None:
        threads.append(threading.get_ident())

    committer = Committer(0, flush, targets.append, lambda error: KvError(str(error)), lambda: None)

    async def commit() -> None:
        committer.state.written += 1
        await committer.synced(committer.state.written)

    await asyncio.gather(*(commit() for _ in range(20)))
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    await committer.synced(7)  # safe already
    committer.stop(KvError("closed"))
    assert targets == [20]


async def test_the_loop_goes_on_while_a_flush_waits_for_the_disk() -> None:
    """However quick the disk has been, and however few wait."""
    go, stuck = threading.Event(), threading.Event()
    go.set()

    def flush() -> None:
        if not go.is_set():
            stuck.set()
            assert go.wait(60)

    committer = Committer(
        0, flush, lambda target: None, lambda error: KvError(str(error)), lambda: None
    )
    for write in range(1, 300):
        committer.state.written = write
        await committer.synced(write)
    go.clear()
    committer.state.written = 300
    waiting = asyncio.create_task(committer.synced(300))
    while not stuck.is_set():
        await asyncio.sleep(0)
    assert not waiting.done()
    go.set()
    await waiting
    committer.stop(KvError("closed"))


async def test_a_flush_that_cannot_be_noted_is_a_failure() -> None:
    told: list[Exception] = []

    def note(target: int) -> None:
        raise OSError(f"no room to note {target}")

    def failed(error: Exception) -> KvError:
        told.append(error)
        return KvError(str(error))

    committer = Committer(0, lambda: None, note, failed, lambda: None)
    committer.state.written = 1
    await committer.synced(1)  # it is safe all the same
    while not told:
        await asyncio.sleep(0)
    assert str(told[0]) == "no room to note 1"
    committer.stop(KvError("closed"))


async def test_the_error_of_a_flush_reaches_every_waiter_as_what_it_is_made_to() -> None:
    told: list[Exception] = []

    def flush() -> None:
        raise OSError("no luck")

    def failed(error: Exception) -> KvError:
        told.append(error)
        return KvError(f"seen: {error}")

    committer = Committer(0, flush, lambda target: None, failed, lambda: None)
    committer.state.written = 2
    ends = await asyncio.gather(committer.synced(1), committer.synced(2), return_exceptions=True)
    assert [str(end) for end in ends] == ["seen: no luck"] * 2
    assert len(told) == 1
    committer.stop(KvError("closed"))


async def test_stopping_tells_who_waits_and_joins_the_thread() -> None:
    began, go = threading.Event(), threading.Event()

    def flush() -> None:
        began.set()
        go.wait(60)

    committer = Committer(
        0, flush, lambda target: None, lambda error: KvError(str(error)), lambda: None
    )
    committer.state.written = 1
    waiting = asyncio.create_task(committer.synced(1))
    await asyncio.to_thread(began.wait, 60)
    go.set()
    committer.stop(KvError("closed"))
    with pytest.raises(KvError, match="closed"):
        await waiting
    assert "spear-kv-flush" not in {thread.name for thread in threading.enumerate()}


async def test_a_flush_that_fails_after_stopping_is_nobody_s_failure() -> None:
    """The store may be open anew by then, and must not be stopped by the flush of before."""
    began, go = threading.Event(), threading.Event()
    told: list[Exception] = []

    def flush() -> None:
        began.set()
        go.wait(60)
        raise OSError("late")

    def failed(error: Exception) -> KvError:
        told.append(error)
        return KvError("late")

    committer = Committer(0, flush, lambda target: None, failed, lambda: None)
    committer.state.written = 1
    waiting = asyncio.create_task(committer.synced(1))
    await asyncio.to_thread(began.wait, 60)
    go.set()
    committer.stop(KvError("closed"))
    with pytest.raises(KvError, match="closed"):
        await waiting
    for _ in range(3):
        await asyncio.sleep(0)
    assert told == []


async def test_a_note_that_fails_after_stopping_is_nobody_s_failure() -> None:
    began, go = threading.Event(), threading.Event()
    told: list[Exception] = []

    def note(target: int) -> None:
        began.set()
        go.wait(60)
        raise OSError("late")

    def failed(error: Exception) -> KvError:
        told.append(error)
        return KvError("late")

    committer = Committer(0, lambda: None, note, failed, lambda: None)
    committer.state.written = 1
    await committer.synced(1)
    await asyncio.to_thread(began.wait, 60)
    go.set()
    committer.stop(KvError("closed"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert told == []

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

    committer = Committer(0, flush, targets.append, lambda error: KvError(str(error)))

    async def commit() -> None:
        committer.state.written += 1
        await committer.synced(committer.state.written)

    await asyncio.gather(*(commit() for _ in range(20)))
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    await committer.synced(7)  # safe already
    committer.stop(KvError("closed"))
    assert targets == [20]


class Disk:
    """Flushes that take as long as `takes_ns` says, on a clock by hand."""

    def __init__(self) -> None:
        self.now_ns = self.takes_ns = 0
        self.threads: list[int] = []
        self.noted: list[int] = []

    def flush(self) -> None:
        self.threads.append(threading.get_ident())
        self.now_ns += self.takes_ns

    def committer(self) -> Committer:
        return Committer(
            0, self.flush, self.noted.append, lambda error: KvError(str(error)), lambda: self.now_ns
        )


async def commits(committer: Committer, count: int) -> None:
    """Each alone, on a thread that is done with the one before."""
    for _ in range(count):
        committer.state.written += 1
        await committer.synced(committer.state.written)
        while not committer.idle:
            await asyncio.sleep(0)


async def test_a_lone_flush_is_done_in_place_only_on_a_disk_that_was_quick_of_late() -> None:
    disk, here = Disk(), threading.get_ident()
    committer = disk.committer()
    await commits(committer, 16)
    assert here not in disk.threads
    await commits(committer, 4)
    assert disk.threads[-4:] == [here] * 4
    disk.takes_ns = 2_000_000
    await commits(committer, 3)
    assert disk.threads[-3] == here
    assert here not in disk.threads[-2:]  # not again after a slow one
    disk.takes_ns = 0
    await commits(committer, 100)
    assert here not in disk.threads[-100:]
    assert committer.in_place == 5
    committer.stop(KvError("closed"))
    assert disk.noted == list(range(1, 124))


async def test_several_who_wait_leave_the_loop_free() -> None:
    disk = Disk()
    committer = disk.committer()
    await commits(committer, 16)
    await asyncio.gather(commits(committer, 1), commits(committer, 1))
    assert disk.threads[-1] != threading.get_ident()
    committer.stop(KvError("closed"))


async def test_a_flush_that_cannot_be_noted_is_a_failure() -> None:
    told: list[Exception] = []

    def note(target: int) -> None:
        raise OSError(f"no room to note {target}")

    def failed(error: Exception) -> KvError:
        told.append(error)
        return KvError(str(error))

    committer = Committer(0, lambda: None, note, failed)
    await commits(committer, 1)  # it is safe all the same
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

    committer = Committer(0, flush, lambda target: None, failed)
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

    committer = Committer(0, flush, lambda target: None, lambda error: KvError(str(error)))
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

    committer = Committer(0, flush, lambda target: None, failed)
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


async def test_what_could_not_be_flushed_in_place_is_not_noted_as_safe() -> None:
    disk = Disk()
    committer = disk.committer()
    await commits(committer, 17)
    assert committer.in_place == 1

    def flush() -> None:
        raise OSError("no luck")

    committer._flush = flush
    with pytest.raises(KvError, match="no luck"):
        await commits(committer, 1)
    for _ in range(3):
        await asyncio.sleep(0)
    committer.stop(KvError("closed"))
    assert disk.noted == list(range(1, 18))


async def test_nothing_is_flushed_in_place_while_the_thread_still_notes() -> None:
    """Who notes is one at a time, and what it notes grows."""
    disk, here = Disk(), threading.get_ident()
    began, go = threading.Event(), threading.Event()
    noted: list[int] = []

    def note(target: int) -> None:
        if target == 16:
            began.set()
            go.wait(60)
        noted.append(target)

    committer = Committer(
        0, disk.flush, note, lambda error: KvError(str(error)), lambda: disk.now_ns
    )
    await commits(committer, 15)
    committer.state.written = 16
    await committer.synced(16)
    await asyncio.to_thread(began.wait, 60)
    next_one = asyncio.create_task(commits(committer, 1))
    for _ in range(5):
        await asyncio.sleep(0)
    assert noted == list(range(1, 16))
    go.set()
    await next_one
    assert disk.threads[-1] != here
    committer.stop(KvError("closed"))
    assert noted == list(range(1, 18))


async def test_a_slow_flush_in_place_is_noted_before_the_thread_has_its_turn() -> None:
    disk = Disk()
    committer = disk.committer()
    await commits(committer, 16)
    disk.takes_ns = 2_000_000
    committer.state.written += 1
    first = committer.state.written
    again = asyncio.get_running_loop().create_future()

    def told(error: KvError | None) -> None:
        """Asks for the next at once, which is the thread's: the disk was slow."""
        committer.state.written += 1
        committer.when_synced(asyncio.get_running_loop(), committer.state.written, again.set_result)
        assert disk.noted[-1] == first - 1

    real = committer._begin

    def begin(loop: asyncio.AbstractEventLoop) -> None:
        if committer.in_place and committer.state.written > first:
            assert disk.noted[-1] == first
        real(loop)

    committer._begin = begin  # type: ignore[method-assign]
    committer.when_synced(asyncio.get_running_loop(), first, told)
    await again
    committer.stop(KvError("closed"))
    assert disk.noted == list(range(1, 19))


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

    committer = Committer(0, lambda: None, note, failed)
    committer.state.written = 1
    await committer.synced(1)
    await asyncio.to_thread(began.wait, 60)
    go.set()
    committer.stop(KvError("closed"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert told == []

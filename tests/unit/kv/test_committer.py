"""Group commit: who is told by which flush, decided without a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

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


class ByHand:
    """Flushes that end when the test says so."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.noted = self.safe = 0
        self.refusal: OSError | None = None
        self.unnoted: OSError | None = None
        self.stopped = False
        self.loops: list[asyncio.AbstractEventLoop] = []
        self._ended: Callable[[OSError | None], None] | None = None

    def begin(self, sequence: int, ended: Callable[[OSError | None], None]) -> None:
        assert self._ended is None
        if self.refusal is not None:
            raise self.refusal
        self.begun.append(sequence)
        self._ended = ended

    def end(self, error: OSError | None = None) -> None:
        ended, self._ended = self._ended, None
        assert ended is not None
        self.safe = self.begun[-1] if error is None else self.safe
        ended(error)

    def note(self) -> None:
        if self.unnoted is not None:
            raise self.unnoted
        self.noted = self.safe

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loops.append(loop)

    def stop(self) -> None:
        self.stopped = True


class Made:
    """A committer, and what it told."""

    def __init__(self) -> None:
        self.flushes = ByHand()
        self.failures: list[Exception] = []
        self.committer = Committer(0, self.flushes, self.failed)

    def failed(self, error: Exception) -> KvError:
        self.failures.append(error)
        return KvError(f"seen: {error}")

    def commit(self) -> asyncio.Task[None]:
        state = self.committer.state
        state.written += 1
        return asyncio.create_task(self.committer.synced(state.written))


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def made() -> Made:
    return Made()


async def test_a_flush_covers_the_writes_of_a_turn_and_is_noted_once_they_are_told(
    made: Made,
) -> None:
    waiting = [made.commit() for _ in range(20)]
    await turns()
    assert made.flushes.begun == [20]
    made.flushes.end()
    assert made.flushes.noted == 0
    await asyncio.gather(*waiting)
    await turns()
    assert made.flushes.noted == 20
    await made.committer.synced(7)  # safe already
    assert made.flushes.begun == [20]


async def test_who_writes_during_a_flush_has_the_next_which_begins_when_it_has_ended(
    made: Made,
) -> None:
    first = made.commit()
    await turns()
    second = made.commit()
    await turns()
    assert made.flushes.begun == [1]
    made.flushes.end()
    await first
    await turns()
    assert not second.done()
    assert made.flushes.begun == [1, 2]
    made.flushes.end()
    await second


async def test_a_flush_that_cannot_be_noted_is_a_failure(made: Made) -> None:
    made.flushes.unnoted = OSError("no room to note it")
    waiting = made.commit()
    await turns()
    made.flushes.end()
    await waiting  # it is safe all the same
    await turns()
    assert made.failures == [made.flushes.unnoted]


async def test_the_error_of_a_flush_reaches_every_waiter_as_what_it_is_made_to(made: Made) -> None:
    waiting = [made.commit(), made.commit()]
    await turns()
    later = made.commit()
    await turns()
    made.flushes.end(OSError("no luck"))
    ends = await asyncio.gather(*waiting, later, return_exceptions=True)
    assert [str(end) for end in ends] == ["seen: no luck"] * 3
    assert len(made.failures) == 1
    assert made.flushes.begun == [2]
    assert made.committer.state.synced == 0


async def test_a_flush_that_cannot_begin_has_failed(made: Made) -> None:
    made.flushes.refusal = OSError("no descriptor")
    with pytest.raises(KvError, match="seen: no descriptor"):
        await made.commit()
    made.flushes.refusal = None
    assert made.committer.state.flushing is None


async def test_after_stopping_nobody_waits_and_no_flush_begins(made: Made) -> None:
    waiting = made.commit()
    await turns()
    planned = made.commit()
    await turns(1)
    made.committer.stop(KvError("closed"))
    for task in (waiting, planned):
        with pytest.raises(KvError, match="closed"):
            await task
    await turns()
    assert made.flushes.stopped
    assert made.flushes.begun == [1]


async def test_what_fails_after_stopping_is_nobody_s_failure(made: Made) -> None:
    """The store may be open anew by then, and must not be stopped by what is of before."""
    waiting = made.commit()
    await turns()
    made.flushes.unnoted = OSError("late")
    made.flushes.end()
    made.committer.stop(KvError("closed"))
    await waiting
    await turns()
    assert made.failures == []


def test_the_loop_that_waits_is_the_one_that_hears() -> None:
    made = Made()
    loops = []

    async def begin() -> None:
        loops.append(asyncio.get_running_loop())
        task = made.commit()
        await turns()
        task.cancel()

    async def end() -> None:
        loops.append(asyncio.get_running_loop())
        waiting = made.commit()
        await turns()
        made.flushes.end()  # of the first loop's
        await turns()
        made.flushes.end()
        await waiting

    asyncio.run(begin())
    asyncio.run(end())
    assert made.flushes.loops == loops
    assert made.flushes.begun == [1, 2]


def test_who_waits_on_a_closed_loop_keeps_nothing_from_the_others() -> None:
    made = Made()
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def begin() -> asyncio.Task[None]:
        task = made.commit()
        await turns()
        return task

    async def end() -> None:
        waiting = made.commit()
        await turns()
        for _ in range(2):
            made.flushes.end()
            await turns()
        await waiting

    left = first.run_until_complete(begin())
    first.close()
    second.run_until_complete(end())
    second.close()
    assert not left.done()
    left._log_destroy_pending = False  # type: ignore[attr-defined]


async def test_a_loop_that_could_not_listen_is_asked_again(made: Made) -> None:
    def refused(loop: object) -> None:
        raise OSError("too many watches")

    sound, made.flushes.listen = made.flushes.listen, refused  # type: ignore[method-assign]
    with pytest.raises(OSError, match="watches"):
        await made.commit()
    made.flushes.listen = sound  # type: ignore[method-assign]
    waiting = made.commit()
    await turns()
    assert made.flushes.loops == [asyncio.get_running_loop()]
    made.flushes.end()
    await waiting

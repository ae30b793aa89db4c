"""Group commit: all who wait for a power cut to spare their write share one flush.

The rule: a waiter is told only after a flush that began after its write. `GroupCommit` decides, and
knows no thread and no loop; `Committer` runs the flushes, one at a time, in a thread of its own,
since a flush waits for the disk, for seconds once in a while, and the loop must not.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

from spear.errors import KvError

Told = Callable[[KvError | None], None]
Waiter = TypeVar("Waiter")
Work = SimpleQueue[Callable[[], None] | None]  # None: the end


class GroupCommit(Generic[Waiter]):
    """Sequence numbers in, waiters out. `written` is the last write, `synced` the last that is
    safe, `flushing` the last that the flush under way makes safe (None: there is none)."""

    __slots__ = ("_covered", "_later", "flushing", "synced", "written")

    def __init__(self, sequence: int) -> None:
        self.written = self.synced = sequence
        self.flushing: int | None = None
        self._covered: list[Waiter] = []  # told by the flush under way
        self._later: list[Waiter] = []  # told by the one after it

    def wait(self, sequence: int, waiter: Waiter) -> None:
        """`sequence` is above `synced`."""
        covered = self.flushing is not None and sequence <= self.flushing
        (self._covered if covered else self._later).append(waiter)

    def begin(self) -> int | None:
        """Starts a flush if none is under way and somebody waits: of all that is written now."""
        if self.flushing is not None or not self._later:
            return None
        self._covered, self._later = self._later, []
        self.flushing = self.written
        return self.flushing

    def end(self, done: bool) -> list[Waiter]:
        """The flush is over. Done: who is to be told so; else everybody, since none will come."""
        assert self.flushing is not None
        told, self._covered = self._covered, []
        if done:
            self.synced = self.flushing
        else:
            told += self.give_up()
        self.flushing = None
        return told

    def give_up(self) -> list[Waiter]:
        """All who wait; a flush under way still ends by `end`."""
        told = self._covered + self._later
        self._covered, self._later = [], []
        return told


class Committer:
    """`flush` makes all safe that is written; `note` is told up to where, once the waiters are on
    their way: one note at a time, each above the one before, never of what could not be flushed.
    `failed` is called on the loop with what either raised, and gives the error that the waiters
    get.

    `ready` is called on the loop before each flush, and does not raise.

    A flush begins when the callbacks that are due have run, so that it covers all writes of that
    turn of the loop: begun at once it would serve the first, and the others by turns with it.
    """

    def __init__(
        self,
        sequence: int,
        flush: Callable[[], None],
        note: Callable[[int], None],
        failed: Callable[[Exception], KvError],
        ready: Callable[[], None],
    ) -> None:
        self.state: GroupCommit[Told] = GroupCommit(sequence)
        self.flushes = 0
        self._flush, self._note, self._failed, self._ready = flush, note, failed, ready
        self._work: Work = SimpleQueue()
        self._thread: Thread | None = None
        self._due = False  # a beginning is scheduled
        self._stopped = False

    async def synced(self, sequence: int) -> None:
        if sequence <= self.state.synced:
            return
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self.when_synced(loop, sequence, lambda error: _resolve(waiter, error))
        await waiter

    def when_synced(self, loop: asyncio.AbstractEventLoop, sequence: int, call: Told) -> None:
        """Calls `call(None)` once that write is safe, or `call(error)`; never before this
        returns."""
        if sequence <= self.state.synced:
            loop.call_soon(call, None)
        else:
            self.state.wait(sequence, call)
            self._plan(loop)

    def fail(self, error: KvError) -> None:
        """Whoever waits gets the error."""
        for call in self.state.give_up():
            call(error)

    def stop(self, error: KvError) -> None:
        """Ends the thread after the flush under way, for good."""
        self._stopped = True
        self.fail(error)
        if self._thread is not None:
            self._work.put(None)
            self._thread.join()

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._due and self.state.flushing is None:
            self._due = True
            loop.call_soon(self._begin, loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = False
        if self._stopped or (target := self.state.begin()) is None:
            return
        self._ready()
        if self._thread is None:
            self._thread = Thread(
                target=_run, args=(self._work,), name="spear-kv-flush", daemon=True
            )
            self._thread.start()
        self._work.put(partial(self._flush_and_tell, loop, target))

    def __del__(self) -> None:
        self._work.put(None)  # of a store that was dropped: the thread has nothing of it

    def _flush_and_tell(self, loop: asyncio.AbstractEventLoop, target: int) -> None:
        error = self._flushed()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(self._end, loop, error)
            if error is None and (failure := self._noted_error(target)) is not None:
                loop.call_soon_threadsafe(self._note_failed, failure)

    def _note_failed(self, failure: Exception) -> None:
        if not self._stopped:
            self._failed(failure)

    def _noted_error(self, target: int) -> Exception | None:
        try:
            self._note(target)
        except Exception as raised:
            return raised
        return None

    def _flushed(self) -> Exception | None:
        try:
            self._flush()
        except Exception as raised:
            return raised
        return None

    def _end(self, loop: asyncio.AbstractEventLoop, error: Exception | None) -> None:
        if self._stopped:
            return
        if error is not None:
            failure = self._failed(error)
            for call in self.state.end(done=False):
                call(failure)
            return
        self.flushes += 1
        for call in self.state.end(done=True):
            call(None)
        self._plan(loop)


def _run(queue: Work) -> None:
    """The flush thread, which holds nothing of a store but in a flush."""
    while (work := queue.get()) is not None:
        work()
        del work


def _resolve(waiter: asyncio.Future[None], error: KvError | None) -> None:
    if waiter.done():  # cancelled meanwhile
        return
    if error is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(error)

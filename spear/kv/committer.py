"""Group commit: all who wait for a power cut to spare their write share one flush.

The rule: a waiter is told only after a flush that began after its write. `GroupCommit` decides, and
knows no loop; `Committer` begins the flushes, one at a time. What does them is beside the loop,
since a flush waits for the disk, for seconds once in a while, and the loop must not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from spear.errors import KvError

Told = Callable[[KvError | None], None]
Waiter = TypeVar("Waiter")


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


class Flushes(Protocol):
    """What makes writes safe; `Flusher` is the one on disk."""

    def begin(self, sequence: int, ended: Callable[[OSError | None], None]) -> None:
        """All that is written, which is up to `sequence`; calls `ended` later on the loop, with
        why it is not safe. Raises OSError."""

    def note(self) -> None:
        """How far writes are safe. Raises OSError."""

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """That loop hears of ends from now on. Raises OSError."""

    def stop(self) -> None:
        """Nobody hears of the flush under way."""


class Committer:
    """`failed` is called on the loop with what a flush failed with, and gives the error that the
    waiters get. It is noted how far writes are safe once the waiters are on their way; that it
    could not be is a failure as well.

    A flush begins when the callbacks that are due have run, so that it covers all writes of that
    turn of the loop: begun at once it would serve the first, and the others by turns with it.
    """

    def __init__(
        self, sequence: int, flushes: Flushes, failed: Callable[[Exception], KvError]
    ) -> None:
        self.state: GroupCommit[Told] = GroupCommit(sequence)
        self.flushes = 0
        self._flushes, self._failed = flushes, failed
        self._loop: asyncio.AbstractEventLoop | None = None
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
            return
        if loop is not self._loop:  # of the one before, if any, nothing more is heard
            self._flushes.listen(loop)
            self._loop, self._due = loop, False
        self.state.wait(sequence, call)
        self._plan(loop)

    def fail(self, error: KvError) -> None:
        """Whoever waits gets the error."""
        for call in self.state.give_up():
            call(error)

    def stop(self, error: KvError) -> None:
        """For good; a flush under way goes on, and nobody hears of it."""
        self._stopped = True
        self.fail(error)
        self._flushes.stop()

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._due and self.state.flushing is None:
            self._due = True
            loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._due = False
        if self._stopped or (target := self.state.begin()) is None:
            return
        try:
            self._flushes.begin(target, self._end)
        except OSError as error:
            self._end(error)

    def _end(self, error: OSError | None) -> None:
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
        assert self._loop is not None
        self._plan(self._loop)
        self._loop.call_soon(self._note)

    def _note(self) -> None:
        if self._stopped:
            return
        try:
            self._flushes.note()
        except OSError as error:
            self._failed(error)


def _resolve(waiter: asyncio.Future[None], error: KvError | None) -> None:
    if waiter.done() or waiter.get_loop().is_closed():  # cancelled meanwhile; or left behind
        return
    if error is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(error)

"""An accepted execution while it has not ended, in memory.

The rule: `stage` says where it is, and only executions.py moves it. Whoever waits for its end is in
`waiters`; what is told to them is the record as it was kept.
"""

from __future__ import annotations

import asyncio

from spear.records.execution import TERMINATED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spear.records.execution import Execution, Invocation
    from spear.runtime.interface import Run
    from spear.spearlet.logs.sink import Sink
    from spear.spearlet.node.family import Kin
    from spear.spearlet.node.plan import Plan
    from spear.spearlet.node.pool import Lease

WRITING = "writing"  # its acceptance, or that it begins
QUEUED = "queued"
LOADING = "loading"  # its program, or a warm instance
RUNS = "running"
RESTING = "resting"  # until its next attempt
ENDING = "ending"  # its end is being written


class Work:
    """One execution. `doom` is why it is to be ended, once somebody asked; `powered`: its records
    are of class power."""

    # What few have: those that are over at once are made as quickly as they are forgotten.
    doom = input_digest = ""
    stage = WRITING
    recovered = False  # accepted by an earlier process
    written = False  # there is a row of it
    offered = admitted = False  # to admission; by it
    joined = False  # by a submission of its key, so it goes on without the caller that waits
    taken_ns = 0  # when its caller began to wait
    arrived_ns = 0  # in the queue, with this attempt
    charged = 0  # bytes of the node's budget for inputs
    # Who waits until its acceptance is kept; None: it is, or nobody is told.
    accepted: list[asyncio.Future[None]] | None = None
    timer: asyncio.TimerHandle | None = None
    run: Run | None = None
    lease: Lease | None = None
    sink: Sink | None = None
    kin: Kin | None = None  # where an agent called it, or it may call

    def __init__(
        self, execution: Execution, invocation: Invocation, plan: Plan, input: bytes
    ) -> None:
        self.execution, self.invocation, self.plan, self.input = execution, invocation, plan, input
        self.powered = execution.mode == "async"
        self.waiters: list[asyncio.Future[Execution]] = []

    @property
    def webhooks(self) -> tuple[str, str]:
        return self.plan.spec.webhook, self.invocation.webhook

    @property
    def bound(self) -> bool:
        return is_bound(self.execution)

    def __repr__(self) -> str:
        return f"Work({self.execution.id}, {self.stage})"

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def time_left_ns(self, now_ns: int) -> int:
        """Of what it may take. A caller that waits gave one time for all: queue and attempts."""
        timeout_ns = self.execution.timeout_ns
        return timeout_ns if self.powered else timeout_ns - (now_ns - self.taken_ns)

    def has_time(self, wait_ns: int, now_ns: int) -> bool:
        """Whether a caller, where one waits, still does after so long."""
        return self.powered or wait_ns < self.time_left_ns(now_ns)

    def waited_before_ns(self, now_ns: int) -> int:
        """How long it has waited in an earlier process, not having begun there; by the wall clock,
        which may have been set back since."""
        if not self.recovered or self.execution.attempt > 1:
            return 0
        return max(0, now_ns - self.execution.created_ns)

    def inline_input(self) -> bytes:
        """What of the input lies in the row: nothing where it lies in a file."""
        return b"" if self.input_digest else self.input

    def hear_accepted(self) -> asyncio.Future[None] | None:
        """Told once its acceptance is kept; None where that is not to be waited for. One of its
        own for each reader: who gives up takes nobody else's."""
        if self.accepted is None:
            return None
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.accepted.append(future)
        return future

    def told_accepted(self) -> bool:
        """Whether there was anybody to be told."""
        told, self.accepted = self.accepted, None
        for future in told or ():
            if not future.done():
                future.set_result(None)
        return told is not None

    def fail(self, error: Exception) -> None:
        """Nobody will hear of its end here."""
        told: list[asyncio.Future[Any]] = [*(self.accepted or ()), *self.waiters]
        self.accepted, self.waiters = None, []
        for future in told:
            if not future.done():
                future.set_exception(error)
                future.exception()  # who waits for another of these need not ask this one

    def listen(self, loop: asyncio.AbstractEventLoop | None = None) -> asyncio.Future[Execution]:
        """Hears of its end from now on; who waits no longer says so by `leave`. `loop` is the
        running one, where it is at hand: asking asyncio costs a system call."""
        loop = loop or asyncio.get_running_loop()
        future: asyncio.Future[Execution] = loop.create_future()
        self.waiters.append(future)
        return future

    def leave(self, future: asyncio.Future[Execution]) -> None:
        if future in self.waiters:
            self.waiters.remove(future)

    async def end(self) -> Execution:
        """The record once it has ended and that is kept. It is heard from the first step of this
        coroutine on, so nobody makes a task of it: that step might come after the end."""
        future = self.listen()
        try:
            return await future
        finally:
            self.leave(future)

    def tell(self, execution: Execution) -> None:
        waiters, self.waiters = self.waiters, []
        for future in waiters:
            if not future.done():
                future.set_result(execution)


def is_bound(execution: Execution) -> bool:
    """Whether it ends with the execution that called it."""
    return execution.depth > 0 and not execution.detached


def is_cut_off(found: Work | Execution) -> bool:
    """Whether it was bound to who called it, and ended by another before it was through, or is
    being ended."""
    if isinstance(found, Work):
        return found.bound and bool(found.doom) and not found.execution.completed
    return is_bound(found) and found.status == TERMINATED


async def all_ended(works: list[Work], timeout_s: float | None) -> None:
    """Waits for the ends of all, at most so long; who gives up takes nobody else's wait."""
    ends = [work.listen() for work in works]
    try:
        if ends:
            await asyncio.wait(ends, timeout=timeout_s)
    finally:
        for work, end in zip(works, ends, strict=True):
            work.leave(end)
            end.cancel()
    await asyncio.gather(*ends, return_exceptions=True)

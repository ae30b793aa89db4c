"""Carries an execution from its acceptance to its one terminal state, across crashes.

The rule: a step is written before it has an effect. Acceptance is kept before it is answered; that
an attempt begins is kept, in the execution's own class, before its guest can do what others see, so
one that is found pending after a crash did nothing; the end is kept before it is told. Nobody but
this file moves a Work, or changes its record before its end. On the node's loop only; no task
watches a guest: the runtime calls back.
"""

from __future__ import annotations

import asyncio
from functools import partial

from spear.errors import NodeClosed, QueueFull, SpearError
from spear.records.execution import (
    COMPLETED,
    FAILED,
    PENDING,
    RUNNING,
    TERMINATED,
    TIMEOUT,
    Execution,
    ExecutionError,
)
from spear.spearlet.node import rows
from spear.spearlet.node.briefends import BriefEnds
from spear.spearlet.node.ends import Ends
from spear.spearlet.node.follower import LINES_A_LOOK, PAUSE_IN_FLOOD_S, Follower
from spear.spearlet.node.inputs import Inputs
from spear.spearlet.node.outcomes import (
    SPOILT,
    cancelled,
    end,
    error_of,
    redacted,
    unstarted,
)
from spear.spearlet.node.refused import Refused
from spear.spearlet.node.starter import Starter
from spear.spearlet.node.telling import Telling
from spear.spearlet.node.work import (
    ENDING,
    LOADING,
    QUEUED,
    RESTING,
    RUNS,
    WRITING,
    Work,
    all_ended,
)
from spear.spearlet.retry import RANDOM_BITS, next_delay_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from spear.records.task import Task
    from spear.runtime.interface import Run
    from spear.spearlet.logs.sink import Sink
    from spear.spearlet.node.family import Family
    from spear.spearlet.node.parts import Parts
    from spear.spearlet.node.plan import Plan

_FULL_S = 0.5  # until a queue that was full is tried again, by what may not be refused
_GONE = "the node was closed"


class Executions:
    """All of one node that have not ended. `told` hears of each end; `kept` is as of Ends."""

    def __init__(
        self, parts: Parts, told: Callable[[Execution], None],
        kept: Callable[[Execution, int], None],
    ) -> None:  # fmt: skip
        self._parts = parts
        self._ends = Ends(parts, kept)
        self._starter = Starter(parts, self._runs, self._end_unstarted)
        self._works: dict[str, Work] = {}
        self._refused = Refused(parts, self._works)
        self.newest_id = ""  # no execution that is or was known here has a later one, as texts
        self._inputs = Inputs(parts.files.inputs, parts.input_bytes_max)
        self._follower = Follower(parts.logs, self._surely_ended)
        self._telling = Telling(parts, self._ends, self._follower, self._forget, told)
        self._brief = BriefEnds(parts, self._ends, self._telling, self._forget, kept, told)
        self._closed = False

    def introduce(self, family: Family) -> None:
        """Before the first execution: who knows which agent called which."""
        self._starter.family = family

    # ---- from outside

    def find(self, id: str) -> Work | None:
        return self._works.get(id)

    def known(self, id: str) -> Work | Execution | None:
        """One that has not ended, or whose end is not written yet."""
        return self._works.get(id) or self._ends.find(id)

    def removing(self, id: str) -> AbstractContextManager[None]:
        """While an ended one is removed its end is not written."""
        return self._ends.removing(id)

    def works(self) -> list[Work]:
        return list(self._works.values())

    def accept(self, work: Work, *, idempotency: bytes | None = None) -> None:
        """Takes in a new execution; who is in `work.accepted` is told once that is
        kept. Raises NodeClosed, NodeBusy, QueueFull, and then nothing of it is left."""
        if self._closed:
            raise NodeClosed("the node is closed or draining and takes no more work")
        self._inputs.check(len(work.input))
        self._take(work)
        try:
            self._offer(work)
        except BaseException:
            self._forget(work)
            raise
        if work.admitted:
            work.execution.status = RUNNING
        if idempotency is not None:
            self._parts.journal.put(idempotency, work.execution.id.encode())
        self._write(work, partial(self._accepted, work))

    def readmit(self, work: Work) -> None:
        """Takes in an execution of an earlier process that did not begin."""
        self._take(work)
        wait_ns = work.execution.next_attempt_ns - self._parts.clock.now_ns()
        if wait_ns > 0:
            work.stage = RESTING
            self._wake_in(work, min(wait_ns, work.plan.spec.retry.backoff_max_ns))  # clocks jump
        else:
            self._line_up(work)

    def settle_unknown(self, work: Work) -> None:
        """An execution of an earlier process that had begun: nobody knows how far it came. What was
        bound to its caller is not tried again, since that is gone too."""
        error = ExecutionError(code="OUTCOME_UNKNOWN", message="the node died while it ran")
        self._take(work)
        if not (work.powered and not work.bound and self._rest(work, error.code)):
            self._finish(work, FAILED, "lost", error)

    def settle(self, work: Work, status: str, cause: str, error: ExecutionError) -> None:
        """An execution of an earlier process that ends here and now."""
        self._take(work)
        self._finish(work, status, cause, error)

    def cancel(self, work: Work, reason: str, said: str = "") -> None:
        """Ends it wherever it is; the first reason counts. `said` is as of Run.cancel."""
        if work.doom:
            return
        work.doom = reason or "cancelled"
        if work.stage == RUNS:
            assert work.run is not None
            work.run.cancel(reason, said)
        elif work.stage in (QUEUED, RESTING):
            self._end_doomed(work)

    def open_log(self, work: Work) -> Sink:
        """The log of an execution that has not ended."""
        return self._follower.log_of(work)

    def limit(self, task: Task) -> None:
        """The task's limits are these from now on; begins whom they make room for."""
        spec = task.spec
        self._let_in(self._parts.admission.set_limits(task.id, spec.concurrency, spec.queue))

    def unlimit(self, task: Task) -> None:
        """The task is gone."""
        self._let_in(self._parts.admission.forget(task.id))

    async def close(self, grace_s: float) -> None:
        """Takes no more, waits up to `grace_s` for what runs, then ends it. What waits in class
        power goes on with the node's next process."""
        self._closed = True
        for work in self.works():
            if work.stage in (QUEUED, RESTING):
                self._leave(work)
        await all_ended(self.works(), grace_s)
        for work in self.works():
            self.cancel(work, _GONE)
        await all_ended(self.works(), None)
        self._ends.close()

    def stats(self) -> dict[str, int]:
        found = {"live": len(self._works), "unkept": len(self._ends.unkept)}
        found |= dict.fromkeys((WRITING, QUEUED, LOADING, RUNS, RESTING, ENDING), 0)
        for work in self._works.values():
            found[work.stage] += 1
        return found

    # ---- admission

    def _take(self, work: Work) -> None:
        self._enter(work)
        work.taken_ns = self._parts.clock.monotonic_ns()
        work.written = work.recovered
        self._inputs.take(work)

    def _enter(self, work: Work) -> None:
        self._works[id := work.execution.id] = work
        if id > self.newest_id:
            self.newest_id = id

    def _forget(self, work: Work, *, delete: bool = True) -> None:
        del self._works[work.execution.id]
        if work.charged or work.input_digest:
            self._inputs.let_go(work, delete=delete)

    def _offer(self, work: Work) -> None:
        """Raises QueueFull, InvalidArgument for a reservation that the node never has."""
        parts, resources = self._parts, work.plan.spec.resources
        work.arrived_ns = parts.clock.monotonic_ns()
        started = parts.admission.offer(
            work, work.execution.task_id or "/" + work.execution.task_name,
            work.execution.priority, work.arrived_ns, resources.cpu_millis, resources.memory_bytes,
            work.waited_before_ns(parts.clock.now_ns()), work.execution.depth,
        )  # fmt: skip
        work.offered = True
        self._let_in(started)

    def _let_in(self, works: Iterable[Work]) -> None:
        for work in works:
            work.admitted = True
            if work.stage == QUEUED and not self._closed:
                self._promote(work)

    def _line_up(self, work: Work) -> None:
        """Of one that was accepted before: a full queue makes it wait, never refuses it."""
        work.timer, work.execution.next_attempt_ns = None, 0
        try:
            self._offer(work)
        except QueueFull:
            work.stage = RESTING
            work.timer = asyncio.get_running_loop().call_later(_FULL_S, self._line_up, work)
            return
        except SpearError as error:
            self._end_unstarted(work, error)
            return
        work.stage = QUEUED
        if work.admitted:
            self._promote(work)
        elif not work.powered:
            self._limit_wait(work)

    def _release(self, work: Work) -> None:
        """Gives back its place, and begins whom that makes room for."""
        if not work.offered:
            return
        admission, work.offered = self._parts.admission, False
        if work.admitted:
            work.admitted = False
            self._let_in(admission.release(work))
        else:
            self._let_in(admission.cancel(work) or ())

    # ---- what is written first

    def _write(self, work: Work, then: Callable[[Exception | None], None]) -> None:
        """Keeps the execution as it is now."""
        execution, journal = work.execution, self._parts.journal
        execution.durability = journal.class_of(work.powered)
        row = rows.LiveRow(execution=execution)
        if work.powered:
            row.invocation = work.invocation
            row.input, row.input_digest = work.inline_input(), work.input_digest
            row.spec = None if execution.task_id else work.plan.spec
        journal.put(rows.live_key(execution.id), rows.encode(row))
        work.written = True
        journal.then(then, power=work.powered)

    def _accepted(self, work: Work, error: Exception | None) -> None:
        if error is not None:
            self._release(work)
            self._forget(work)
            self._refused.take_back(work.execution.id, power=work.powered)
            self._follower.finish(work)
            work.fail(error)
            return
        answered = work.told_accepted()
        self._parts.events.changed(work.execution)
        if work.execution.status == RUNNING and answered:
            asyncio.get_running_loop().call_soon(self._begin, work)  # after it was answered
        elif work.execution.status == RUNNING:
            self._begin(work)
        elif self._closed and work.powered and not work.bound and work.doom in ("", _GONE):
            work.stage, work.doom = QUEUED, ""
            self._leave(work)
        elif work.doom:
            self._end_doomed(work)
        elif work.admitted:  # while its acceptance was being written
            self._promote(work)
        else:
            work.stage = QUEUED
            if not work.powered:
                self._limit_wait(work)

    def _limit_wait(self, work: Work) -> None:
        """A caller waits: the time in the queue is part of the time it gave."""
        seconds = work.time_left_ns(self._parts.clock.monotonic_ns()) / 1e9
        work.timer = asyncio.get_running_loop().call_later(seconds, self._waited_too_long, work)

    def _waited_too_long(self, work: Work) -> None:
        sentence = "it waited in the queue for all of its time"
        self._finish(work, TIMEOUT, "deadline", ExecutionError(code="DEADLINE", message=sentence))

    def _promote(self, work: Work) -> None:
        """It may run now: that is written first."""
        work.stop_timer()
        work.stage = WRITING
        work.execution.status = RUNNING
        self._write(work, partial(self._promoted, work))

    def _promoted(self, work: Work, error: Exception | None) -> None:
        if error is not None:
            self._end_unstarted(work, error)
            return
        self._parts.events.changed(work.execution)
        self._begin(work)

    # ---- the guest

    def has_room(self, task: Task | None, plan: Plan, input_bytes: int) -> bool:
        """Whether a new execution would begin now, and its end be kept."""
        if self._closed or self._ends.unkept or not self._inputs.fit(input_bytes):
            return False
        key, asked = task.id if task else "/" + plan.spec.name, plan.spec.resources
        return self._parts.admission.has_room(key, asked.cpu_millis, asked.memory_bytes)

    def take_ended(self, work: Work, run: Run) -> None:
        """Takes in a new execution that has begun and ended; see atonce.py."""
        work.stage = ENDING
        if work.execution.log_lines:
            self._follower.pump(work, run)
        self._enter(work)
        self._brief.keep(work)

    def take_begun(self, work: Work, run: Run) -> None:
        """Takes in a new execution that has begun in the room that there was. It is written before
        others can ask for it, if only its end: taking what it logged may need many turns."""
        self._take(work)
        self._offer(work)
        if run.done and run.outcome.log_lines < LINES_A_LOOK:
            self._surely_ended(work, run)
        else:
            self._write(work, partial(self._accepted_begun, work, run))

    def _accepted_begun(self, work: Work, run: Run, error: Exception | None) -> None:
        if error is not None:
            run.cancel("its acceptance could not be kept")
            self._accepted(work, error)
            return
        self._parts.events.changed(work.execution)
        self._runs(work, run)

    def _begin(self, work: Work) -> None:
        work.stage = LOADING
        self._starter.start(work)

    def _runs(self, work: Work, run: Run) -> None:
        work.run, work.stage = run, RUNS
        self._follower.log_anew(work)
        if work.doom:
            run.cancel(work.doom)
        if run.done:  # in its first slice, on this thread
            self._surely_ended(work, run)
        else:
            self._follower.follow(work, run)

    # ---- the end of an attempt, and of all

    def _surely_ended(self, work: Work, run: Run) -> None:
        """Also where what a run says cannot be understood: then the execution has failed."""
        try:
            self._ended(work, run)
        except Exception as error:
            self._parts.log.failure("the end of a run was not understood", error)
            if work.stage != ENDING:
                sentence = f"its end was not understood: {error}"
                why = ExecutionError(code="INTERNAL", message=sentence)
                self._finish(work, FAILED, SPOILT, why)

    def _ended(self, work: Work, run: Run) -> None:
        if self._follower.pump(work, run):
            loop = asyncio.get_running_loop()
            loop.call_later(PAUSE_IN_FLOOD_S, self._surely_ended, work, run)
            return
        outcome = run.outcome
        work.run = None
        self._give_back(work, spent=outcome.status != COMPLETED)
        run.fill(work.execution)
        work.plan.pace.took(outcome.cpu_ns)
        error = error_of(outcome, work.execution.timeout_ns)
        if error is not None and not work.doom and self._rest(work, error.code):
            return
        self._finish(work, outcome.status, outcome.cause, error, run.output)

    def _end_unstarted(self, work: Work, error: Exception) -> None:
        """It could not begin."""
        if work.doom:
            self._end_doomed(work)
            return
        why = unstarted(error)
        if not self._rest(work, why.code):
            self._finish(work, FAILED, why.code.lower(), why)

    def _end_doomed(self, work: Work) -> None:
        self._finish(work, TERMINATED, "cancelled", cancelled(work.doom))

    def _rest(self, work: Work, code: str) -> bool:
        """Whether there is another attempt; it is then written, and due later."""
        execution, clock = work.execution, self._parts.clock
        random = int.from_bytes(clock.random_bytes(RANDOM_BITS // 8), "big")
        wait_ns = next_delay_ns(work.plan.spec.retry, execution.attempt, code, random)
        in_time = work.powered or not self._closed
        if wait_ns is None or not (in_time and work.has_time(wait_ns, clock.monotonic_ns())):
            return False
        if work.kin is not None:
            work.kin.over()
        execution.status, execution.attempt = PENDING, execution.attempt + 1
        execution.instance_id, execution.finished_ns = "", 0
        execution.next_attempt_ns = clock.now_ns() + wait_ns
        work.stage = RESTING
        self._release(work)
        # Were it lost, what was kept before claims no more than is so.
        self._write(work, lambda _: None)
        self._parts.events.changed(execution)
        if self._closed:
            self._leave(work)
        else:
            self._wake_in(work, wait_ns)
        return True

    def _wake_in(self, work: Work, wait_ns: int) -> None:
        work.timer = asyncio.get_running_loop().call_later(wait_ns / 1e9, self._line_up, work)

    def _finish(
        self, work: Work, status: str, cause: str, error: ExecutionError | None,
        output: bytes = b"",
    ) -> None:  # fmt: skip
        execution = work.execution
        end(execution, status, cause, redacted(error, self._parts.redactor), output)
        work.stop_timer()
        work.stage = ENDING
        execution.finished_ns = execution.finished_ns or self._parts.clock.now_ns()
        try:
            self._let_go_of(work)
            covered = partial(self._follower.covered, work)
            spec, asked = work.plan.spec, execution.usage is not None
            hiding = self._parts.secrets.hiding(spec, covered, asked=asked) if output else None
        except Exception as error:
            self._telling.spoilt(work, error)
        else:
            self._telling.keep(work, hiding)

    def _let_go_of(self, work: Work) -> None:
        """What it has still: a warm instance, if its end was not understood; what it called; its
        place."""
        try:
            self._give_back(work, spent=True)
            if work.kin is not None:
                work.kin.over()
        finally:
            self._release(work)

    def _give_back(self, work: Work, *, spent: bool) -> None:
        lease, work.lease = work.lease, None
        if lease is not None:
            self._parts.pools.give_back(lease, spent=spent)

    # ---- closing

    def _leave(self, work: Work) -> None:
        """One that waits, as the node ends: kept as it is, or ended where nothing keeps it."""
        if not work.powered or work.bound or self._parts.journal.class_of(True) == "volatile":
            self.cancel(work, _GONE)
            return
        work.stop_timer()
        self._release(work)
        self._forget(work, delete=False)
        work.fail(NodeClosed(f"execution {work.execution.id} waits for the node's next start"))

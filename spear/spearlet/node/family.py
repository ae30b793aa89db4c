"""Agents that call other tasks: who called whom, and what of that ends together.

The rule: what an execution called ends with it, however it ends, and is over at its deadline,
unless it is detached. A call is one more execution, of the class of who called it: `crash` below a
sync one, `power` below an async one; a detached one stands for itself and is `power`. Depth and
the number at once are bounded, so cycles end. On the node's loop.
"""

from __future__ import annotations

import asyncio

from spear.errors import NodeClosed, NotFound, PermissionDenied, TooDeep, TooMany
from spear.hostcalls.agent import Agent
from spear.hostcalls.allowed import allows, names_of
from spear.records.execution import Execution, Invocation
from spear.spearlet.node.work import RUNS, Work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, Protocol

    from spear.spearlet.node.executions import Executions
    from spear.spearlet.node.parts import Parts
    from spear.spearlet.node.tasks import Tasks

    class Begin(Protocol):
        """Accepts an execution; `born` is given it first. It, or one accepted before under the
        same key."""

        def __call__(
            self, task: str, input: bytes, invocation: Invocation, mode: str, *,
            born: Callable[[Work], None],
        ) -> Work | Execution: ...  # fmt: skip


_NEVER_NS = 1 << 62
_TIME_MIN_NS = 1_000_000


class Kin:
    """One execution among those that it called and that called it. `until_ns`, monotonic, is when
    who called it is over; `agent` is there once its guest may ask for anything."""

    __slots__ = ("agent", "children", "end_child", "parent", "until_ns", "work")

    def __init__(
        self, work: Work, parent: Kin | None, until_ns: int, end_child: Callable[[Work, str], None]
    ) -> None:
        self.work, self.parent, self.until_ns = work, parent, until_ns
        self.end_child = end_child
        self.agent: Agent | None = None
        self.children: set[Work] = set()

    def over(self) -> None:
        """An attempt of it is over: so is what it called."""
        self.count()
        if not self.children:
            return
        id = self.work.execution.id
        for child in [child for child in self.children if not child.execution.detached]:
            self.end_child(child, f"execution {id}, which called it, has ended")

    def count(self) -> None:
        """What was used so far, into the record."""
        if self.agent is None:
            return
        shown = self.agent.meter.shown
        if shown is not None:
            self.work.execution.usage, self.work.execution.tree_usage = shown

    def line(self) -> list[Kin]:
        """It and those above it that are known here."""
        found, kin = [self], self.parent
        while kin is not None:
            found.append(kin)
            kin = kin.parent
        return found

    def waiting(self) -> list[Kin]:
        """It and those above that wait for what it calls: up to a detached one, for which nobody
        need wait, and whose caller may have ended long ago."""
        found: list[Kin] = []
        for kin in self.line():
            found.append(kin)
            if kin.work.execution.detached:
                break
        return found


class Call:
    """An execution that an agent asked for; see hostcalls.tasks.Called. Without a `work` it ended
    before it was asked for, or belongs to somebody else."""

    __slots__ = ("_end", "_work", "accepted", "ended", "id", "task")

    def __init__(
        self, execution: Execution, ended: asyncio.Future[Execution], work: Work | None,
        accepted: asyncio.Future[None] | None, end: Callable[[Work, str], None],
    ) -> None:  # fmt: skip
        self.id, self.task, self.ended = execution.id, execution.task_name, ended
        self.accepted, self._work, self._end = accepted, work, end

    def cancel(self, reason: str) -> None:
        if self.ended.done():
            return
        if self._work is None:
            raise PermissionDenied(
                f"execution {self.id} was not called here: its idempotency key was used before"
            )
        self._end(self._work, reason)


class Family:
    """Of one node."""

    def __init__(
        self, parts: Parts, tasks: Tasks, executions: Executions, begin: Begin,
        whole: Callable[[Execution], Coroutine[Any, Any, Execution]],
    ) -> None:  # fmt: skip
        self._parts, self._tasks, self._executions = parts, tasks, executions
        self._begin, self._whole = begin, whole
        self._reads: set[asyncio.Task[Execution]] = set()

    def agent_of(self, work: Work, timeout_ns: int) -> Agent:
        """Who asks, for the guest that is about to begin and has this long."""
        deadline_ns = self._parts.clock.monotonic_ns() + timeout_ns
        kin = work.kin
        if kin is None:
            kin = work.kin = Kin(work, None, _NEVER_NS, self._executions.cancel)
        if kin.agent is None:
            kin.agent = self._agent(kin, deadline_ns)
        # Of a further attempt: its sessions are new, and what the last one was told is past.
        kin.agent.deadline_ns, kin.agent.room, kin.agent.warned = deadline_ns, None, False
        return kin.agent

    def _agent(self, kin: Kin, deadline_ns: int) -> Agent:
        from spear.hostcalls.llm.meter import Meter

        execution, plan = kin.work.execution, kin.work.plan
        above = kin.parent.agent if kin.parent is not None else None
        meter = Meter(
            plan.budget(), above.meter if above is not None else None,
            self._parts.clock.monotonic_ns,
        )  # fmt: skip
        if execution.usage is not None and execution.tree_usage is not None:  # of attempts before
            meter.own, meter.total = execution.usage, execution.tree_usage
        return Agent(
            execution_id=execution.id,
            task=execution.task_name,
            deadline_ns=deadline_ns,
            config=plan.spec.config,
            meter=meter,
            root_id=execution.root_id,
            depth=execution.depth,
        )

    def invoke(
        self, agent: Agent, task: str, invocation: Invocation, input: bytes, *, detached: bool
    ) -> Call:
        """See hostcalls.tasks.Children."""
        work = self._executions.find(agent.execution_id)
        if work is None or work.kin is None or work.stage != RUNS or work.doom:
            raise NodeClosed(f"execution {agent.execution_id} is over and calls nothing more")
        self._check(work.kin, task, detached)
        kin = work.kin

        def born(child: Work) -> None:
            self._adopt(child, kin, detached)

        mode = "async" if detached or work.powered else "sync"
        found = self._begin(task, input, invocation, mode, born=born)
        return self._called(kin, found)

    def _check(self, kin: Kin, task: str, detached: bool) -> None:
        spec, config = kin.work.plan.spec, self._parts.config
        if not allows(names_of("tasks.allowed", spec.config.get("tasks.allowed", "")), task):
            raise PermissionDenied(
                f"task {spec.name!r} may not call {task!r}: tasks.allowed in its config names whom "
                f"it may, such as --set tasks.allowed={task}"
            )
        known = self._tasks.find(task)
        if known.task.name != task:
            raise NotFound(f"no task is called {task!r}: agents call tasks by their names")
        if kin.work.execution.depth >= config.agents_depth:
            raise TooDeep(
                f"agents call each other up to {config.agents_depth} deep (agents.depth), and this "
                f"one is there: {_way(kin)} -> {task}"
            )
        if len(kin.children) >= config.agents_children_max:
            raise TooMany(
                f"{len(kin.children)} calls are under way, the most at once (agents.children)"
            )
        limit = known.task.spec.concurrency
        above = sum(one.work.execution.task_id == known.task.id for one in kin.waiting())
        if limit and above >= limit and not detached:
            raise TooDeep(
                f"task {task!r} runs {limit} at a time, and those are waiting for this call: "
                f"{_way(kin)} -> {task}"
            )

    def _adopt(self, child: Work, kin: Kin, detached: bool) -> None:
        """Before it is accepted."""
        execution, parent = child.execution, kin.work.execution
        execution.parent_id, execution.root_id = parent.id, parent.root_id
        execution.depth, execution.detached = parent.depth + 1, detached
        until_ns = _NEVER_NS
        if not detached:
            child.accepted = None  # nobody is told: it lives no longer than who called it
            assert kin.agent is not None
            until_ns = kin.agent.deadline_ns
            left_ns = until_ns - self._parts.clock.monotonic_ns()
            execution.timeout_ns = max(min(execution.timeout_ns, left_ns), _TIME_MIN_NS)
        child.kin = Kin(child, kin, until_ns, self._executions.cancel)

    def _called(self, kin: Kin, found: Work | Execution) -> Call:
        cancel = self._executions.cancel
        if isinstance(found, Execution):
            return Call(found, self._read(found), None, None, cancel)
        if found.kin is None or found.kin.parent is not kin:
            if any(found is one.work for one in kin.waiting()):
                raise TooDeep(f"execution {found.execution.id} would wait for itself")
            return Call(found.execution, found.listen(), None, found.hear_accepted(), cancel)
        if found not in kin.children:
            kin.children.add(found)
            found.listen().add_done_callback(lambda end: _left(kin, found, end))
        return Call(found.execution, found.listen(), found, found.hear_accepted(), cancel)

    def _read(self, execution: Execution) -> asyncio.Future[Execution]:
        """One that had ended before, with its output."""
        loop = asyncio.get_running_loop()
        if not execution.output_digest:
            future: asyncio.Future[Execution] = loop.create_future()
            future.set_result(execution)
            return future
        task = loop.create_task(self._whole(execution))
        self._reads.add(task)
        task.add_done_callback(self._reads.discard)
        return task


def _left(kin: Kin, child: Work, end: asyncio.Future[Execution]) -> None:
    kin.children.discard(child)
    if not end.cancelled():
        end.exception()  # told to who asked for it


def _way(kin: Kin) -> str:
    return " -> ".join(one.work.execution.task_name for one in reversed(kin.line()))

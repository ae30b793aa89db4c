"""Starts the guest of an execution, in whatever way its task says.

The rule: it begins nothing on its own, and tells exactly once: `started` with the run, or `refused`
with why there is none. It awaits only where it must: for a program that is not in memory, an input
that lies in a file, a warm instance.
"""

from __future__ import annotations

import asyncio

from spear.errors import NodeClosed, SpearError
from spear.spearlet.node import pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from spear.runtime.interface import Program, Run
    from spear.runtime.invocation import Invocation as RunInvocation
    from spear.spearlet.node.family import Family
    from spear.spearlet.node.parts import Parts
    from spear.spearlet.node.work import Work

_TIME_MIN_NS = 1_000_000


class Starter:
    """Of one node, on its loop."""

    family: Family  # given before the first start

    def __init__(
        self, parts: Parts, started: Callable[[Work, Run], None],
        refused: Callable[[Work, Exception], None],
    ) -> None:  # fmt: skip
        self._parts, self._started, self._refused = parts, started, refused
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Work) -> None:
        program = self._parts.programs.ready(work.execution.artifact, work.plan.metered)
        if program is None or work.input_digest:
            self._spawn(self._load(work))
        else:
            self._launch(work, program)

    async def _load(self, work: Work) -> None:
        parts = self._parts
        try:
            program = await parts.programs.load(work.execution.artifact, work.plan.metered)
            if work.input_digest and not work.input:
                work.input = await parts.files.inputs.read(work.input_digest)
        except Exception as error:
            self._refuse(work, error)
        else:
            self._launch(work, program)

    def _launch(self, work: Work, program: Program) -> None:
        if work.doom:
            self._refuse(work, NodeClosed("it was cancelled before it began"))
            return
        if work.plan.spec.pool.isolation == "shared" and not work.invocation.fresh_instance:
            self._spawn(self._launch_warm(work, program))
            return
        pace, monotonic_ns = work.plan.pace, self._parts.clock.monotonic_ns
        began_ns = monotonic_ns()
        try:
            run = self._parts.runtime.start(program, self._run_of(work, program))
        except Exception as error:
            self._refuse(work, error)
            return
        if pace.quick and not run.done:
            pace.held_up(monotonic_ns() - began_ns)
        work.execution.instance_id = work.execution.id
        self._started(work, run)

    async def _launch_warm(self, work: Work, program: Program) -> None:
        execution, invocation = work.execution, work.invocation
        timeout_ns = self._time_left(work)
        try:
            lease = await self._parts.pools.lease(work, program)
        except Exception as error:
            self._refuse(work, error)
            return
        work.lease, execution.instance_id = lease, lease.id
        try:
            run = pool.begin(
                lease,
                work.plan.entry(invocation),
                invocation.call_args,
                work.input,
                timeout_ns,
                self.family.agent_of(work, timeout_ns) if program.posted else None,
            )
        except Exception as error:
            work.lease = None
            self._parts.pools.give_back(lease, spent=not isinstance(error, SpearError))
            self._refuse(work, error)
            return
        self._started(work, run)

    def _refuse(self, work: Work, error: Exception) -> None:
        """What nobody foresaw ends this execution, and no other that begins in the same turn."""
        if not isinstance(error, SpearError):
            self._parts.log.failure("could not begin", error, execution=work.execution.id)
            error = SpearError("the node failed as it began this: its log says how")
        self._refused(work, error)

    def _run_of(self, work: Work, program: Program) -> RunInvocation:
        timeout_ns = self._time_left(work)
        run = work.plan.run_of(
            work.invocation,
            input=work.input,
            id=work.execution.id,
            timeout_ns=timeout_ns,
            priority=work.execution.priority,
            environ=self._parts.environ,
        )
        if program.posted:
            run.context = self.family.agent_of(work, timeout_ns)
        return run

    def _time_left(self, work: Work) -> int:
        """No more than an agent has that called it."""
        now_ns = self._parts.clock.monotonic_ns()
        timeout_ns = work.time_left_ns(now_ns)
        if work.kin is not None:
            timeout_ns = min(timeout_ns, work.kin.until_ns - now_ns)
        return max(timeout_ns, _TIME_MIN_NS)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

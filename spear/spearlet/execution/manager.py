"""Carries an execution from its admission to its one terminal state, in memory.

The rule: the manager alone changes records. A run that ended is *settled*: its outcome moves into
the record and the record into the history, by whoever looks first (a waiter, a query, the sweep
of a later start), so no task or thread has to watch. All public methods may be called from any
thread.
"""

from __future__ import annotations

from _thread import allocate_lock

from spear.config import format_duration
from spear.errors import NodeClosed, NotFound
from spear.runtime.waiting import within
from spear.spearlet.execution.execution import RUNNING, TRANSITIONS, Execution
from spear.spearlet.execution.history import History
from spear.spearlet.execution.live import Live
from spear.spearlet.execution.loader import Loader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from spear.clock import Clock, Ids
    from spear.config import Config
    from spear.hostcalls.agent import Agent
    from spear.runtime.interface import Runtime
    from spear.runtime.invocation import Invocation
    from spear.spearlet.execution.artifact import Artifact

_SWEEP_MIN = 64  # live runs below which a start does not look for ended ones
_CLOSED = "the node was closed"


class Manager:
    """The executions of one node."""

    def __init__(
        self, runtime: Runtime, clock: Clock, ids: Ids, config: Config,
        all_ended: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        self._runtime, self._clock, self._ids = runtime, clock, ids
        self._all_ended = all_ended
        self._node_name = config.node_name
        self._loader = Loader(runtime, config.artifact_bytes_max)
        self._history = History(
            count_max=config.history_count_max,
            bytes_max=config.history_bytes_max,
            age_ns_max=config.history_ns_max,
        )
        self._live: dict[str, Live] = {}
        self._sweep_at = _SWEEP_MIN
        self._totals = dict.fromkeys((s for s, onward in TRANSITIONS.items() if not onward), 0)
        self._duration_ns = 0
        self._lock = allocate_lock()
        self._closed = False

    async def load(self, wasm: bytes, metered: bool = False) -> Artifact:
        """The artifact of these bytes, compiled at most once while it is kept, also when many ask
        at a time. Raises ModuleInvalid, ModuleLimit."""
        return await self._loader.load(wasm, metered)

    def start(
        self, artifact: Artifact, task_name: str, invocation: Invocation,
        config: Mapping[str, str] | None = None,
    ) -> Live:  # fmt: skip
        """Accepts and starts an execution. What cannot be started raises (NodeBusy, NodeClosed,
        ModuleInvalid, ModuleLimit) and leaves no record."""
        if self._closed:
            raise NodeClosed("the node is closed and takes no more work")
        execution = Execution(
            self._ids.next(),
            task_name=task_name,
            node_name=self._node_name,
            artifact=artifact.digest,
            created_ns=self._clock.now_ns(),
            invocation=invocation,
        )
        self._sweep()
        invocation.execution_id = execution.id
        agent = None
        if artifact.program.posted:
            invocation.context = agent = self._agent(execution, invocation, config or {})
        live = Live(execution, agent)
        run = self._runtime.start(artifact.program, invocation)
        if agent is not None:  # the guest's time began just now: the start may load what it asks
            agent.deadline_ns = self._clock.monotonic_ns() + invocation.timeout_ns
        execution.advance(RUNNING)
        live.begin(run)
        self._keep(live)
        return live

    def _agent(
        self, execution: Execution, invocation: Invocation, config: Mapping[str, str]
    ) -> Agent:
        """Who asks, for a guest that may ask for anything."""
        from spear.hostcalls.agent import Agent
        from spear.hostcalls.llm.meter import Meter
        from spear.hostcalls.llm.policy import budget_of

        return Agent(
            execution_id=execution.id,
            task=execution.task_name,
            deadline_ns=self._clock.monotonic_ns() + invocation.timeout_ns,
            config=config,
            meter=Meter(budget_of(config), now_ns=self._clock.monotonic_ns),
        )

    async def wait(self, live: Live, timeout_ns: int | None = None) -> Execution:
        """The record once ended; giving up the wait leaves the guest alone. TimeoutError."""
        if timeout_ns is None:
            await live
        elif not await self._ended_by(live, self._clock.monotonic_ns() + timeout_ns):
            waited = format_duration(timeout_ns)
            raise TimeoutError(f"execution {live.execution.id} has not ended after {waited}")
        return self._settle(live)

    async def hold(self, live: Live) -> Execution:
        """As `wait`, but when the wait is given up (cancelled, interrupted), so is the guest."""
        try:
            return await self.wait(live)
        except GeneratorExit:
            live.cancel("the caller went away")
            raise
        except BaseException:
            live.cancel("the caller gave up waiting")
            await self.wait(live)
            raise

    async def cancel(self, id: str, reason: str = "") -> Execution:
        """Ends the execution if it has not ended, and gives its record. Raises NotFound."""
        live = self._live.get(id)
        if live is None:
            return self.get(id)
        live.cancel(reason)
        return await self.wait(live)

    def get(self, id: str) -> Execution:
        """The record as it is now. Raises NotFound."""
        live = self._live.get(id)
        if live is not None:
            return self.look(live)
        found = self._history.get(id)
        if found is None:
            raise NotFound(f"no execution {id!r} is known here; ended ones are forgotten in time")
        return found

    def look(self, live: Live) -> Execution:
        """The record as it is now."""
        return self._settle(live) if live.ended else live.execution

    def newest(self, status: str | None, count_max: int, before: str | None) -> list[Execution]:
        """Records from the newest on, made before the one with the id `before`."""
        self._settle_ended(list(self._live.values()))
        with self._lock:
            self._history.trim(self._clock.now_ns())
            records = [*self._history, *(live.execution for live in self._live.values())]
        found = [
            record
            for record in records
            if (status is None or record.status == status) and (not before or record.id < before)
        ]
        found.sort(key=_by_id, reverse=True)
        return found[:count_max]

    def stats(self) -> dict[str, dict[str, int]]:
        """Counts since the start, and what is kept now."""
        self._settle_ended(list(self._live.values()))
        with self._lock:
            ended = sum(self._totals.values())
            executions = {
                "total": ended + len(self._live),
                "live": len(self._live),
                **self._totals,
                "duration_ns_mean": self._duration_ns // ended if ended else 0,
            }
            return {
                "executions": executions,
                "history": self._history.stats(),
                "artifacts": self._loader.stats(),
                "runtime": self._runtime.stats(),
            }

    def close(self, grace_s: float) -> None:
        """Takes no more; waits up to `grace_s` for what runs, then ends it. Idempotent."""
        with self._lock:
            self._closed = True
            lives = list(self._live.values())
        until_ns = self._clock.monotonic_ns() + int(grace_s * 1e9)
        try:
            for live in lives:
                if live.run is not None:  # none begins any more
                    live.run.wait(self._seconds_to(until_ns))
        finally:
            for live in lives:
                live.cancel(_CLOSED)
            if self._all_ended is not None:
                self._all_ended()
            self._runtime.close()
            self._settle_ended(list(self._live.values()))

    async def _ended_by(self, live: Live, until_ns: int) -> bool:
        """Waits until the execution has ended or the clock's `until_ns` is there."""
        if live.run is None:
            await within(live.begun, self._seconds_to(until_ns))
        return live.run is not None and await within(live.run, self._seconds_to(until_ns))

    def _seconds_to(self, until_ns: int) -> float:
        return max(0, until_ns - self._clock.monotonic_ns()) / 1e9

    def _keep(self, live: Live) -> None:
        with self._lock:
            self._live[live.execution.id] = live
            closed = self._closed
        if closed:  # while it began, so that the close has not seen it
            live.cancel(_CLOSED)

    def _sweep(self) -> None:
        """Settles what ended unseen; looks each time as many more are live as were left."""
        if len(self._live) < self._sweep_at:
            return
        self._settle_ended(list(self._live.values()))
        self._sweep_at = max(_SWEEP_MIN, 2 * len(self._live))

    def _settle_ended(self, lives: Iterable[Live]) -> None:
        for live in lives:
            if live.ended:
                self._settle(live)

    def _settle(self, live: Live) -> Execution:
        """The one place where an outcome becomes a record's end; the run has ended."""
        execution, run = live.execution, live.run
        if execution.ended:
            return execution
        assert run is not None
        outcome, output = run.outcome, run.output
        with self._lock:
            if not execution.ended:
                execution.finish(outcome, output, live.usage)
                self._totals[execution.status] += 1
                self._duration_ns += execution.duration_ns
                self._history.add(execution, self._clock.now_ns())
                del self._live[execution.id]
        return execution


def _by_id(execution: Execution) -> str:
    return execution.id

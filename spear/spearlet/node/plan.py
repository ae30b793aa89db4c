"""How the executions of one spec are run: everything that can be settled before a call comes.

The rule: what is wrong with a spec is found here, once, and not at its ten thousandth call. But for
its pace a plan is immutable; secrets are looked up at each start and are never part of it.
"""

from __future__ import annotations

import os

from spear.config import format_duration, format_size
from spear.errors import InvalidArgument
from spear.pace import Pace
from spear.records.execution import Invocation
from spear.runtime.invocation import Invocation as RunInvocation
from spear.spearlet.arguments import arguments_of, entry_of, environment_of, grants_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from spear._core.filetable import Directory
    from spear.config import Config
    from spear.records.execution import Execution
    from spear.records.task import TaskSpec
    from spear.records.usage import Budget

PRIORITIES = {"urgent": 0, "high": 64, "normal": 128, "low": 192}  # as the runtime has them
_QUICK_NS = 200_000  # of a guest whose first slice the loop runs itself
_TIMEOUT_NS_MAX = 365 * 86_400 * 10**9


class Plan:
    """Raises InvalidArgument where the spec cannot be run."""

    __slots__ = (
        "_budget", "_config", "_dirs", "_env", "_grants", "_model", "argv", "blank", "metered",
        "pace", "plain", "spec", "timeout_ns",
    )  # fmt: skip

    def __init__(self, spec: TaskSpec, config: Config) -> None:
        self.spec, self._config = spec, config
        self._env = environment_of(spec.env)
        environment_of(spec.env_from)
        self.argv = arguments_of(spec.name, spec.args, self._env)
        self._grants = grants_of(spec.object_grants)
        self._dirs: tuple[Directory, ...] | None = None if spec.dirs else ()
        self.metered = spec.limits.fuel > 0
        self.pace = Pace(_QUICK_NS)
        self.blank: Execution | None = None  # see calls.py
        self._budget: Budget | None = None
        self._model: RunInvocation | None = None  # of what adds nothing to the spec
        # Whether a fresh instance that sees no files runs it, nobody else is told of its end, and
        # nothing is to be hidden in its output.
        self.plain = not (
            spec.pool.isolation == "shared" or spec.dirs or spec.webhook or spec.env_from
        )
        self.timeout_ns = spec.limits.timeout_ns
        _check_limits(spec)

    def timeout_for(self, invocation: Invocation, mode: str) -> int:
        """Wall time of one attempt."""
        asked = invocation.timeout_ns or self.timeout_ns
        if asked:
            return min(asked, _TIMEOUT_NS_MAX)
        return self._config.timeout_ns if mode == "sync" else self._config.async_timeout_ns

    def run_of(
        self, invocation: Invocation, *, input: bytes, id: str, timeout_ns: int, priority: str,
        environ: Mapping[str, str],
    ) -> RunInvocation:  # fmt: skip
        """What the runtime is told. Raises InvalidArgument for what the call asks for and for a
        reference to a variable that the node does not have."""
        return self.model_of(invocation, environ).anew(
            stdin=input,
            execution_id=id,
            timeout_ns=timeout_ns,
            priority=PRIORITIES[priority],
            inline=self.pace.quick,
        )

    def model_of(self, invocation: Invocation, environ: Mapping[str, str]) -> RunInvocation:
        """What all runs that are asked for like this have in common, the same one each time where
        nothing is added to the spec. Raises as `run_of`."""
        adds = (
            invocation.args is not None or invocation.function or invocation.call_args
            or invocation.env or self.spec.env_from
        )  # fmt: skip
        if adds:
            return self._model_of(invocation, environ)
        if self._model is None:
            self._model = self._model_of(invocation, environ)
        return self._model

    def _model_of(self, invocation: Invocation, environ: Mapping[str, str]) -> RunInvocation:
        spec, config = self.spec, self._config
        limits = spec.limits
        env = self._env
        if invocation.env or spec.env_from:
            env = {**env, **_looked_up(spec, environ), **environment_of(invocation.env)}
        argv = self.argv
        if invocation.args is not None or env is not self._env:
            argv = arguments_of(
                spec.name, spec.args if invocation.args is None else invocation.args, env
            )
        return RunInvocation(
            entry=self.entry(invocation),
            call_args=invocation.call_args,
            args=argv,
            env=env,
            timeout_ns=config.timeout_ns,
            memory_bytes_max=limits.memory_bytes or config.memory_bytes_max,
            output_bytes_max=limits.output_bytes or config.output_bytes_max,
            log_bytes_max=limits.log_bytes or config.log_bytes_max,
            log_waits=True,
            log_stdout=True,
            dirs=self.directories(),
            descriptors_max=config.descriptors_max,
            fuel=limits.fuel or None,
            task=spec.name,
            object_grants=self._grants,
        )

    def warm_of(self, environ: Mapping[str, str]) -> RunInvocation:
        """What a warm instance is made with; each call brings its own input and time."""
        return self.run_of(
            Invocation(),
            input=b"",
            id="",
            timeout_ns=self.timeout_for(Invocation(), "sync"),
            priority="normal",
            environ=environ,
        )

    def budget(self) -> Budget:
        """Of models, as the task's config says."""
        if self._budget is None:
            from spear.hostcalls.llm.policy import budget_of

            self._budget = budget_of(self.spec.config)
        return self._budget

    def directories(self) -> tuple[Directory, ...]:
        """Those granted, opened when first asked for. Raises InvalidArgument where one is gone."""
        if self._dirs is None:
            self._dirs = _opened(self.spec)
        return self._dirs

    def entry(self, invocation: Invocation) -> str:
        return entry_of(invocation.function or self.spec.entry)


def secrets_of(spec: TaskSpec, environ: Mapping[str, str]) -> dict[str, str]:
    """Name for the guest -> value, of those that are set; for who redacts them."""
    return {name: environ[there] for name, there in spec.env_from.items() if there in environ}


def _looked_up(spec: TaskSpec, environ: Mapping[str, str]) -> dict[str, str]:
    missing = [there for there in spec.env_from.values() if there not in environ]
    if missing:
        raise InvalidArgument(
            f"task {spec.name!r} takes {', '.join(missing)} from the node's environment, where "
            "that is not set: set it and start the node again"
        )
    return secrets_of(spec, environ)


def _opened(spec: TaskSpec) -> tuple[Directory, ...]:
    from spear._core.filetable import Directory

    for granted in spec.dirs:
        if not os.path.isabs(granted.host):
            raise InvalidArgument(f"dirs: {granted.host!r} is no absolute path on the node")
    return tuple(Directory(d.host, d.guest, writable=d.writable) for d in spec.dirs)


def _check_limits(spec: TaskSpec) -> None:
    limits, retry, pool = spec.limits, spec.retry, spec.pool
    _within("limits.timeout", limits.timeout_ns, 0, _TIMEOUT_NS_MAX, format_duration)
    if limits.memory_bytes:
        _within("limits.memory", limits.memory_bytes, 65536, 4 << 30, format_size)
    _within("limits.output", limits.output_bytes, 0, 1 << 30, format_size)
    _within("limits.log", limits.log_bytes, 0, 1 << 30, format_size)
    _within("limits.fuel", limits.fuel, 0, 1 << 62, str)
    _within("retry.attempts", retry.attempts, 1, 1000, str)
    _within("retry.backoff", retry.backoff_ns, 0, _TIMEOUT_NS_MAX, format_duration)
    _within("retry.backoff_max", retry.backoff_max_ns, 0, _TIMEOUT_NS_MAX, format_duration)
    _within("concurrency", spec.concurrency, 0, 1_000_000, str)
    _within("queue", spec.queue, 0, 1_000_000, str)
    _within("pool.max", pool.max, 0, 10_000, str)
    _within("pool.min", pool.min, 0, pool.max or 10_000, str)
    _within("pool.idle", pool.idle_ns, 0, _TIMEOUT_NS_MAX, format_duration)
    _within("resources.cpu", spec.resources.cpu_millis, 0, 1_000_000, str)
    _within("resources.memory", spec.resources.memory_bytes, 0, 1 << 50, format_size)
    if pool.isolation not in ("shared", "fresh"):
        raise InvalidArgument(f"pool.isolation: expected shared or fresh, found {pool.isolation!r}")


def _within(what: str, found: int, low: int, high: int, show: object) -> None:
    if not low <= found <= high:
        shown = show(low), show(high), show(found)  # type: ignore[operator]
        raise InvalidArgument(f"{what}: expected {shown[0]} to {shown[1]}, found {shown[2]}")

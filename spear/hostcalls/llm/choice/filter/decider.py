"""Somebody else's say in routing: a service or a Python function that keeps, drops, ranks or
rejects.

The rule: a filter is one async function from a Question to a Verdict; it has a time to decide in,
and what happens when it does not is configured: by default the request is refused, since a filter
is there to enforce something. It is told no credential, and no message unless
that is configured.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable

import msgspec

from spear.errors import ModelUnavailable
from spear.hostcalls.llm.choice.routing import EVERYBODY, Candidate, Need, Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.config_llm import FilterSettings
    from spear.telemetry.jsonlog import Log


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """How a candidate does."""

    latency_ms: float = 0.0
    error_rate: float = 0.0
    in_flight: int = 0
    healthy: bool = True


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Who should answer this request? `running` is by the candidates' names; `payload` is the
    request as JSON where the filter may see it."""

    request_id: str
    need: Need
    candidates: tuple[Candidate, ...]
    running: dict[str, Running] = {}
    timeout_ms: int = 0
    message_count: int = 0
    text_bytes: int = 0
    uses_tools: bool = False
    uses_json_schema: bool = False
    payload: bytes = b""


RouterFilter = Callable[[Question], Awaitable[Verdict]]
Hook = Callable[[Question], Verdict | Awaitable[Verdict]]


def hooked(hook: Hook) -> RouterFilter:
    """A plain or an async function as a filter."""

    async def ask(question: Question) -> Verdict:
        found = hook(question)
        verdict = await found if inspect.isawaitable(found) else found
        if not isinstance(verdict, Verdict):
            raise TypeError(f"the filter gave a {type(verdict).__name__}, not a Verdict")
        return _checked(verdict)

    return ask


def _checked(verdict: Verdict) -> Verdict:
    """With values that routing can work with. Raises ValueError, TypeError."""
    found = msgspec.convert(msgspec.to_builtins(verdict), Verdict)  # which looks at their types
    for name, said in found.decisions.items():
        if (said.weight or 0) < 0 or not math.isfinite(said.score):
            raise ValueError(
                f"the filter gave {name!r} the weight {said.weight}, score {said.score}"
            )
    return found


class Decider:
    """A filter with its limits. What it raises, whatever it is, is a filter that failed."""

    def __init__(self, ask: RouterFilter, settings: FilterSettings, log: Log) -> None:
        self._ask, self._settings, self._log = ask, settings, log
        self._failing = False

    @property
    def timeout_ms(self) -> int:
        return -(-self._settings.timeout_ns // 10**6)

    @property
    def sees_content(self) -> bool:
        return self._settings.content

    async def decide(self, question: Question) -> Verdict:
        """Raises ModelUnavailable where the filter fails and requests are refused then."""
        try:
            async with asyncio.timeout(self._settings.timeout_ns / 1e9):
                verdict = await self._ask(question)
        except TimeoutError:
            return self._without(f"it did not decide within {self.timeout_ms} ms")
        except Exception as error:
            return self._without(f"{type(error).__name__}: {error}")
        if self._failing:
            self._failing = False
            self._log.info("the router filter decides again")
        return verdict

    def _without(self, reason: str) -> Verdict:
        allowed = self._settings.on_failure == "allow"
        if not self._failing:
            self._failing = True
            self._log.warn("the router filter fails", reason=reason, requests_refused=not allowed)
        if allowed:
            return EVERYBODY
        raise ModelUnavailable(
            "the router filter failed, and llm.filter.on_failure is refuse", code="filter_failed"
        )

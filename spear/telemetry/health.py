"""Whether a node can do its work: named checks, each ready or not, with the reason.

The rule: a node is ready when all its checks are; one that was announced and has not reported yet
is not. Being asked costs nothing and raises nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

_STARTING = "is starting"


class Check(NamedTuple):
    name: str
    ready: bool
    reason: str  # "" where ready


class Health:
    """The checks of one node. Listeners hear each change of the whole, in the thread that made
    it."""

    __slots__ = ("_listeners", "_reasons", "_told")

    def __init__(self) -> None:
        self._reasons: dict[str, str | Callable[[], str]] = {}
        self._listeners: list[Callable[[bool], None]] = []
        self._told = True

    def expect(self, name: str) -> None:
        """Announces a check that will report."""
        self._set(name, _STARTING)

    def set_ready(self, name: str) -> None:
        self._set(name, "")

    def set_unready(self, name: str, reason: str) -> None:
        self._set(name, reason or "is not ready")

    def ask(self, name: str, reason: Callable[[], str]) -> None:
        """A check that is asked each time: `reason` gives "" where ready."""
        self._set(name, reason)

    def remove(self, name: str) -> None:
        self._reasons.pop(name, None)
        self._tell()

    def checks(self) -> list[Check]:
        found = ((name, _reason(reason)) for name, reason in self._reasons.items())
        return [Check(name, not reason, reason) for name, reason in found]

    @property
    def ready(self) -> bool:
        return all(check.ready for check in self.checks())

    def describe(self) -> str:
        """What is not ready and why, "" where all is."""
        return "; ".join(f"{check.name}: {check.reason}" for check in self.checks() if check.reason)

    def listen(self, listener: Callable[[bool], None]) -> Callable[[], None]:
        """Calls it with `ready` now and at each change; what is given back ends that."""
        self._listeners.append(listener)
        listener(self.ready)
        return lambda: self._listeners.remove(listener)

    def _set(self, name: str, reason: str | Callable[[], str]) -> None:
        self._reasons[name] = reason
        self._tell()

    def _tell(self) -> None:
        ready = self.ready
        if ready != self._told:
            self._told = ready
            for listener in tuple(self._listeners):
                listener(ready)


def _reason(reason: str | Callable[[], str]) -> str:
    if isinstance(reason, str):
        return reason
    try:
        return reason()
    except Exception as error:
        return f"its check failed: {type(error).__name__}: {error}"

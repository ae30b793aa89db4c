"""What tasks take from the node's environment, and where it must not be seen.

The rule: a value is known to the redactor before a guest can have it, so no log line, error or
notice shows it. In its output an execution's own values are covered and, where it asked models,
their keys, which an upstream may repeat; no others: a result is data, and what another task's
secret is by chance must not change it.
"""

from __future__ import annotations

import asyncio

from spear.spearlet.node.plan import secrets_of
from spear.telemetry.cover import Cover

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from spear.records.task import TaskSpec
    from spear.telemetry.cover import Covering
    from spear.telemetry.redact import Redactor

    Told = Callable[[], None]

COVERED = "values of its environment, or keys of models, were covered in its output"
_NONE: frozenset[str] = frozenset()
_COVERS_MAX = 256
PIECE_BYTES = 1 << 17  # looked through in one turn of the loop


class Secrets:
    """Of one node."""

    def __init__(
        self, environ: Mapping[str, str], redactor: Redactor, keys: Iterable[str] = ()
    ) -> None:
        """`keys`: the variables that the keys of models are in."""
        self._environ, self._redactor = environ, redactor
        self._keys = frozenset(environ[name] for name in keys if name in environ)
        self._learned: set[tuple[str, str]] = set()
        self._covers: dict[frozenset[str], Cover] = {}

    def learn(self, spec: TaskSpec) -> None:
        """What the spec takes is shown nowhere from now on."""
        for name, value in secrets_of(spec, self._environ).items():
            if (name, value) not in self._learned:
                self._learned.add((name, value))
                self._redactor.learn(name, value)

    def hiding(self, spec: TaskSpec, told: Told, *, asked: bool) -> Hiding | None:
        """How the output of an execution of it, which `asked` models or did not, is made fit to be
        kept; None: as it is. `told` hears of what was covered."""
        values = frozenset(secrets_of(spec, self._environ).values()) if spec.env_from else _NONE
        if asked:
            values |= self._keys
        if not values:
            return None
        cover = self._covers.get(values)
        if cover is None:
            if len(self._covers) == _COVERS_MAX:
                self._covers.clear()
            cover = self._covers[values] = Cover(values)
        return Hiding(cover, told) if cover else None


class Hiding:
    """Covers one output."""

    __slots__ = ("_cover", "_told")

    def __init__(self, cover: Cover, told: Told) -> None:
        self._cover, self._told = cover, told

    def now(self, output: bytes) -> bytes:
        """Of a small one."""
        covering = self._cover.over(output)
        covering.look(0, len(output))
        return self._done(covering)

    async def in_turns(self, output: bytes) -> bytes:
        covering = self._cover.over(output)
        for begin in range(0, len(output), PIECE_BYTES):
            covering.look(begin, min(begin + PIECE_BYTES, len(output)))
            await asyncio.sleep(0)
        return self._done(covering)

    def _done(self, covering: Covering) -> bytes:
        if covering.found:
            self._told()
        return covering.value()

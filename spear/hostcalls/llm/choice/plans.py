"""Who can answer a kind of request, found once and kept as long as the same backends are there.

The rule: pure; only what no health, no chance and no filter changes is kept here, and never more
than PLANS_MAX kinds: guests make up the names that they ask for.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.hostcalls.llm.choice.members import Member
    from spear.hostcalls.llm.choice.routing import Need

PLANS_MAX = 256
_NAMES_CHARS_MAX = 256  # of a model and a backend, as asked for


class Plans:
    """`changes` counts how often the backends were others."""

    def __init__(self) -> None:
        self._plans: dict[tuple[Need, bool], list[Member]] = {}
        self._changes = 0

    def get(self, need: Need, priced: bool, changes: int) -> list[Member] | None:
        """In no order that means something."""
        return self._plans.get((need, priced)) if changes == self._changes else None

    def keep(self, need: Need, priced: bool, changes: int, members: list[Member]) -> None:
        if len(need.model) + len(need.backend) > _NAMES_CHARS_MAX:
            return
        if changes != self._changes or len(self._plans) >= PLANS_MAX:
            self._plans, self._changes = {}, changes
        self._plans[need, priced] = members

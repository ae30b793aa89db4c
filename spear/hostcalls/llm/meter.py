"""Counts what models were asked for, and holds it to a budget: for an execution and its tree.

The rule: what a call may use is reserved, in the execution and in each one above it, before the
call; where one of them has not that much left the call is refused and nothing is reserved. What it
did use takes the reservation's place. On one event loop.
"""

from __future__ import annotations

from spear.errors import BudgetSpent
from spear.records.usage import Budget, Usage

_WHAT = ("calls", "tokens", "model_ns", "cost_nano_usd")


class Reservation:
    """Of one call; `settle` or `release` ends it, the first one counts."""

    __slots__ = ("_meter", "_reserved")

    def __init__(self, meter: Meter, reserved: Usage) -> None:
        self._meter: Meter | None = meter
        self._reserved = reserved

    def settle(self, used: Usage) -> None:
        """The call is over and used this."""
        meter, self._meter = self._meter, None
        if meter is not None:
            meter._settle(self._reserved, used)

    def release(self) -> None:
        """The call used nothing."""
        self.settle(Usage())


class Meter:
    """`own` is what the execution used itself, `total` with all that it called."""

    __slots__ = ("_budget", "_parent", "_reserved", "own", "total")

    def __init__(self, budget: Budget, parent: Meter | None = None) -> None:
        self._budget, self._parent = budget, parent
        self._reserved = Usage()
        self.own = self.total = Usage()

    def reserve(self, usage: Usage) -> Reservation:
        """Raises BudgetSpent."""
        line = self._line()
        for meter in line:
            meter._check(usage)
        for meter in line:
            meter._reserved += usage
        return Reservation(self, usage)

    def _line(self) -> list[Meter]:
        """This one and all above it."""
        found, meter = [self], self._parent
        while meter is not None:
            found.append(meter)
            meter = meter._parent
        return found

    def _check(self, usage: Usage) -> None:
        for what in _WHAT:
            limit = getattr(self._budget, what)
            taken = getattr(self.total, what) + getattr(self._reserved, what)
            if limit and taken + getattr(usage, what) > limit:
                raise BudgetSpent(
                    f"the budget of {limit} {what} has {max(0, limit - taken)} left and this call "
                    f"may use {getattr(usage, what)}",
                    code="budget_spent",
                )

    def _settle(self, reserved: Usage, used: Usage) -> None:
        self.own += used
        for meter in self._line():
            meter.total += used
            meter._reserved -= reserved

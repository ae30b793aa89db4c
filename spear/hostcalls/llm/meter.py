"""Counts what models were asked for, and holds it to a budget: for an execution and its tree.

The rule: what a call may use is reserved, in the execution and in each one above it, before the
call; where one of them has not that much left the call is refused and nothing is reserved. What it
did use takes the reservation's place. Each further try is reserved as the first one was. A try
whose end nobody saw may have used all that it had reserved: that stays taken from the budget, and
is not counted as used. On one event loop.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from spear.errors import BudgetSpent
from spear.records.usage import Budget, Usage
from spear.units import format_duration

CODE = "budget_spent"
NOTHING = Usage()


def show_usd(nano: int) -> str:
    text = f"{nano // 10**9}.{nano % 10**9:09}".rstrip("0")
    return f"${text}0" if text.endswith(".") else f"${text}"


# What a budget limits: its key in a task's config, and how an amount is shown.
LIMITS: dict[str, tuple[str, Callable[[int], str]]] = {
    "calls": ("budget.calls", lambda count: f"{count} calls"),
    "tokens": ("budget.tokens", lambda count: f"{count} tokens"),
    "model_ns": ("budget.time", format_duration),
    "cost_nano_usd": ("budget.usd", show_usd),
}


class Reservation:
    """Of one call; what ends it first counts."""

    __slots__ = ("_began_ns", "_meter", "_reserved")

    def __init__(self, meter: Meter, reserved: Usage, began_ns: int) -> None:
        self._meter: Meter | None = meter
        self._reserved, self._began_ns = reserved, began_ns

    def extend(self, more: Usage) -> None:
        """The call may use so much more. Raises BudgetSpent where that is not left."""
        if self._meter is None:
            raise BudgetSpent("the call is over and may use nothing more", code=CODE)
        self._meter._take(more)
        self._reserved += more

    def settle(self, used: Usage, lost: Usage = NOTHING) -> None:
        """The call is over and used this; a part of it, whose end nobody saw, maybe this too."""
        self._end(used, lost)

    def release(self) -> None:
        """The call used nothing."""
        self._end(NOTHING, NOTHING)

    def abandon(self, known: Usage) -> None:
        """Nobody saw the end of the call; it used this at least."""
        self._end(known, _beyond(self._reserved, known))

    def _end(self, used: Usage, lost: Usage) -> None:
        meter, self._meter = self._meter, None
        if meter is not None:
            meter._settle(self._reserved, used, lost, self._began_ns)


class Meter:
    """`own` is what the execution used itself, `total` with all that it called. By `now_ns`, a
    monotonic clock and one for the whole tree, it knows how long calls have gone on."""

    __slots__ = (
        "_budget", "_limited", "_line", "_lost", "_now_ns", "_open", "_own_calls", "_own_open",
        "_own_since_ns", "_reserved", "_since_ns", "own", "total",
    )  # fmt: skip

    def __init__(
        self, budget: Budget, parent: Meter | None = None, now_ns: Callable[[], int] | None = None
    ) -> None:
        self._budget = budget
        self._limited = tuple(what for what in LIMITS if getattr(budget, what))
        self._line: tuple[Meter, ...] = (self, *(parent._line if parent is not None else ()))
        self._reserved = self._lost = self.own = self.total = NOTHING
        self._now_ns = now_ns
        self._own_calls = 0  # that go on, each further try too
        # Reservations that are open, and the sum of when they began; own ones, and all in the tree.
        self._open = self._since_ns = self._own_open = self._own_since_ns = 0

    def reserve(self, usage: Usage) -> Reservation:
        """Raises BudgetSpent."""
        self._take(usage)
        began_ns = self._now_ns() if self._now_ns is not None else 0
        self._begin(1, began_ns)
        return Reservation(self, usage, began_ns)

    def left(self, what: str) -> int | None:
        """The least that is left of `what`, a name of LIMITS, here and above; None: no limit."""
        found: int | None = None
        for meter in self._line:
            if what in meter._limited:
                left = meter._left(what)
                found = left if found is None else min(found, left)
        return found

    @property
    def reserved(self) -> Usage:
        """By calls that go on now, of the execution and all that it called."""
        return self._reserved

    @property
    def shown(self) -> tuple[Usage, Usage] | None:
        """`own` and `total` with the calls that go on, of which no more than their time is known
        yet; None where no call was made. So an execution that ends within a call has it in its
        record."""
        calls = self._reserved.calls
        if not calls:
            return (self.own, self.total) if self.total.calls else None
        own = self._time_of(self._own_open, self._own_since_ns) + Usage(calls=self._own_calls)
        below = self._time_of(self._open, self._since_ns) + Usage(calls=calls)
        return (self.own + own).bounded, (self.total + below).bounded

    def _time_of(self, open: int, since_ns: int) -> Usage:
        """Of so many open reservations, which began at times of that sum."""
        return Usage(model_ns=open * self._now_ns() - since_ns if self._now_ns is not None else 0)

    def _begin(self, open: int, began_ns: int) -> None:
        """A reservation begins, or with -1 and -began_ns ends."""
        self._own_open += open
        self._own_since_ns += began_ns
        for meter in self._line:
            meter._open += open
            meter._since_ns += began_ns

    def _take(self, usage: Usage) -> None:
        """All or nothing, here and above. Raises BudgetSpent."""
        for meter in self._line:
            if meter._limited:
                meter._check(usage)
        self._own_calls += usage.calls
        for meter in self._line:
            meter._reserved += usage

    def _left(self, what: str) -> int:
        taken = self.total + self._reserved + self._lost
        return max(0, int(getattr(self._budget, what)) - int(getattr(taken, what)))

    def _check(self, usage: Usage) -> None:
        for what in self._limited:
            (key, show), wanted = LIMITS[what], getattr(usage, what)
            limit = getattr(self._budget, what)
            if wanted > self._left(what):
                raise BudgetSpent(
                    f"this call may use {show(wanted)}; the budget of {show(limit)} has "
                    f"{show(self._left(what))} left ({key} of the task, or of one above it, says "
                    "how much)",
                    code=CODE,
                )

    def _settle(self, reserved: Usage, used: Usage, lost: Usage, began_ns: int) -> None:
        self._begin(-1, -began_ns)
        self.own = (self.own + used).bounded
        self._own_calls -= reserved.calls
        for meter in self._line:
            meter.total = (meter.total + used).bounded
            meter._reserved -= reserved
            if lost is not NOTHING:
                meter._lost += lost


def _beyond(reserved: Usage, known: Usage) -> Usage:
    """What was reserved and is not known to be used, never below 0."""
    rest = msgspec.structs.asdict(reserved - known)
    return Usage(**{what: max(0, amount) for what, amount in rest.items()})

"""Which due times of a schedule are run: the policy for missed runs and overlap, as plain steps.

The rule: pure; records in, records out. `next_ns` is the first due time that nothing was decided
about, and only grows: whatever the clock does, each due time is decided once, either run (`runs`)
or given up (`missed`). The way of a run:

    choose    next_ns moves past it, pending_ns is it      stored before the run is submitted
    ran       pending_ns is 0 again, last_ns is it         stored once it was accepted
    gave_up   pending_ns is 0 again, it counts as missed   stored once it was refused for good

Where the process dies in between, the stored record still says what was chosen, so it is submitted
again under the same key, which the node knows.
"""

from __future__ import annotations

from msgspec.structs import replace

from spear.config import format_duration
from spear.errors import InvalidArgument
from spear.records.schedule import MISSED, Schedule, ScheduleSpec
from spear.spearlet.schedules.cron import NS_MAX
from spear.spearlet.schedules.times import times_of
from spear.telemetry.timetext import time_text

ON_TIME_NS = 5 * 10**9  # a run that starts later than this was missed
ALL_MAX = 1_000  # missed runs that `all` makes up for, the newest
EVERY_MIN_NS = 100_000_000
_TEXT_MAX = 256
_DAY_NS = 86_400 * 10**9


def check(spec: ScheduleSpec, now_ns: int) -> None:
    """Raises InvalidArgument for what cannot be a schedule that begins now."""
    if sum((bool(spec.cron), spec.every_ns != 0, spec.at_ns != 0)) != 1:
        raise InvalidArgument(
            "a schedule has exactly one of cron, every and at; found "
            f"cron {spec.cron!r}, every {spec.every_ns} ns, at {spec.at_ns}"
        )
    if not spec.task or len(spec.name) > _TEXT_MAX:
        raise InvalidArgument(
            f"a schedule names its task, and has a name of at most {_TEXT_MAX} characters"
        )
    if spec.missed not in MISSED:
        raise InvalidArgument(f"missed: expected one of {', '.join(MISSED)}, found {spec.missed!r}")
    if spec.invocation.idempotency_key or spec.invocation.execution_id:
        raise InvalidArgument(
            "a schedule's invocation has no idempotency_key and no execution_id: each run gets its "
            "own"
        )
    if spec.every_ns and not EVERY_MIN_NS <= spec.every_ns <= NS_MAX - now_ns:
        raise InvalidArgument(
            f"every: expected {format_duration(EVERY_MIN_NS)} to "
            f"{(NS_MAX - now_ns) // _DAY_NS}d, found {format_duration(spec.every_ns)}"
        )
    if spec.at_ns and not now_ns - ON_TIME_NS <= spec.at_ns <= NS_MAX:
        raise InvalidArgument(
            f"at: expected a time to come, found {time_text(spec.at_ns)}; it is {time_text(now_ns)}"
        )
    if spec.cron and not times_of(spec, now_ns).next_after(now_ns):
        raise InvalidArgument(f"cron {spec.cron!r} is a date that never comes")


def begin(id: str, spec: ScheduleSpec, now_ns: int, durability: str) -> Schedule:
    """A new schedule. Raises InvalidArgument."""
    check(spec, now_ns)
    next_ns = spec.at_ns or times_of(spec, now_ns).next_after(now_ns)
    return Schedule(id=id, spec=spec, created_ns=now_ns, next_ns=next_ns, durability=durability)


def is_due(schedule: Schedule, now_ns: int) -> bool:
    """Whether there is something to decide or to submit."""
    return schedule.pending_ns > 0 or 0 < schedule.next_ns <= now_ns


def choose(schedule: Schedule, now_ns: int, *, busy: bool) -> Schedule:
    """Decides about what is due by now: at most one run is chosen. `busy`: the last run has not
    ended. The record itself where nothing is to be decided yet."""
    spec = schedule.spec
    waits = busy and not spec.overlap
    if schedule.pending_ns or not is_due(schedule, now_ns) or waits:
        return schedule
    times = times_of(spec, schedule.created_ns)
    count = times.count(schedule.next_ns, now_ns)
    given_up = max(0, count - ALL_MAX) if spec.missed == "all" else count - 1
    chosen_ns = decided_ns = times.nth(schedule.next_ns, given_up)
    if spec.missed == "skip" and now_ns - chosen_ns > ON_TIME_NS:
        given_up, chosen_ns = count, 0
    return replace(
        schedule,
        next_ns=times.next_after(decided_ns),
        pending_ns=chosen_ns,
        missed=schedule.missed + given_up,
    )


def ran(schedule: Schedule, execution_id: str) -> Schedule:
    """What was chosen has been accepted as that execution."""
    return replace(
        schedule,
        pending_ns=0,
        last_ns=schedule.pending_ns,
        last_execution_id=execution_id,
        runs=schedule.runs + 1,
    )


def gave_up(schedule: Schedule) -> Schedule:
    """What was chosen cannot be run."""
    return replace(schedule, pending_ns=0, missed=schedule.missed + 1)


def run_key(schedule: Schedule) -> str:
    """The idempotency key of the run that was chosen."""
    return f"schedule/{schedule.id}/{schedule.pending_ns}"

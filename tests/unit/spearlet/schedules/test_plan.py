"""What the policy for missed runs and overlap does, one sentence a test."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from spear.errors import InvalidArgument
from spear.records.execution import Invocation
from spear.records.schedule import Schedule, ScheduleSpec
from spear.spearlet.schedules import plan
from spear.spearlet.schedules.cron import NS_MAX
from spear.telemetry.timetext import time_text

S = 10**9
NOW = 1_700_000_000 * S
HOURLY = ScheduleSpec(task="t", every_ns=3600 * S)


def due_for(count: int, late_s: int, **changes: object) -> tuple[Schedule, int]:
    """A schedule of which `count` runs are due, the last one so late; and the time."""
    schedule = plan.begin("id", replace(HOURLY, **changes), NOW, "power")
    return schedule, NOW + 3600 * S * count + late_s * S


def all_runs(schedule: Schedule, now_ns: int) -> tuple[list[int], Schedule]:
    """The due times run one after another, in hours after the begin."""
    found = []
    while plan.is_due(schedule, now_ns):
        schedule = plan.choose(schedule, now_ns, busy=False)
        if schedule.pending_ns:
            found.append((schedule.pending_ns - NOW) // (3600 * S))
            schedule = plan.ran(schedule, "x")
    return found, schedule


@pytest.mark.parametrize(
    ("missed", "late_s", "runs", "lost"),
    [
        ("skip", 5, [3], 2), ("skip", 6, [], 3), ("once", 600, [3], 2), ("once", 0, [3], 2),
        ("all", 600, [1, 2, 3], 0),
    ],
)  # fmt: skip
def test_runs_that_were_missed(missed: str, late_s: int, runs: list[int], lost: int) -> None:
    found, schedule = all_runs(*due_for(3, late_s, missed=missed))
    assert found == runs
    assert (schedule.runs, schedule.missed) == (len(runs), lost)
    assert schedule.next_ns == NOW + 4 * 3600 * S


def test_all_makes_up_for_the_newest_thousand() -> None:
    found, schedule = all_runs(*due_for(1500, 0, missed="all"))
    assert found == list(range(501, 1501))
    assert schedule.missed == 500


def test_ten_years_of_minutes_are_decided_at_once() -> None:
    spec = ScheduleSpec(task="t", cron="* * * * *")
    schedule = plan.begin("id", spec, NOW, "power")
    schedule = plan.choose(schedule, NOW + 3650 * 86_400 * S, busy=False)
    assert schedule.missed == 3650 * 1440 - 1


def test_a_due_time_waits_for_the_last_run_unless_they_may_overlap() -> None:
    schedule, now_ns = due_for(1, 0)
    assert plan.choose(schedule, now_ns, busy=True) is schedule
    assert plan.choose(schedule, now_ns, busy=False).pending_ns
    overlapping = replace(schedule, spec=replace(HOURLY, overlap=True))
    assert plan.choose(overlapping, now_ns, busy=True).pending_ns


def test_what_was_chosen_stays_until_it_ran_or_was_given_up() -> None:
    chosen = plan.choose(*due_for(1, 0), busy=False)
    assert plan.choose(chosen, NOW + 10**6 * S, busy=False) is chosen
    assert plan.run_key(chosen) == f"schedule/id/{NOW + 3600 * S}"
    assert plan.gave_up(chosen).missed == 1


def test_a_clock_that_went_back_runs_nothing_twice() -> None:
    schedule, now_ns = due_for(1, 0)
    schedule = plan.ran(plan.choose(schedule, now_ns, busy=False), "x")
    assert plan.choose(schedule, now_ns - 1000 * S, busy=False) is schedule
    assert plan.choose(schedule, now_ns, busy=False) is schedule


def test_one_shot_is_due_once() -> None:
    schedule = plan.begin("id", ScheduleSpec(task="t", at_ns=NOW), NOW, "power")
    schedule = plan.choose(schedule, NOW, busy=False)
    assert (schedule.pending_ns, schedule.next_ns) == (NOW, 0)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (ScheduleSpec(task="t"), "exactly one of cron, every and at"),
        (ScheduleSpec(task="t", cron="@daily", every_ns=S), "exactly one"),
        (ScheduleSpec(task="", every_ns=S), "names its task"),
        (ScheduleSpec(task="t", every_ns=S, name="n" * 257), "at most 256"),
        (ScheduleSpec(task="t", every_ns=1000), "every: expected 100ms to"),
        (ScheduleSpec(task="t", every_ns=-S), "d, found -1s$"),
        (ScheduleSpec(task="t", every_ns=NS_MAX), "every: expected"),
        (
            ScheduleSpec(task="t", at_ns=NOW - 6 * S),
            f"at: expected a time to come, found {time_text(NOW - 6 * S)}; it is",
        ),
        (ScheduleSpec(task="t", at_ns=NS_MAX + 1), "at: expected"),
        (ScheduleSpec(task="t", cron="0 0 31 2 *"), "never comes"),
        (ScheduleSpec(task="t", cron="0 0 31 2"), "five fields"),
        (ScheduleSpec(task="t", every_ns=S, missed="some"), "skip, once, all, found 'some'"),
        (replace(HOURLY, invocation=Invocation(idempotency_key="k")), "each run gets its own"),
        (replace(HOURLY, invocation=Invocation(execution_id="k")), "each run gets its own"),
    ],
)
def test_what_cannot_be_a_schedule_is_refused(spec: ScheduleSpec, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        plan.begin("id", spec, NOW, "power")

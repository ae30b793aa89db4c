"""The policy of schedules against the plain reference, for clocks that jump either way."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from spear.records.schedule import MISSED, ScheduleSpec
from spear.spearlet.schedules import plan
from tests.reference import schedules as reference
from tests.reference.cron import Cron, Item

S = 10**9
MINUTE = 60 * S
BEGIN_NS = 1_700_000_000 * S
END_NS = BEGIN_NS + 6 * 60 * MINUTE
EVERY_5_MINUTES = Cron([[Item(step=5)], [Item()], [Item()], [Item()], [Item()]])
KINDS = {
    "every": (
        ScheduleSpec(task="t", every_ns=97 * S),
        list(range(BEGIN_NS + 97 * S, END_NS, 97 * S)),
    ),
    "cron": (ScheduleSpec(task="t", cron="*/5 * * * *"), EVERY_5_MINUTES.after(BEGIN_NS, 360)),
    "at": (ScheduleSpec(task="t", at_ns=BEGIN_NS + 500 * S), [BEGIN_NS + 500 * S]),
}
STEPS = st.lists(
    st.tuples(
        st.one_of(
            st.integers(0, 10 * S), st.integers(0, 200 * S), st.integers(-3000 * S, 3000 * S)
        ),
        st.booleans(),
        st.sampled_from(["ran", "gave up", "stays"]),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.sampled_from(MISSED), st.booleans(), STEPS)
def test_each_due_time_is_decided_once_as_the_policy_says(kind, missed, overlap, steps) -> None:
    spec, due = KINDS[kind]
    spec = plan.replace(spec, missed=missed, overlap=overlap)
    schedule = plan.begin("id", spec, BEGIN_NS, "power")
    model = reference.Schedule(due, missed, overlap)
    now_ns, lost = BEGIN_NS, 0
    for passed, busy, outcome in steps:
        now_ns = max(BEGIN_NS, min(now_ns + passed, END_NS - 600 * S))
        waited_ns = schedule.pending_ns
        schedule = plan.choose(schedule, now_ns, busy=busy)
        expected = waited_ns or model.choose(now_ns, busy)
        assert schedule.pending_ns == expected
        if expected and outcome == "ran":
            schedule = plan.ran(schedule, f"run {expected}")
            assert schedule.last_ns == expected
            assert schedule.last_execution_id == f"run {expected}"
        elif expected and outcome == "gave up":
            schedule, lost = plan.gave_up(schedule), lost + 1
        assert schedule.runs == len(model.ran) - lost - bool(schedule.pending_ns)
        assert schedule.missed == len(model.given_up) + lost
        decided = {*model.ran, *model.given_up}
        assert schedule.next_ns == next((d for d in due if d not in decided), 0)
        assert len(decided) == len(model.ran) + len(model.given_up), "none twice"

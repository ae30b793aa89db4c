"""Cron against a look at every minute, or every day where it is rare."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import example, given, settings
from hypothesis import strategies as st
from property_examples import examples

from spear.errors import InvalidArgument
from spear.spearlet.schedules.cron import Cron, civil
from tests.reference import cron as reference
from tests.reference.cron import MINUTE_NS, Item

DAY_NS = 1440 * MINUTE_NS
YEAR_2100_NS = 4_102_444_800 * 10**9
# Many begins near the ends of months, of leap years and of centuries.
BEGINS = st.one_of(
    st.integers(0, YEAR_2100_NS * 2),
    st.builds(
        lambda year, month, back: int(
            (datetime(year, month, 1, tzinfo=UTC) - timedelta(minutes=back)).timestamp()
        ) * 10**9,
        st.sampled_from([1972, 1999, 2000, 2023, 2024, 2027, 2028, 2100, 2104]),
        st.integers(1, 12), st.integers(-2, 3000),
    ),
)  # fmt: skip


@st.composite
def items(draw: st.DrawFn, field: int) -> Item:
    low, high = reference.RANGES[field]
    kind = draw(st.sampled_from(["star", "star", "one", "range", "open"]))
    step = draw(st.none() | st.integers(1, high + 2))
    if kind == "star":
        return Item(step=step)
    if kind == "one":
        return Item(draw(st.integers(low, high + (field == 4))))
    first = draw(st.integers(low, high))
    if kind == "open":
        return Item(first, None, step or 1)
    return Item(first, draw(st.integers(first, high + (field == 4))), step)


FIELDS = st.tuples(*(st.lists(items(field), min_size=1, max_size=3) for field in range(5)))
RARE = st.tuples(
    st.lists(st.builds(Item, st.integers(0, 59)), min_size=1, max_size=1),
    st.lists(st.builds(Item, st.integers(0, 23)), min_size=1, max_size=1),
    st.lists(items(2) | st.builds(Item, st.integers(28, 31)), min_size=1, max_size=2),
    st.lists(items(3) | st.just(Item(2)), min_size=1, max_size=2),
    st.lists(items(4), min_size=1, max_size=2),
)


def written(fields, named: bool = False) -> str:
    return " ".join(
        ",".join(item.text(field, named) for item in parts) for field, parts in enumerate(fields)
    )


@settings(deadline=None)
@given(FIELDS, BEGINS, st.booleans(), st.integers(0, 20), st.integers(0, 3 * DAY_NS))
def test_due_times_are_those_found_minute_by_minute(fields, begin_ns, named, index, span) -> None:
    cron = Cron.parse(written(fields, named))
    due = reference.Cron(fields).after(begin_ns, 3 * 1440)
    found = cron.next_after(begin_ns)
    assert found == due[0] if due else found == 0 or found > begin_ns + 3 * DAY_NS - MINUTE_NS
    if index < len(due):
        assert cron.nth(begin_ns + 1, index) == due[index]
    assert cron.count(begin_ns + 1, begin_ns + span) == sum(d <= begin_ns + span for d in due)


@settings(max_examples=examples(60), deadline=None)
@given(RARE, BEGINS)
@example([[Item(0)], [Item(0)], [Item(29)], [Item(2)], [Item()]], 4_080_000_000 * 10**9)
@example([[Item(0)], [Item(0)], [Item(31)], [Item(2), Item(4)], [Item()]], 0)
@example([[Item(0)], [Item(0)], [Item(29)], [Item(2)], [Item(step=7)]], YEAR_2100_NS)
def test_rare_days_are_those_found_day_by_day(fields, begin_ns) -> None:
    found = Cron.parse(written(fields)).next_after(begin_ns)
    expected = reference.Cron(fields).day_after(begin_ns, 9)
    assert found == expected or (expected == 0 and (found == 0 or found > begin_ns + 365 * DAY_NS))


@settings(deadline=None)
@given(st.integers(0, 2_900_000))
def test_days_are_those_of_the_calendar(day) -> None:
    expected = datetime(1970, 1, 1) + timedelta(days=day)
    assert civil(day) == (expected.year, expected.month, expected.day)


CHARACTERS = st.text(alphabet="0123456789*/-, @janmon٣²é\x00", max_size=40)


@settings(deadline=None)
@given(CHARACTERS | st.text(max_size=300) | FIELDS.map(written), st.integers(0, 2**63 - 1))
def test_any_text_gives_times_in_order_or_invalid_argument(text, begin_ns) -> None:
    try:
        cron = Cron.parse(text)
    except InvalidArgument:
        return
    found = cron.next_after(begin_ns)
    assert found == 0 or begin_ns < found < 2**63

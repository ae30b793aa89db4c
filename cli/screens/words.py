"""Single values as a person reads them: times, ages, ends of ids, names that anybody chose.

The rule: pure; what is shown is one line, whatever the value holds.
"""

from __future__ import annotations

from spear.cli import terminal
from spear.telemetry.timetext import time_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.records.execution import Execution
    from spear.records.objects import ObjectInfo
    from spear.records.schedule import Schedule
    from spear.records.task import Artifact, Task

    Kept = Artifact | Task | Execution | Schedule | ObjectInfo

END_DIGITS = 8  # of an id, as tables show it: the beginnings of ids made together are alike
_AGES = ((86400 * 10**9, "d"), (3600 * 10**9, "h"), (60 * 10**9, "m"), (10**9, "s"))


def one_line(text: str) -> str:
    """The text without anything that could end or repaint the line it stands in."""
    return terminal.escape(text).replace("\n", "\\n").replace("\t", " ")


def id_end(id: str) -> str:
    """What a table shows of an id; the verbs take it in its place."""
    return id[-END_DIGITS:]


def durability(record: Kept) -> str:
    """The class of durability that the record has."""
    return f"(durability: {record.durability})"


def length(ns: int) -> str:
    """A duration to three digits: `12.3 ms`, `450 us`, `3.2 s`, and from two minutes on `2m 5s`."""
    if ns >= 120 * 10**9:
        return _long(ns // 10**9)
    for unit, size in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}" if ns < 100 * size else f"{ns / size:.0f} {unit}"
    return f"{ns} ns"


def _long(seconds: int) -> str:
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    parts = ((days, "d"), (hours, "h"), (rest // 60, "m"), (rest % 60, "s"))
    return " ".join(f"{count}{unit}" for count, unit in parts if count)


def age(unix_ns: int, now_ns: int) -> str:
    """How long ago, or in how long, in its greatest unit; "" for what has not been."""
    if not unix_ns:
        return ""
    apart = abs(now_ns - unix_ns)
    for size, unit in _AGES:
        if apart >= size:
            count = f"{apart // size}{unit}"
            return f"{count} ago" if unix_ns <= now_ns else f"in {count}"
    return "now"


def moment(unix_ns: int) -> str:
    return time_text(unix_ns) if unix_ns else ""

"""Lists of records for a person: one table a kind, its columns in one place.

The rule: a row is one line; what a terminal has no room for is cut off at the right, so that the
ids at the left stay whole; in a pipe nothing is cut.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style

from spear.cli import terminal
from spear.cli.screens import words
from spear.records.execution import Execution, Instance
from spear.records.models import ModelInfo
from spear.records.objects import ObjectInfo
from spear.records.schedule import Schedule, ScheduleSpec
from spear.records.task import Artifact, Task
from spear.units import show_size

DIGEST_DIGITS = 12
_PIPE_COLUMNS = 10_000
_GAP_COLUMNS = 2
_STYLES = {
    "completed": "green", "active": "green", "ready": "green", "running": "cyan",
    "failed": "red", "timeout": "red", "terminated": "yellow", "inactive": "yellow",
    "failing": "yellow", "unavailable": "red",
}  # fmt: skip


class Kind(NamedTuple):
    """What is listed: how many of it are called what, and the cells of a row of it; a row is given
    the record and the time now."""

    plural: str
    headings: tuple[str, ...]
    row: Callable[[Any, int], tuple[str, ...]]


def _execution(found: Execution, now_ns: int) -> tuple[str, ...]:
    exit_code = "" if found.exit_code is None else str(found.exit_code)
    code = found.error.code if found.error else ""
    return (
        words.id_end(found.id), found.task_name, found.status, exit_code,
        words.age(found.created_ns, now_ns),
        words.length(found.duration_ns) if found.duration_ns else "",
        "" if code == "EXIT" else code.lower(),
        str(found.tree_usage.tokens) if found.tree_usage else "",
    )  # fmt: skip


def _task(found: Task, now_ns: int) -> tuple[str, ...]:
    return (
        found.name, str(found.version), found.status, found.spec.runtime, found.spec.priority,
        found.spec.artifact[:DIGEST_DIGITS],
        words.age(found.updated_ns or found.registered_ns, now_ns), found.spec.description,
    )  # fmt: skip


def _artifact(found: Artifact, now_ns: int) -> tuple[str, ...]:
    return (
        found.digest[:DIGEST_DIGITS], show_size(found.size), found.runtime,
        words.age(found.created_ns, now_ns), found.name, found.version,
    )  # fmt: skip


def _instance(found: Instance, now_ns: int) -> tuple[str, ...]:
    return (
        words.id_end(found.id), found.task_name, found.status, str(found.executions),
        words.id_end(found.execution_id), words.age(found.used_ns or found.created_ns, now_ns),
    )  # fmt: skip


def when(spec: ScheduleSpec) -> str:
    """When a schedule is due, in a few words."""
    if spec.cron:
        return f"cron {spec.cron}"
    return f"every {words.length(spec.every_ns)}" if spec.every_ns else words.moment(spec.at_ns)


def _schedule(found: Schedule, now_ns: int) -> tuple[str, ...]:
    return (
        words.id_end(found.id), found.spec.name, found.spec.task, when(found.spec),
        words.age(found.next_ns, now_ns) or "never", words.age(found.last_ns, now_ns),
        str(found.runs), str(found.missed),
    )  # fmt: skip


def _object(found: ObjectInfo, now_ns: int) -> tuple[str, ...]:
    return (
        found.key, show_size(found.size), str(found.version), str(found.ref_count),
        "yes" if found.pinned else "", found.durability,
        words.age(found.updated_ms * 10**6, now_ns),
    )  # fmt: skip


def _model(found: ModelInfo, _: int) -> tuple[str, ...]:
    state = "ready" if found.health in ("", "closed") else "failing"
    return (
        found.name, found.kind, found.hosting, found.model or "any",
        state if found.available else "unavailable",
        words.length(found.latency_ns) if found.latency_ns else "", str(found.in_flight),
        found.reason,
    )  # fmt: skip


EXECUTIONS = Kind(
    "executions", ("ID", "TASK", "STATUS", "EXIT", "CREATED", "TOOK", "CAUSE", "TOKENS"), _execution
)
TASKS = Kind(
    "tasks",
    ("NAME", "VERSION", "STATUS", "RUNTIME", "PRIORITY", "ARTIFACT", "CHANGED", "DESCRIPTION"),
    _task,
)
ARTIFACTS = Kind(
    "artifacts", ("DIGEST", "SIZE", "RUNTIME", "CREATED", "NAME", "VERSION"), _artifact
)
INSTANCES = Kind("instances", ("ID", "TASK", "STATUS", "RUNS", "EXECUTION", "USED"), _instance)
SCHEDULES = Kind(
    "schedules", ("ID", "NAME", "TASK", "WHEN", "NEXT", "LAST", "RUNS", "MISSED"), _schedule
)
OBJECTS = Kind(
    "objects", ("KEY", "SIZE", "VERSION", "REFS", "PINNED", "DURABILITY", "CHANGED"), _object
)
MODELS = Kind(
    "model backends",
    ("NAME", "KIND", "HOSTING", "MODEL", "STATE", "LATENCY", "IN FLIGHT", "REASON"),
    _model,
)


def text_of(kind: Kind, records: Sequence[Any], now_ns: int) -> str:
    """The table, in colour where stdout is a terminal that has some. Laid out here: Rich's own
    table takes 1 ms a row."""
    rows = (map(words.one_line, kind.row(record, now_ns)) for record in records)
    table = [kind.headings, *map(tuple, rows)]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    out = io.StringIO()
    shown = terminal.is_terminal(terminal.STDOUT)
    console = Console(
        file=out, width=None if shown else _PIPE_COLUMNS, force_terminal=shown, highlight=False
    )
    columns, lines = console.width, list[Segment]()
    for number, row in enumerate(table):
        styles = _STYLES if number else dict.fromkeys(row, "bold")
        lines += _cut(_segments(row, widths, styles), columns)
        lines.append(Segment.line())
    console.print(Segments(lines), end="")
    return out.getvalue()


def _segments(
    row: Sequence[str], widths: Sequence[int], styles: Mapping[str, str]
) -> list[Segment]:
    """The cells in their columns; nothing behind the last one that says something."""
    while row and not row[-1]:
        row = row[:-1]
    found = []
    for cell, width in zip(row, widths, strict=False):
        style = styles.get(cell)
        found.append(Segment(cell, Style.parse(style) if style else None))
        found.append(Segment(" " * (width - cell_len(cell) + _GAP_COLUMNS)))
    return found[:-1]


def _cut(line: list[Segment], columns: int) -> list[Segment]:
    """The line as far as there is room, and a mark where that is not all."""
    if sum(segment.cell_length for segment in line) <= columns:
        return line
    return [*Segment.adjust_line_length(line, columns - 1, pad=False), Segment("…")]

"""Schedules: when the node invokes a task by itself.

The rule: exactly one of `cron`, `every_ns` and `at_ns` says when. Cron is in UTC.
"""

from __future__ import annotations

import msgspec

from spear.records.execution import Invocation

MISSED = ("skip", "once", "all")


class ScheduleSpec(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`missed` is what happens to runs that were due while the node was down: none (`skip`), one
    for all (`once`), or each (`all`, up to 1,000). With `overlap` a run starts while the last one
    still runs."""

    task: str
    cron: str = ""  # minute hour day month weekday
    every_ns: int = 0
    at_ns: int = 0
    missed: str = "once"
    overlap: bool = False
    input: bytes = b""
    invocation: Invocation = Invocation()
    name: str = ""


class Schedule(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A schedule and where it stands. `missed` counts due times that were not run."""

    id: str
    spec: ScheduleSpec
    created_ns: int = 0
    next_ns: int = 0  # 0: never again
    pending_ns: int = 0  # the due time of a run that was decided on and is not accepted yet
    last_ns: int = 0
    last_execution_id: str = ""
    runs: int = 0
    missed: int = 0
    durability: str = "volatile"

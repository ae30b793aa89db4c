"""Where the logs of a store end, and where one does not go on with the next.

The rule: RocksDB opens what is left up to the first record that is damaged, and takes three things
for none. It reads on behind zeros where a record should begin, and from a log that breaks off to
the next one: what it finds then is no beginning of what was written. And by a record of a kind that
it does not write here it may search for ever (kinds 5 to 8 and 11, in RocksDB 9.8). So a log ends
where no record of ours stands, and each log must begin with the sequence number behind the last one
of the log before.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from spear._core.logwalk import walked
from spear.kv.archive import sync_folder


class Log(NamedTuple):
    """`first` is the first sequence number, `next` the one behind the last; both 0 where it has no
    record. `end` is where no record of ours stands, else the end of the file; `torn`: something
    else than zeros is behind it."""

    number: int
    path: str
    first: int
    next: int
    end: int
    torn: bool


class Gap(NamedTuple):
    """`last` is the last sequence number before it, `behind` are the paths of the logs after it."""

    last: int
    behind: list[str]


class Tables(NamedTuple):
    """What needs no log: all of the logs whose numbers are below `log`, and the writes up to
    `last`."""

    log: int
    last: int


def log_names(folder: str) -> list[str]:
    """RocksDB's, from the first to the last: numbers of six digits or more."""
    names = [name for name in os.listdir(folder) if name.endswith(".log") and name[:-4].isdigit()]
    return sorted(names, key=lambda name: int(name[:-4]))


def read_logs(folder: str) -> list[Log]:
    """From the first to the last. Raises OSError."""
    return [read_log(int(name[:-4]), os.path.join(folder, name)) for name in log_names(folder)]


def read_log(number: int, path: str) -> Log:
    with open(path, "rb") as file:
        data = file.read()
    return Log(number, path, *walked(data))


def cut_logs(folder: str, tables: Callable[[], Tables], lost: Callable[[int], None]) -> None:
    """Cuts each log at its end, and removes those behind the first gap, which a power cut leaves
    where none of them was synced. Who calls has the lock of the folder: to whom else it is open may
    be writing.

    Where something else than zeros would go, `tables` is asked, then `lost` is told the last write
    that would be left, and raises where that may not be: nothing has been changed by then. Raises
    OSError, and what these two raise."""
    logs = read_logs(folder)
    gap = None
    if any(log.torn for log in logs) or first_gap(logs) is not None:
        known = tables()
        gap = first_gap(logs, known.log)
        lost(_last_left(logs, gap, known))
    for log in logs:
        if log.end < os.stat(log.path).st_size:
            os.truncate(log.path, log.end)
    if gap is not None:
        for path in gap.behind:
            os.unlink(path)
        sync_folder(folder)


def _last_left(logs: list[Log], gap: Gap | None, known: Tables) -> int:
    if gap is not None:
        return gap.last
    behind = max((log.next for log in logs if log.number >= known.log), default=0)
    return behind - 1 if behind else known.last


def first_gap(logs: list[Log], least: int = 0) -> Gap | None:
    """Between the logs whose numbers are `least` and above; those below are in tables."""
    live = [log for log in logs if log.number >= least]
    expected = 0
    for at, log in enumerate(live):
        if log.first and expected not in (0, log.first):
            return Gap(expected - 1, [behind.path for behind in live[at:]])
        expected = log.next or expected
    return None

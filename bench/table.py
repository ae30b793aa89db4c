"""Makes the table of docs/performance.md from the results of a run.

    python bench/table.py build/bench/results.jsonl docs/performance.md

Rule: figures come from the results only; of a row measured twice the later one counts. Absolute
times belong to one machine on one day, so the ratios are what the table is about.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

HEAD = """# Performance

Made by `make bench` (`make bench-peers` installs the peers first); do not edit.

Every row is one benchmark of `bench/`: ours and its peers, run in turn in the same process or on
the same processors, in at least five rounds; of short rows a round is the median of several turns.
A row that was taken again stands as it was last. *Ratio* is the median of ours / peer, round by
round; a goal is reached when it holds in four of five rounds. Where ratios are of rates, more is
better.
**Ratios hold, absolute figures belong to this machine and this day.**
"""


def machine() -> str:
    """What the figures were measured on."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "CPU part"):
            model = value.strip()
            break
    usable = len(os.sched_getaffinity(0))
    return (
        f"{usable} processors ({model}), Linux {platform.release().split('-')[0]} on "
        f"{platform.machine()}, {platform.python_implementation()} {platform.python_version()} "
        f"({optimized()}), wasmtime {version('wasmtime')}."
    )


def optimized() -> str:
    """How the interpreter was built, as it says: it weighs 1.5 times on what is done in Python."""
    if "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""):
        return "built with profile-guided optimization"
    if sys.base_prefix == "/usr":
        return "as its distribution built it"
    return "built without profile-guided optimization"


def results(path: Path) -> list[dict[str, Any]]:
    """The rows in the order of the run, each once."""
    rows: dict[str, dict[str, Any]] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        rows[row["row"]] = row
    return list(rows.values())


def figure(value: float) -> str:
    """Three digits that count, without an exponent."""
    if value == 0:
        return "0"
    digits = max(0, 2 - int(f"{value:e}".partition("e")[2]))
    return f"{value:,.{digits}f}"


def goals(peer: dict[str, Any]) -> str:
    return "; ".join(
        f"{goal['goal']}: {'reached' if goal['reached'] else '**not reached**'} ({goal['held']})"
        for goal in peer["goals"]
    )


def cells(*texts: str) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def lines(row: dict[str, Any]) -> Iterator[str]:
    """The section of one row: ours, a line a peer, the note."""
    low, high = (figure(value) for value in row["spread"])
    unit = row["unit"]
    yield f"### {row['row']}"
    yield ""
    yield cells("", unit, "ratio", "goal")
    yield "|---|---|---|---|"
    yield cells("**ours**", f"**{figure(row['ours'])}** ({low} to {high})", "", "")
    for peer in row["peers"]:
        yield cells(peer["name"], figure(peer["value"]), figure(peer["ratio"]), goals(peer))
    if row["note"]:
        yield ""
        yield row["note"]
    yield ""


def verdict(rows: list[dict[str, Any]]) -> str:
    """How many goals there are, and which rows miss one."""
    judged = [(row, goal) for row in rows for peer in row["peers"] for goal in peer["goals"]]
    missed = list(dict.fromkeys(row["row"] for row, goal in judged if not goal["reached"]))
    reached = sum(goal["reached"] for _, goal in judged)
    tail = f" Missed in: {'; '.join(missed)}." if missed else ""
    return f"{len(rows)} rows; {reached} of {len(judged)} goals reached.{tail}"


def document(rows: list[dict[str, Any]]) -> str:
    parts = [HEAD, f"Measured on: {machine()}", "", verdict(rows), ""]
    for row in rows:
        parts += lines(row)
    return "\n".join(parts).rstrip("\n") + "\n"


def main() -> None:
    """Writes the document, and says how the goals stand."""
    source, target = map(Path, sys.argv[1:3])
    rows = results(source)
    target.write_text(document(rows))
    print(f"{target}: {verdict(rows)}")


if __name__ == "__main__":
    main()

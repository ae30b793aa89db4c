"""What guests hold while they are parked, and what executions leave behind: memory and the like.

Rule: measured by resident.py in a process of its own. Memory is of the whole process; a limit is an
absolute figure, shown as a peer. A large guest has 257 pages or more, a stack of 16 MiB first. The
floor is what no host of these guests can do without: the same process before, and what native/
guest_floor.c grows by for as many stores, instances and fibers, with the pages that the guests
themselves touch. The limits are goals for the leanest guest of each kind; what others touch of
their own memory is theirs, and shown beside the same limits.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.report import interleaved, record

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SHAPES = ROOT / "tests" / "guests" / "shapes"

PARKED = 10_000
MAPS_A_GUEST, MAPS_LEFT = 4, 4_000
RUNS_FLAT = 100_000
# A leak of malloc's least block (32 bytes) a run would be 3,125 KiB; a page or two that the
# allocators take late is not one.
GROWTH_KIB_MAX = 1024


def resident(*arguments: object) -> list[dict[str, int]]:
    """The lines of resident.py, run in a process of its own."""
    command = [sys.executable, HERE / "resident.py", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def parked_at_once() -> int:
    """As many guests as the machine's limit of maps lets live."""
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    return min(PARKED, (limit - MAPS_LEFT) // MAPS_A_GUEST)


PARKED_GUESTS = {
    "rest_least": ("small guest, 1 page, 1 host page touched, no log", 200),
    "rest_small": ("small guest, 3 pages, 3 host pages touched, no log", 200),
    "rest_large": ("large guest, 258 pages, 3 host pages touched, no log", 280),
    "sleeper": ("small guest of the C library, 3 host pages and more, one line logged", 200),
    "classic_sleeper": ("large guest of the C library, one line logged", 280),
}


FLOOR_RATIO_MAX = 1.1
FLOOR_GUESTS = ("rest_least", "rest_small", "rest_large")  # which import nothing but sleep_ms
LEANEST = ("rest_least", "rest_large")  # of the small ones and of the large ones


@pytest.mark.parametrize("guest", list(PARKED_GUESTS))
def test_the_memory_of_parked_guests(benchmark, floor, guest):
    (wasm,) = [*SHAPES.glob(f"{guest}.wasm"), *ROOT.glob(f"examples/*/{guest}.wasm")]
    shape, limit = PARKED_GUESTS[guest]
    count = parked_at_once()
    scale = PARKED / count
    seen: list[tuple[dict[str, int], dict[str, int]]] = []

    def whole_mib() -> float:
        before, after = resident("parked", wasm, count)
        seen.append((before, after))
        grown = after["resident_kib"] - before["resident_kib"]
        return (before["resident_kib"] + grown * scale) / 1024

    def floor_grown_mib() -> float:
        return floor("parked", wasm, count)["grown_kib"] * scale / 1024

    contenders = {"spear": whole_mib}
    if guest in FLOOR_GUESTS:
        contenders["C floor"] = floor_grown_mib
    columns = interleaved(benchmark, contenders)
    values = columns.pop("spear")
    seen = seen[-len(values) :]
    befores = [before["resident_kib"] / 1024 for before, _ in seen]
    floors = {
        name: [before + grown for before, grown in zip(befores, column, strict=True)]
        for name, column in columns.items()
    }
    tables = [(b["tables_kib"] - a["tables_kib"]) * scale / 1024 for a, b in seen]
    fewer = f"; {count:,} at once, scaled: vm.max_map_count is too low for more" * (scale > 1)
    goals = {"limit": ("<=", 1.0)} if guest in LEANEST else {}
    record(
        f"resident memory, {PARKED:,} guests parked ({guest})",
        values,
        "MiB",
        {
            "limit": [float(limit)] * len(values),
            **floors,
            "the process before": befores,
            "page tables beside it": tables,
        },
        {**goals, **dict.fromkeys(floors, ("<=", FLOOR_RATIO_MAX))},
        note=f"{shape}; the whole process, each guest held by a Run in Python; "
        f"{seen[-1][1]['threads']} threads, {seen[-1][1]['maps']:,} maps{fewer}",
    )


def test_executions_leave_nothing_behind(benchmark):
    rounds = 5
    lines: list[dict[str, int]] = []

    def all_rounds() -> float:
        lines[:] = resident("flat", SHAPES / "touch_small.wasm", RUNS_FLAT, rounds)
        return 0.0

    benchmark.pedantic(all_rounds, rounds=1, iterations=1)
    before, after = lines[:-1], lines[1:]
    growth = [
        float(b["resident_kib"] - a["resident_kib"]) for a, b in zip(before, after, strict=True)
    ]
    shape = (
        f"small guest, 3 pages, 3 host pages touched; rounds of {RUNS_FLAT:,} in one process, half "
        "begun one by one from Python, half as a batch, one round unmeasured ahead"
    )
    record(
        f"resident memory's growth by {RUNS_FLAT:,} executions",
        growth,
        "KiB",
        {"limit": [float(GROWTH_KIB_MAX)] * rounds},
        {"limit": ("<=", 1.0)},
        note=f"{shape}; the limit is a third of what a leak of 32 bytes a run would be",
    )
    for what in ("descriptors", "threads"):
        record(
            f"{what} after {RUNS_FLAT:,} executions",
            [float(line[what]) for line in after],
            what,
            {"before": [float(line[what]) for line in before]},
            {"before": ("<=", 1.0)},
            note=shape,
        )

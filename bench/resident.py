"""What guests leave in memory: measured in this process of its own, one JSON object a line.

    python bench/resident.py parked WASM GUESTS      before, and with all of them parked
    python bench/resident.py flat WASM RUNS ROUNDS   ahead of the rounds, and after each

Rule: a line tells what the kernel says of this process (KiB), its descriptors and its threads;
nothing else runs here. Half of a round's runs are begun from Python one by one, half as a batch.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from spear._core.engine import Engine, Module
from spear._core.executor import Executor

KEYS = {"VmRSS": "resident_kib", "VmPTE": "tables_kib", "Threads": "threads"}
FOREVER = ("guest", "-1")  # what a guest that takes its time from its arguments needs
HOUR_NS = 3600 * 10**9
SETTLE_S = 60


def tell() -> None:
    gc.collect()
    found = {"descriptors": len(os.listdir("/proc/self/fd"))}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in KEYS:
            found[KEYS[name]] = int(value.split()[0])
    found["maps"] = Path("/proc/self/maps").read_text().count("\n")
    print(json.dumps(found), flush=True)


def settle(executor: Executor, guests: int) -> None:
    """Until so many live and none of them runs or may run."""
    until = time.monotonic() + SETTLE_S
    while time.monotonic() < until:
        now = executor.stats()
        if now["live"] == guests and not now["queued"] and not now["busy_workers"]:
            return
        time.sleep(0.005)
    raise SystemExit(f"the guests do not come to rest: {executor.stats()}")


def parked(executor: Executor, module: Module, guests: int) -> None:
    runs = []
    for count in (1, guests):
        while len(runs) < count:
            runs.append(executor.start(module, args=FOREVER, timeout_ns=HOUR_NS))
        settle(executor, count)
        tell()
    if any(run.done for run in runs):
        raise SystemExit("a guest ended by itself")


def round_of(executor: Executor, module: Module, runs: int) -> None:
    for _ in range(runs // 2):
        run = executor.start(module, inline=True)
        run.wait()
        if run.outcome.status != "completed":
            raise SystemExit(run.outcome.message)
    batch = executor.run_many(module, runs - runs // 2)
    if batch.failed:
        raise SystemExit(str(batch.counts))


def flat(executor: Executor, module: Module, runs: int, rounds: int) -> None:
    for _ in range(rounds + 1):
        round_of(executor, module, runs)
        settle(executor, 0)
        tell()


def main() -> None:
    what, path, count, *more = sys.argv[1:]
    guests = int(count) if what == "parked" else 1000
    module = Engine(slots=guests).load(Path(path).read_bytes())
    executor = Executor(guests_max=guests)
    try:
        if what == "parked":
            parked(executor, module, guests)
        else:
            flat(executor, module, int(count), int(more[0]))
    finally:
        executor.close()


if __name__ == "__main__":
    main()

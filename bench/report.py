"""One way to measure against peers and one way to write it down.

Rule: peer and ours are run in turn in one run, at least five rounds, and only ratios of the same
round count; a goal is reached when it holds in four of five rounds.

    values = interleaved(benchmark, {"spear": ours_once, "heapq": peer_once}, rounds=5)
    record("priority queue, 1e5", values.pop("spear"), "M/s", values, {"heapq": (">=", 4.0)})

A contender is a function without arguments that runs once and returns its own figure (in `unit`);
`record` prints a small table and appends one JSON line to `$SPEAR_BENCH_OUT`
(default `build/bench/results.jsonl`), from which the table of the documentation is made.
"""

from __future__ import annotations

import json
import operator
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROUNDS_MIN = 5
RESULTS_DEFAULT = "build/bench/results.jsonl"
COMPARE: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge}

Contender = Callable[[], float]
Goal = tuple[str, float]  # ("<=" or ">=", limit of ours / peer)
Figures = float | Sequence[float]  # one figure a round; a lone float stands for a single round


def each_us(action: Callable[[], object], count: int) -> float:
    """Microseconds of one call; a tenth of the calls go ahead, unmeasured."""
    for _ in range(count // 10):
        action()
    began = time.perf_counter_ns()
    for _ in range(count):
        action()
    return (time.perf_counter_ns() - began) / count / 1e3


def interleaved(
    benchmark: Any,
    contenders: Mapping[str, Contender],
    rounds: int = ROUNDS_MIN,
    turns: int = 1,
) -> dict[str, list[float]]:
    """Figures of every contender, one a round, all of them run in turn in each round.

    With `turns` each is run so often in a round, always in turn, and its figure is their median:
    for what is short beside the swings of a machine that others share. The first contender is
    ours: the `benchmark` fixture of pytest-benchmark times its last turn, all else runs in its
    set-up. One unmeasured round goes ahead.
    """
    mine, *peers = contenders
    values: dict[str, list[float]] = {name: [] for name in contenders}

    def run(*names: str) -> None:
        for name in names:
            values[name].append(contenders[name]())

    def ahead() -> None:
        for _ in range(turns - 1):
            run(*peers, mine)
        run(*peers)

    benchmark.pedantic(lambda: run(mine), setup=ahead, rounds=rounds, iterations=1, warmup_rounds=1)
    return {
        name: [median(column[at : at + turns]) for at in range(turns, turns * (rounds + 1), turns)]
        for name, column in values.items()
    }


def record(
    row_name: str,
    ours: Figures,
    unit: str,
    peers: Mapping[str, Figures],
    goals: Mapping[str, Goal | tuple[Goal, ...]],
    note: str = "",
) -> bool:
    """Whether every goal was reached; writes the row down and prints it.

    `peers` maps a peer's name to its figures, in the order of the rounds of `ours`. `goals` maps
    a peer's name to one goal or several, limits of the ratio ours / peer: `("<=", 1.6)` for
    times, `(">=", 2.0)` for rates. A peer without a goal is shown only. `note` says what a reader
    must know (the shape, the machine, why a goal is missed).
    """
    mine = _rounds(ours)
    shown = [
        _against(mine, name, _rounds(figures), _goals_of(goals.get(name, ())))
        for name, figures in peers.items()
    ]
    unknown = sorted(set(goals) - set(peers))
    if unknown:
        raise ValueError(f"row {row_name!r}: goals against peers that did not run: {unknown}")
    row = {
        "row": row_name,
        "unit": unit,
        "ours": median(mine),
        "rounds": len(mine),
        "spread": [min(mine), max(mine)],
        "peers": shown,
        "note": note,
    }
    _append(row)
    _print(row)
    return all(goal["reached"] for peer in shown for goal in peer["goals"])


def _rounds(figures: Figures) -> list[float]:
    return [float(figures)] if isinstance(figures, (int, float)) else [float(v) for v in figures]


def _goals_of(goals: Goal | tuple[Goal, ...]) -> list[Goal]:
    if goals and isinstance(goals[0], str):
        return [goals]  # type: ignore[list-item]
    return list(goals)  # type: ignore[arg-type]


def _against(mine: list[float], name: str, theirs: list[float], goals: list[Goal]) -> dict:
    if len(theirs) != len(mine):
        raise ValueError(f"peer {name!r} has {len(theirs)} rounds, ours {len(mine)}: run in turn")
    ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
    return {
        "name": name,
        "value": median(theirs),
        "ratio": median(ratios),
        "goals": [_judged(ratios, sign, limit) for sign, limit in goals],
    }


def _judged(ratios: list[float], sign: str, limit: float) -> dict:
    held = sum(COMPARE[sign](ratio, limit) for ratio in ratios)
    return {
        "goal": f"{sign} {limit:g}",
        "held": f"{held}/{len(ratios)}",
        "reached": 5 * held >= 4 * len(ratios),
    }


def _append(row: dict) -> None:
    path = Path(os.environ.get("SPEAR_BENCH_OUT", RESULTS_DEFAULT))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as out:
        out.write(json.dumps(row) + "\n")


def _print(row: dict) -> None:
    low, high = row["spread"]
    print(f"\n{row['row']}: {row['ours']:.4g} {row['unit']} [{low:.4g} .. {high:.4g}]")
    for peer in row["peers"]:
        goals = "  ".join(
            f"goal {g['goal']} {'reached' if g['reached'] else 'NOT reached'} ({g['held']})"
            for g in peer["goals"]
        )
        print(f"  {peer['name']:<34} {peer['value']:>10.4g}  ratio {peer['ratio']:>7.3f}  {goals}")
    if row["note"]:
        print(f"  {row['note']}")

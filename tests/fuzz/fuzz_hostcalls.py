"""Seeded guests that call every import with wild arguments: only clean outcomes may come.

    python tests/fuzz/fuzz_hostcalls.py --runs 10000 --seed 1

Rule: a guest depends on its seed alone, and a failing run prints it. A crash of the process says
no more than that: `--verbose` prints each seed before it runs.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "tests")) if path not in sys.path]

import wasm_asm as asm  # noqa: E402

from spear._core import trial  # noqa: E402
from spear._core.door import Call  # noqa: E402
from spear._core.engine import Engine, host_imports  # noqa: E402
from spear._core.executor import Executor, Run  # noqa: E402

PAGE = 65536
IMPORTS = sorted(host_imports(trial=True).items())
POSTED = (trial.ECHO, trial.ADD, trial.PAUSE, trial.CONTROL, trial.MIXED, trial.SEND)
EDGES = (
    0, 1, 2, 3, 4, 7, 8, 16, 48, 64, 255, 256, 999, 1000, 1001, 1024, 1025, 16383, 16384, 16385,
    PAGE - 48, PAGE - 32, PAGE - 8, PAGE - 4, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE - 1, 2 * PAGE,
    2**31 - 1, 2**31, 2**32 - 16, 2**32 - 8, 2**32 - 4, 2**32 - 1,
)  # fmt: skip
WIDE_EDGES = (0, 1, 10**6, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
CAUSES = {"exit", "trap", "deadline", "cancelled", "output_limit"}


def value(rng: random.Random, letter: str) -> bytes:
    if letter == "I":
        picked = rng.choice(WIDE_EDGES) if rng.random() < 0.5 else rng.getrandbits(64)
        return asm.i64_const(picked)
    kind = rng.random()
    if kind < 0.25:  # a descriptor or a small count
        return asm.i32_const(rng.randrange(-1, 5))
    if kind < 0.55:
        return asm.i32_const(rng.choice(EDGES) + rng.randrange(-1, 2))
    if kind < 0.9:  # somewhere inside
        return asm.i32_const(rng.randrange(2 * PAGE))
    return asm.i32_const(rng.getrandbits(32))


def wild_memory(rng: random.Random) -> list[tuple[int, bytes]]:
    """Vectors and subscriptions that point anywhere, so that whoever follows them goes astray."""
    pieces = []
    for _ in range(rng.randrange(6)):
        at = rng.choice((0, 4, 8, 64, 1024, PAGE - 64, rng.randrange(PAGE)))
        words = [
            rng.choice(EDGES) if rng.random() < 0.6 else rng.randrange(PAGE) for _ in range(32)
        ]
        pieces.append((at, struct.pack("<32I", *(word & 0xFFFFFFFF for word in words))))
    for _ in range(rng.randrange(3)):
        subscription = struct.pack(
            "<QB7xI4xQQH6x", rng.getrandbits(64), rng.randrange(4), rng.randrange(5),
            rng.choice((0, 1, 10**6, 10**15, 2**64 - 1)), 0, rng.randrange(3),
        )  # fmt: skip
        pieces.append((48 * rng.randrange(20), subscription * rng.randrange(1, 4)))
    return pieces


def module(rng: random.Random) -> bytes:
    """Up to twenty calls of up to eight imports, some in the start function, some in a loop."""
    chosen = rng.sample(IMPORTS, rng.randrange(1, 9))
    rows = []
    pages = None if rng.random() < 0.05 else rng.choice((1, 1, 2, 3))
    for (host, name), (signature, _) in chosen:
        inside, _, result = signature.partition(" -> ")
        params = inside.strip("()").replace("i32", "i").replace("i64", "I").replace(", ", "")
        rows.append((host, name, params, {"i32": "i", "i64": "I"}.get(result, "")))

    def calls(count: int) -> bytes:
        code = b""
        for _ in range(count):
            index = rng.randrange(len(rows))
            code += b"".join(value(rng, letter) for letter in rows[index][2]) + asm.call(index)
            code += asm.DROP if rows[index][3] else b""
            if pages and rng.random() < 0.2:  # what a call wrote is looked at by the next
                code += asm.i32_store(rng.randrange(2000), rng.getrandbits(32))
        return code

    body = calls(rng.randrange(1, 20))
    if rng.random() < 0.1:
        body = asm.LOOP + body + asm.BR_0 + asm.END
    elif rng.random() < 0.2:
        body += asm.UNREACHABLE
    room = (pages or 0) * PAGE
    data = [(at, piece) for at, piece in wild_memory(rng) if at + len(piece) <= room]
    return asm.module(
        rows, body, pages=pages, data=data,
        memory_name="memory" if rng.random() < 0.95 else "other",
        start=calls(rng.randrange(1, 6)) if rng.random() < 0.15 else None,
    )  # fmt: skip


def answer(call: Call) -> Any:
    """What Python says depends on the call's arguments alone, so that a seed can be repeated."""
    rng = random.Random(repr(call.args))
    kind = rng.random()
    if kind < 0.1:
        raise ValueError("told to")
    if call.op == trial.SEND and kind < 0.8:
        return wild_tools(call, rng)
    if kind < 0.5:
        return rng.choice((0, 1, -1, -28, 2**31 - 1, -(2**31), 2**31, None))
    return rng.choice((0, 0, 7, -2)), rng.randbytes(rng.choice((0, 1, 8, 1000, PAGE)))


async def wild_tools(call: Call, rng: random.Random) -> int:
    for _ in range(rng.randrange(4)):
        place = rng.choice(EDGES) - 1, rng.choice(EDGES) - 1
        await call.tool(rng.choice(EDGES) - 1, bytes(rng.randrange(99)), place, rng.choice(EDGES))
    return rng.randrange(-5, 5)


def started(rng: random.Random, engine: Engine, node: Executor) -> Run:
    return node.start(
        engine.load(module(rng)),
        args=["x" * rng.randrange(40) for _ in range(rng.randrange(5))],
        env={f"N{n}": "v" * rng.randrange(9) for n in range(rng.randrange(4))},
        stdin=b"".join(
            struct.pack("<I", rng.choice(EDGES) & 0xFFFFFFFF) for _ in range(rng.randrange(300))
        ),
        timeout_ns=rng.choice((2, 5, 15)) * 1_000_000,
        output_bytes_max=rng.choice((0, 1000, 1 << 20)),
        log_bytes_max=rng.choice((0, 1000, 1 << 20)),
        log_stdout=rng.random() < 0.5, inline=rng.random() < 0.3,
    )  # fmt: skip


def check(run: Run, seed: int) -> str:
    assert run.wait(60), f"the guest hangs: repeat with --runs 1 --seed {seed}"
    outcome = run.outcome
    assert outcome.cause in CAUSES, f"{outcome}: repeat with --runs 1 --seed {seed}"
    assert outcome.output_bytes == len(run.output), seed
    for line in run.read_logs():
        assert 0 <= line.level <= 4
        assert len(line.message) <= 16384
    return outcome.cause


def fuzz(runs: int, seed: int, *, verbose: bool = False) -> dict[str, int]:
    """Ends by cause of `runs` guests, of which a few live at once."""
    engine = Engine(slots=64, trial=True)
    node = Executor(workers=2, guests_max=32, handlers=dict.fromkeys(POSTED, answer))
    causes: dict[str, int] = {}
    live: list[tuple[Run, int]] = []
    try:
        for number in range(seed, seed + runs):
            if verbose:
                print(number, flush=True)
            rng = random.Random(number)
            live.append((started(rng, engine, node), number))
            if rng.random() < 0.1:
                live[rng.randrange(len(live))][0].cancel()
            if len(live) == 16 or number == seed + runs - 1:
                for run, own in live:
                    cause = check(run, own)
                    causes[cause] = causes.get(cause, 0) + 1
                live.clear()
    finally:
        node.close()
    assert node.stats()["live"] == 0
    return causes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    causes = fuzz(options.runs, options.seed, verbose=options.verbose)
    print(f"{options.runs} guests from seed {options.seed}: {causes}")


if __name__ == "__main__":
    main()

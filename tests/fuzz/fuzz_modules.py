"""Seeded damage to wasm files: each is loaded, or refused with an error of ours.

    python tests/fuzz/fuzz_modules.py --runs 10000 --seed 1

Rule: a file depends on its seed alone, and a failing run prints it. What loads is also run, for a
few milliseconds, since a wrong module that is taken for a right one shows there.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "tests")) if path not in sys.path]

from spear._core import wasmfile  # noqa: E402
from spear._core.engine import Engine, Module  # noqa: E402
from spear._core.executor import Executor  # noqa: E402
from spear.errors import ModuleInvalid, ModuleLimit  # noqa: E402
from tests.fuzz import seeded  # noqa: E402

INTERESTING = (
    0,
    1,
    2,
    3,
    5,
    0x0B,
    0x40,
    0x60,
    0x70,
    0x7B,
    0x7E,
    0x7F,
    0x80,
    0xFC,
    0xFD,
    0xFE,
    0xFF,
)
SMALL_BYTES_MAX = 6000


def corpus() -> list[bytes]:
    """The small guests: those without a C library, where damage meets more than code."""
    files = sorted((ROOT / "tests" / "guests").glob("*/*.wasm"))
    return [data for file in files if len(data := file.read_bytes()) < SMALL_BYTES_MAX]


def mutated(rng: random.Random, files: list[bytes]) -> bytes:
    data = bytearray(rng.choice(files))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(data)) if data else 0
        kind = rng.randrange(7)
        if kind == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at] = rng.choice(INTERESTING)
        elif kind == 2:
            del data[at : at + rng.randrange(1, 5)]
        elif kind == 3:
            data[at:at] = bytes(rng.choice(INTERESTING) for _ in range(rng.randrange(1, 6)))
        elif kind == 4:
            data = data[:at]
        elif kind == 5:  # a piece of another
            other = rng.choice(files)
            begin = rng.randrange(len(other))
            data[at:at] = other[begin : begin + rng.randrange(1, 60)]
        elif data:  # a long number where one was short
            data[at : at + 1] = b"\xff\xff\xff\xff" + bytes([rng.randrange(0x20)])
    return bytes(data)


def loaded(engine: Engine, data: bytes) -> Module | None:
    try:
        module = engine.load(data)
    except (ModuleInvalid, ModuleLimit) as error:
        assert str(error)
        return None
    wasmfile.scan(data)
    return module


def run(node: Executor, module: Module) -> None:
    try:
        started = node.start(module, timeout_ns=3_000_000, stdin=b"input")
    except (ModuleInvalid, ModuleLimit):
        return
    assert started.wait(60), "the guest hangs"
    assert started.outcome.status in ("completed", "failed", "timeout")


def fuzz(runs: int, seed: int, *, verbose: bool = False) -> int:
    """How many of `runs` files loaded; raises with the seed of the file that fails."""
    engine, node, files, count = Engine(slots=16), Executor(workers=1), corpus(), 0
    try:
        for number in range(seed, seed + runs):
            if verbose:
                print(number, flush=True)
            try:
                module = loaded(engine, mutated(random.Random(number), files))
                if module is not None:
                    count += 1
                    run(node, module)
            except BaseException as error:
                raise AssertionError(f"repeat with --runs 1 --seed {number}") from error
    finally:
        node.close()
    return count


def main() -> None:
    options = seeded.asked(__doc__, verbose=True)
    count = fuzz(options.runs, options.seed, verbose=options.verbose)
    print(f"{options.runs} files from seed {options.seed}: {count} loaded, the others refused")


if __name__ == "__main__":
    main()

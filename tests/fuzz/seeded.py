"""The runs of a fuzzer, a seed each, and its command line.

Rule: a run depends on its seed alone, and one that fails is told by the seed that repeats it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable


def total(run: Callable[[int], int], runs: int, seed: int) -> int:
    """The sum of what the runs give; raises with the seed of the one that fails."""
    found = 0
    for number in range(seed, seed + runs):
        try:
            found += run(number)
        except BaseException as error:
            raise AssertionError(f"repeat with --runs 1 --seed {number}") from error
    return found


def asked(doc: str, *, verbose: bool = False) -> argparse.Namespace:
    """What the command line says to a fuzzer of this docstring; `verbose` if it can be."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    if verbose:
        parser.add_argument("--verbose", action="store_true", help="print each seed before its run")
    return parser.parse_args()

"""A runaway agent among others, on one node in this process.

The runaway loops for ever and never calls the host. Five other agents start after it and finish
while it runs: they answer, sleep and greet as if it were not there. Then its deadline ends it.

    python examples/together/together.py [SECONDS]

Rule: uses the public names of `spear` only. Exit code 0 if all went as told above.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from pathlib import Path

import spear

EXAMPLES = Path(__file__).resolve().parent.parent
TEXT = EXAMPLES.parent / "README.md"


def guest(name: str) -> Path:
    return EXAMPLES / name / f"{name}.wasm"


async def told(since: float, name: str, started: Awaitable[spear.Execution]) -> spear.Execution:
    """The execution once it has ended, with one line that says when and how."""
    execution = await started
    at_ms = (asyncio.get_running_loop().time() - since) * 1000
    lines = execution.output.decode().splitlines()
    print(f"  {at_ms:7.1f} ms  {name:<9} {execution.status:<10} {lines[-1] if lines else ''}")
    return execution


async def main(seconds: float) -> int:
    """0 if the others completed while the runaway ran, and its deadline ended it."""
    others = {
        "answer": {"input": TEXT.read_text(), "args": ["Ada"]},
        "hello": {},
        "sleeper 1": {"args": ["50"]},
        "sleeper 2": {"args": ["150"]},
        "sleeper 3": {"args": ["250"]},
    }
    async with spear.Spearlet() as node:
        # Compiled once, so that the times below are those of the guests.
        loaded = {name: await node.load(guest(name.split()[0])) for name in (*others, "loop")}
        since = asyncio.get_running_loop().time()
        runaway = await node.start(loaded["loop"], name="runaway", timeout=seconds)
        print(f"  {0:7.1f} ms  runaway   started    it loops for ever; its limit is {seconds:g} s")
        started = {
            name: await node.start(loaded[name], name=name, **options)
            for name, options in others.items()
        }
        ended = await asyncio.gather(*(told(since, *pair) for pair in started.items()))
        unharmed = all(execution.completed for execution in ended) and not runaway.ended
        stopped = await told(since, "runaway", runaway)
    print(f"            {stopped.error.message if stopped.error else 'it came to an end'}")
    return 0 if unharmed and stopped.status == "timeout" else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)))

"""Functions of a sandboxed module, called from Python as if they were our own.

A reactor is instantiated once and called often. With isolation "shared" a call finds the memory as
the last one left it; with "fresh" each call has an instance of its own. A call that waits can be
started and awaited: while it sleeps it is parked, and holds neither a thread nor the event loop.

    python examples/reactor/reactor.py [WAIT_MS]

Rule: stands on engine and executor alone, below the node, since a warm instance is no execution.
Exit code 0 if every call gave what it must.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from spear._core.engine import Engine
from spear._core.executor import Executor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear._core.instance import Function, Instance

MODULE = Path(__file__).with_name("basket.wasm")


def remembers(shared: Instance) -> bool:
    """One memory for all calls: the basket fills."""
    put, total = shared.function("put"), shared.function("total")
    counts = [put(2, 1.5), put(1, 7.0), put(10, 0.25)]
    print(f"  shared: {counts} items after each put, {total()} in total")
    return counts == [2, 3, 13] and total() == 12.5


def forgets(fresh: Instance) -> bool:
    """A memory for each call: the basket is always new."""
    put = fresh.function("put")
    counts = [put(2, 1.5), put(1, 7.0), put(10, 0.25)]
    print(f"  fresh:  {counts} items after each put")
    return counts == [2, 1, 10]


def refuses(put: Function) -> bool:
    """Arguments have the types that the module says."""
    try:
        put("two", 1.5)  # type: ignore[arg-type]
    except TypeError as error:
        print(f"  put is {put.signature}, and refuses others: {error}")
        return True
    return False


async def waits(quote: Function, put: Function, wait_ms: int) -> bool:
    """A call that sleeps, and how often another one is made meanwhile."""
    asked, meanwhile = quote.start(20, wait_ms), 0
    while not asked.done:
        put(1, 1.0)
        meanwhile += 1
        await asyncio.sleep(0)
    outcome = await asked
    said = [line.message for line in asked.read_logs()]
    print(f"  quote slept {wait_ms} ms and gave {asked.value}; its log: {said}")
    print(f"  meanwhile {meanwhile} other calls were made")
    return outcome.status == "completed" and asked.value == 10.0


async def main(wait_ms: int) -> int:
    """0 if all of the above is so."""
    executor = Executor()
    try:
        module = Engine().load(MODULE.read_bytes())
        shared = executor.instantiate(module)
        fresh = executor.instantiate(module, isolation="fresh")
        put, quote = fresh.function("put"), shared.function("quote")
        right = [remembers(shared), forgets(fresh), refuses(put), await waits(quote, put, wait_ms)]
    finally:
        executor.close()
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)))

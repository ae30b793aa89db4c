"""Guests of one page that do a thing so often, for the benchmarks of turns.

Rule: assembled here from text, so that their shape is what the row says.
"""

from __future__ import annotations

from spear._core.engine import Module
from spear._core.executor import Executor

SMALL = "small guest, 1 page, none touched"
PARKED = 10_000
YIELDS = 200  # of each guest


def assembled(text: str) -> bytes:
    import wasmtime

    return bytes(wasmtime.wat2wasm(text))


def counting(imports: str, once: str, times: int, then: str = "") -> bytes:
    """A guest whose `_start` does `once` so often, and then `then`."""
    return assembled(f"""(module
      {imports}
      (memory (export "memory") 1)
      (func (export "_start") (local $n i32)
        (local.set $n (i32.const {times}))
        (loop $again
          {once}
          (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        {then}))""")


YIELDING = counting(
    '(import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))',
    "(drop (call $yield))",
    YIELDS,
)


def yield_us(executor: Executor, module: Module, guests: int) -> float:
    batch = executor.run_many(module, guests)
    assert batch.completed == guests
    return batch.duration_ns / (guests * YIELDS) / 1e3

"""Millions of hostcalls with wild arguments: guests that draw their calls themselves.

    python tests/fuzz/wild_calls.py --calls 1000000 --seed 1

Rule: a guest depends on its seed alone (and on what others left), and a failing run prints it; only
calls of guests that came to their end are counted, so the number shown is the least that were made.
Every import that the host has is called, or the run fails. For guests whose modules differ, and
which are started in stranger ways, see fuzz_hostcalls.py.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "tests")) if path not in sys.path]

import wasmtime  # noqa: E402

from spear._core.door import Call  # noqa: E402
from spear._core.engine import Engine, Module, describe_imports, host_imports  # noqa: E402
from spear._core.executor import Executor  # noqa: E402
from spear._core.filetable import Directory  # noqa: E402
from spear._core.objstore import ObjectStore  # noqa: E402
from spear._core.run import Run  # noqa: E402
from spear.errors import ChannelClosed, QueueFull  # noqa: E402
from tests.fuzz import fuzz_hostcalls as single  # noqa: E402
from tests.fuzz import wild_guest, wild_handles  # noqa: E402

# Of two imports that call tools a module has one; a relay waits for guests that relay, too.
LEFT_OUT = (("spear_trial", "send"), ("spear_trial", "relay"))
ROWS = wild_guest.rows_of({
    name: row for name, row in host_imports(trial=True).items() if name not in LEFT_OUT
})  # fmt: skip
TOOL = wild_guest.tool_index(ROWS)
SHAPES = ((1, "memory"), (1, "memory"), (2, "memory"), (3, "memory"), (1, "other"))
WEIGHTS = (8, 8, 8, 8, 1)
WORD = (1 << 64) - 1
LIVE = 24
CALLS_EACH = (50, 1000, 3000)


def modules(engine: Engine, folder: Path) -> list[Module]:
    """One a shape, each with recipes and a memory of its own."""
    paths = [path.replace(b"@", str(folder).encode()) for path in single.PATHS]
    made = []
    for number, (pages, memory) in enumerate(SHAPES):
        rng = random.Random(number)
        image = wild_guest.Image(rng, single.NAMES, paths, single.wild_memory(rng))
        text = wild_guest.text(rng, ROWS, image, pages=pages, memory=memory)
        made.append(engine.load(bytes(wasmtime.wat2wasm(text))))
    return made


def answer(call: Call, handles: wild_handles.Handles) -> Any:
    if call.op == wild_handles.SEND and handles.asked % 2:
        return tools(call, handles)
    return single.answer(call, handles)


async def tools(call: Call, handles: wild_handles.Handles) -> Any:
    """Calls the guest back, most often a tool that it has, which makes calls itself."""
    rng = random.Random(repr(call.args))
    for _ in range(rng.randrange(3)):
        function = rng.choice((TOOL, TOOL, TOOL, rng.randrange(TOOL + 3), -1))
        place = rng.choice(((8, 4096), (8, 4096), (8, 64), (40_000, 40_000), (-1, 8), (1 << 31, 9)))
        await call.tool(function, bytes(rng.randrange(99)), place, rng.choice(single.EDGES))
    return handles.answer(call, rng)


def started(
    rng: random.Random, made: list[Module], node: Executor, store: ObjectStore,
    dirs: Sequence[Directory],
) -> Run:  # fmt: skip
    (module,) = rng.choices(made, WEIGHTS)
    return node.start(
        module, entry="wild", call_args=(rng.getrandbits(63), rng.choice(CALLS_EACH)),
        dirs=dirs[: rng.choice((0, 1, 2, 2, 2, 2))], descriptors_max=rng.choice((16, 64, 1024)),
        objects=store if rng.random() < 0.95 else None, task="fuzz", object_grants=["other"],
        args=["x" * rng.randrange(40) for _ in range(rng.randrange(5))],
        env={f"N{n}": "v" * rng.randrange(9) for n in range(rng.randrange(4))},
        stdin=rng.randbytes(rng.choice((0, 10, 100_000))),
        timeout_ns=rng.choice((1, 20, 500, 1000, 1000)) * 1_000_000,
        output_bytes_max=rng.choice((1000, 1 << 20, 4 << 20, 4 << 20, 4 << 20, 4 << 20)),
        log_bytes_max=rng.choice((0, 1000, 1 << 20)),
        log_stdout=rng.random() < 0.1, inline=rng.random() < 0.2,
    )  # fmt: skip


class Tally:
    """What the guests that ended say."""

    def __init__(self) -> None:
        self.causes: Counter[str] = Counter()
        self.calls = 0
        self.seen = 0
        self.good = 0
        self.grown = self.grown_in_tools = 0
        self.exited = False

    def take(self, run: Run, seed: int) -> None:
        cause = single.check(run, seed)
        self.causes[cause] += 1
        if cause != "exit":
            return
        try:
            calls, low, high, good_low, good_high, grown, grown_in_tools = run.value
        except RuntimeError:  # it left by proc_exit, and cannot say more
            self.exited = True
        else:
            self.calls += calls
            self.seen |= low & WORD | (high & WORD) << 64
            self.good |= good_low & WORD | (good_high & WORD) << 64
            self.grown += grown
            self.grown_in_tools += grown_in_tools

    def never_called(self) -> list[str]:
        """One is known by its end alone."""
        called = {row.name for index, row in enumerate(ROWS) if self.seen >> index & 1}
        called |= {"proc_exit"} if self.exited else set()
        return [row.name for row in ROWS if row.name not in called]

    def never_succeeded(self) -> list[str]:
        """Of the calls that this build serves: what the fuzzer should be taught."""
        known = describe_imports(trial=True)
        return [
            row.name
            for index, row in enumerate(ROWS)
            if known[row.host, row.name].served_by != "not yet" and not self.good >> index & 1
        ]


def greet(run: Run) -> None:
    """A client connects and sends a frame on each stream, unless the guest is gone already."""
    with contextlib.suppress(ChannelClosed, QueueFull):
        for id, frame in enumerate(wild_guest.FRAMES):
            run.stream(id).send_nowait(frame)


def flood(rng: random.Random, live: list[tuple[Run, int]], tally: Tally) -> None:
    """One guest's neighbours: clients, a cancel now and then, and the end of the oldest."""
    if rng.random() < 0.3:
        greet(live[-1][0])
    elif rng.random() < 0.5:
        single.meddle(rng, live[-1][0])
    if rng.random() < 0.1:
        rng.choice(live)[0].cancel()
    if len(live) == LIVE:
        tally.take(*live.pop(0))


def fuzz(calls: int, seed: int, *, verbose: bool = False) -> Tally:
    """Runs guests until they have made so many calls."""
    engine = Engine(slots=2 * LIVE, trial=True)
    handles = wild_handles.Handles()
    handlers = dict.fromkeys(single.POSTED, functools.partial(answer, handles=handles))
    node = Executor(workers=2, guests_max=2 * LIVE, handlers=handlers)
    store, tally = ObjectStore(1 << 20), Tally()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        dirs = single.furnish(folder)
        made = modules(engine, folder)
        before, kept = single.outside(folder), single.others(folder)
        live: list[tuple[Run, int]] = []
        try:
            while tally.calls < calls:
                if verbose:
                    print(seed, flush=True)
                rng = random.Random(seed)
                live.append((started(rng, made, node, store, dirs), seed))
                flood(rng, live, tally)
                seed += 1
            for run, own in live:
                tally.take(run, own)
        finally:
            node.close()
        assert node.stats()["live"] == 0
        assert handles.made == handles.closed, f"handles stay open before seed {seed}"
        single.check_store(store)
        assert single.outside(folder) == before, f"something outside changed before seed {seed}"
        assert single.opened(folder) == len(dirs), f"something stays open before seed {seed}"
        assert single.others(folder).items() >= kept.items(), f"closed before seed {seed}"
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    since = time.monotonic()
    tally = fuzz(options.calls, options.seed, verbose=options.verbose)
    guests, seconds = sum(tally.causes.values()), time.monotonic() - since
    print(f"{tally.calls} calls of {len(ROWS)} imports by {guests} guests from seed "
          f"{options.seed} in {seconds:.0f} s: {dict(tally.causes)}")  # fmt: skip
    print("served, but never with success:", ", ".join(tally.never_succeeded()) or "none")
    print(f"memories grew {tally.grown} times, and {tally.grown_in_tools} times in tools")
    if missed := tally.never_called():
        sys.exit(f"never called: {', '.join(missed)}")


if __name__ == "__main__":
    main()

"""Seeded random calls, legal and not, to the object store: its answers are the reference's.

    python tests/fuzz/fuzz_objstore.py --runs 10000 --seed 1

Rule: a run depends on its seed alone. A failing run prints the seed that repeats it.
"""

from __future__ import annotations

import random
import sys
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]

from spear._core.objstore import DELETE, ObjectStore  # noqa: E402
from spear.errors import SpearError  # noqa: E402
from tests.fuzz import seeded  # noqa: E402
from tests.reference import objstore as reference  # noqa: E402

BUDGETS = (1, 400, 5000, 300_000, 4_000_000)
EDGES = (0, 1, 63, 64, 65, 8064, 8192, 65_535, 65_536, 131_072, 1_048_576)
ILLEGAL: list[Callable[[ObjectStore], Any]] = [
    lambda store: store.put(b"", b"x"),
    lambda store: store.put(b"k" * 1025, b"x"),
    lambda store: store.put("k", b"x"),
    lambda store: store.put(b"k", None),
    lambda store: store.put(b"k", memoryview(b"abcdef")[::2]),
    lambda store: store.put(b"k", b"x", if_version=-1),
    lambda store: store.put(b"k", b"x", if_version=2**64),
    lambda store: store.put(b"k", b"x", if_version="1"),
    lambda store: store.put(b"k", b"x", metadata={"a": 1}),
    lambda store: store.put(b"k", b"x", metadata={"a": "\ud800"}),
    lambda store: store.put(b"k", b"x", metadata={"a": "b" * 65_536}),
    lambda store: store.get(b""),
    lambda store: store.stat(None),
    lambda store: store.delete(b"k" * 2000),
    lambda store: store.add_ref(b"k", 0),
    lambda store: store.add_ref(b"k", 2**31),
    lambda store: store.remove_ref(b"k", -1),
    lambda store: store.list(b"", 0),
    lambda store: store.list(b"", 2**70),
    lambda store: store.list("k"),
    lambda store: store.snapshot(age_ms_max=0),
    lambda store: store.transact({b"k": -1}, {}),
    lambda store: store.transact({}, {b"": b"x"}),
    lambda store: store.transact({}, {b"k": object()}),
    lambda store: store.transact({"k": 1}, {b"k": b"x"}),
]


STEPS = 60


class Run:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        budget = self.rng.choice(BUDGETS)
        self.now_ms = 0
        self.ours = ObjectStore(budget, epoch=2**23 - 1, clock_ms=lambda: self.now_ms)
        self.model = reference.ObjectStore(budget, 2**23 - 1, lambda: self.now_ms)
        self.keys = [self.key() for _ in range(self.rng.choice((1, 4, 40)))]
        self.views: list[tuple[Any, Any]] = []
        self.snapshots: list[tuple[Any, Any]] = []

    def key(self) -> bytes:
        size = self.rng.choice((1, 2, 3, 9, 30, 1024))
        return bytes(self.rng.choices((0, 1, 97, 98, 255), k=size))

    def value(self) -> Any:
        rng = self.rng
        size = rng.choice(EDGES) if rng.random() < 0.15 else rng.randrange(3000)
        data = bytes([rng.randrange(256)]) * size
        return rng.choice((bytes, bytearray, memoryview, lambda raw: array("B", raw)))(data)

    def version(self, key: bytes) -> int | None:
        entry = self.model.entries.get(key)
        wanted = entry.record.version if entry else 0
        return self.rng.choice((None, wanted, wanted, 0, 2**63 - 1))

    def both(self, pair: tuple[Any, Any], name: str, *args: Any, **named: Any) -> Any:
        answers = []
        for store in pair:
            try:
                answers.append(getattr(store, name)(*args, **named))
            except SpearError as error:
                answers.append(type(error))
        if isinstance(answers[0], type) or name not in ("get", "snapshot"):
            assert answers[0] == answers[1], (name, args, named, answers)
            return None
        return tuple(answers)

    def step(self) -> None:
        rng, key = self.rng, self.rng.choice(self.keys)
        stores = (self.ours, self.model)
        choice = rng.randrange(12)
        if choice <= 3:
            metadata = {"m": "é" * rng.randrange(9)} if rng.random() < 0.2 else None
            version = self.version(key) if choice == 0 else None
            self.both(stores, "put", key, self.value(), if_version=version, metadata=metadata)
        elif choice == 4:
            self.keep(self.both(stores, "get", key))
        elif choice == 5:
            named = {"if_version": self.version(key), "force": rng.random() < 0.5}
            self.both(stores, "delete", key, **named)
        elif choice == 6:
            name = rng.choice(("add_ref", "remove_ref", "pin", "unpin", "stat"))
            self.both(stores, name, key)
        elif choice == 7:
            after = rng.choice((None, self.key()))
            self.both(stores, "list", self.key()[: rng.randrange(3)], rng.randrange(1, 200), after)
        elif choice == 8:
            self.transact(stores)
        elif choice == 9:
            self.snapshot(stores, key)
        elif choice == 10 and self.views:
            self.views.pop(rng.randrange(len(self.views)))
        else:
            self.illegal()

    def keep(self, pair: Any) -> None:
        if pair is not None:
            assert bytes(pair[0]) == bytes(pair[1])
            self.views.append(pair)

    def transact(self, stores: tuple[Any, Any]) -> None:
        rng = self.rng
        names = rng.sample(self.keys, rng.randrange(1, min(8, len(self.keys)) + 1))
        reads = {name: self.version(name) or 0 for name in names if rng.random() < 0.2}
        writes = {name: DELETE if rng.random() < 0.2 else self.value() for name in names}
        self.both(stores, "transact", reads, writes)

    def snapshot(self, stores: tuple[Any, Any], key: bytes) -> None:
        rng = self.rng
        self.now_ms += rng.choice((0, 0, 1, 30))
        choice = rng.randrange(4)
        if choice == 0 or not self.snapshots:
            given = {"age_ms_max": rng.choice((1, 50)), "yields": rng.choice((False, True))}
            self.snapshots.append(self.both(stores, "snapshot", **given))
        elif choice == 1:
            for each in self.snapshots.pop(rng.randrange(len(self.snapshots))):
                each.close()
        else:
            pair = rng.choice(self.snapshots)
            self.keep(self.both(pair, "get", key))
            self.both(pair, "list", b"", rng.randrange(1, 100), None)

    def illegal(self) -> None:
        call = self.rng.choice(ILLEGAL)
        before = self.ours.stats()
        try:
            call(self.ours)
        except (SpearError, TypeError, ValueError, BufferError, OverflowError):
            self.model.expire()
            assert self.ours.stats()[:7] == before[:7]
            return
        raise AssertionError(f"illegal call {ILLEGAL.index(call)} was accepted")

    def check(self) -> None:
        stats = self.ours.stats()
        self.model.expire()
        assert stats.bytes_used == self.model.bytes_used() <= max(stats.bytes_max, 0)
        assert (stats.objects, stats.evictions) == (len(self.model.entries), self.model.evictions)
        for ours, model in self.views:
            assert bytes(ours) == bytes(model)


def run(seed: int) -> int:
    """One run; that it found nothing."""
    found = Run(seed)
    for _ in range(STEPS):
        found.step()
    found.check()
    return 1


def fuzz(runs: int, seed: int) -> int:
    """Runs that found nothing; raises with the seed of the first that does."""
    return seeded.total(run, runs, seed)


if __name__ == "__main__":
    options = seeded.asked(__doc__)
    print(f"{fuzz(options.runs, options.seed)} runs, nothing found")

"""Both stores do what a dictionary does, whatever the order of calls; the one on disk also after it
was closed, copied while open (as a SIGKILL leaves it), backed up and restored."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from property_examples import examples

from spear.errors import Conflict
from spear.kv.backup import restore
from spear.kv.batch import Batch
from spear.kv.interface import LocalKv
from spear.kv.memory import open_memory
from spear.kv.rocks import open_rocks

KEYS = st.sampled_from([b"\1", b"a", b"a/", b"a/\0", b"a/1", b"a/1\xff", b"a/2", b"b", b"\xff"])
VALUES = st.sampled_from([b"", b"1", b"2", bytes(300), b"x" * 5000])
PREFIXES = st.sampled_from([b"", b"a", b"a/", b"a/1", b"\xff", b"none"])
CHANGES = st.lists(st.tuples(KEYS, st.none() | VALUES), max_size=4)
WRITE_BUFFER_BYTES = 64 << 10


class Against(RuleBasedStateMachine):
    """A store against its model; `disk` is the one that can be opened again."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.copies = 0
        self.model: dict[bytes, bytes] = {}
        self.sequence = 0

    @initialize()
    def start(self) -> None:
        self.path = self.folder / "0"
        self.disk = open_rocks(str(self.path), write_buffer_bytes=WRITE_BUFFER_BYTES)
        self.memory = open_memory()

    def both(self) -> tuple[LocalKv, LocalKv]:
        return self.disk, self.memory

    @rule(changes=CHANGES, synced=st.booleans())
    def write(self, changes: list[tuple[bytes, bytes | None]], synced: bool) -> None:
        for kv in self.both():
            batch = batch_of(changes)
            sequence = self.runner.run(kv.commit(batch)) if synced else kv.write(batch)
            if kv is self.disk:
                assert sequence > self.sequence or not changes
                self.sequence = sequence
        self.apply(changes)

    @rule(key=KEYS, expected=st.none() | VALUES, changes=CHANGES)
    def write_if(
        self, key: bytes, expected: bytes | None, changes: list[tuple[bytes, bytes | None]]
    ) -> None:
        holds = self.model.get(key) == expected
        for kv in self.both():
            batch = batch_of(changes)
            batch.expect(key, expected)
            try:
                kv.write(batch)
                assert holds
            except Conflict:
                assert not holds
        if holds:
            self.apply(changes)

    @rule(
        prefix=PREFIXES,
        after=st.just(b"") | KEYS,
        limit=st.integers(0, 5),
        reverse=st.booleans(),
    )
    def scan(self, prefix: bytes, after: bytes, limit: int, reverse: bool) -> None:
        keys = sorted((key for key in self.model if key.startswith(prefix)), reverse=reverse)
        if after:
            keys = [key for key in keys if (key < after if reverse else key > after)]
        wanted = [(key, self.model[key]) for key in keys[:limit]]
        for kv in self.both():
            assert kv.scan(prefix, after=after, limit=limit, reverse=reverse) == wanted

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.disk.close())
        self.disk = open_rocks(str(self.path), write_buffer_bytes=WRITE_BUFFER_BYTES)

    @rule()
    def reopen_as_left_by_a_kill(self) -> None:
        copy = self.next_path()
        shutil.copytree(self.path, copy)
        self.runner.run(self.disk.close())
        self.path = copy
        self.disk = open_rocks(str(copy), write_buffer_bytes=WRITE_BUFFER_BYTES)

    @rule()
    def back_up_and_restore(self) -> None:
        for kv in self.both():
            copy = self.next_path()
            self.runner.run(kv.backup(f"{copy}.backup"))
            self.runner.run(restore(f"{copy}.backup", str(copy)))
        self.runner.run(self.disk.close())
        self.path, self.sequence = copy, 0
        self.disk = open_rocks(str(copy), write_buffer_bytes=WRITE_BUFFER_BYTES)

    @invariant()
    def rows_are_those_of_the_model(self) -> None:
        if not hasattr(self, "disk"):
            return
        for kv in self.both():
            assert dict(kv.scan(b"")) == self.model
            for key in (b"\1", b"a/1", b"\xff"):
                assert kv.get(key) == self.model.get(key)

    def apply(self, changes: list[tuple[bytes, bytes | None]]) -> None:
        for key, value in changes:
            self.model.pop(key, None)
            if value is not None:
                self.model[key] = value

    def next_path(self) -> Path:
        self.copies += 1
        return self.folder / str(self.copies)

    def teardown(self) -> None:
        if hasattr(self, "disk"):
            self.runner.run(self.disk.close())
        self.runner.close()
        shutil.rmtree(self.folder)


def batch_of(changes: list[tuple[bytes, bytes | None]]) -> Batch:
    batch = Batch()
    for key, value in changes:
        if value is None:
            batch.delete(key)
        else:
            batch.put(key, value)
    return batch


TestStoresAgainstModel = Against.TestCase
TestStoresAgainstModel.settings = settings(
    max_examples=examples(10),
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

"""The object store does what its plain-Python reference does, whatever the order of calls."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from property_examples import examples

from spear._core.objstore import DELETE, ObjectStore
from spear.errors import SpearError, VersionConflict
from tests.reference import objstore as reference

KEYS = st.sampled_from([b"a", b"aa", b"ab", b"b", b"b\x00", b"\xff" * 9, b"k" * 1024])
BYTES_MAX = 400_000
SIZES = st.sampled_from([0, 1, 100, 1000, 9000, 70_000, 140_000, 200_000, 400_000])
VERSIONS = st.integers(0, 6)
METADATA = st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2)
COUNTS = st.integers(1, 3)


class StoreAgainstReference(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1000
        self.ours = ObjectStore(BYTES_MAX, epoch=3, clock_ms=lambda: self.now_ms)
        self.model = reference.ObjectStore(BYTES_MAX, epoch=3, clock_ms=lambda: self.now_ms)
        self.views: list[tuple[Any, Any]] = []
        self.snapshots: list[tuple[Any, Any]] = []
        self.fill = 0

    def both(self, name: str, *args: Any, on: tuple[Any, Any] | None = None, **named: Any) -> Any:
        """The answers of both, which are equal or the same error."""
        answers = []
        for store in on or (self.ours, self.model):
            try:
                answers.append(getattr(store, name)(*args, **named))
            except SpearError as error:
                told = error.args if isinstance(error, VersionConflict) else None
                answers.append((type(error), told))
        if name not in ("get", "snapshot") or isinstance(answers[0], tuple):
            assert answers[0] == answers[1]
            return None
        return tuple(answers)

    def value(self, size: int) -> bytes:
        self.fill = (self.fill + 1) % 256
        return bytes([self.fill]) * size

    def known(self, key: bytes, guess: int) -> int:
        """A version to ask for: mostly the one the object has."""
        if guess < 4 and key in self.model.entries:
            return self.model.entries[key].record.version
        return guess - 4 if guess >= 4 else 0

    def hold(self, pair: Any) -> None:
        if pair is not None:
            assert bytes(pair[0]) == bytes(pair[1])
            self.views.append(pair)

    @rule(key=KEYS, size=SIZES, metadata=METADATA)
    def put(self, key: bytes, size: int, metadata: dict[str, str]) -> None:
        self.both("put", key, self.value(size), metadata=metadata)

    @rule(key=KEYS, size=SIZES, guess=VERSIONS)
    def put_if(self, key: bytes, size: int, guess: int) -> None:
        self.both("put", key, bytearray(self.value(size)), if_version=self.known(key, guess))

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        self.hold(self.both("get", key))

    @rule(at=st.integers(0, 50))
    def let_go(self, at: int) -> None:
        if self.views:
            self.views.pop(at % len(self.views))

    @rule(key=KEYS, guess=VERSIONS, force=st.booleans())
    def delete_if(self, key: bytes, guess: int, force: bool) -> None:
        self.both("delete", key, if_version=self.known(key, guess), force=force)

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        self.both("delete", key)

    @rule(key=KEYS, count=COUNTS)
    def add_ref(self, key: bytes, count: int) -> None:
        self.both("add_ref", key, count)

    @rule(key=KEYS, count=COUNTS)
    def remove_ref(self, key: bytes, count: int) -> None:
        self.both("remove_ref", key, count)

    @rule(key=KEYS, pinned=st.booleans())
    def pin(self, key: bytes, pinned: bool) -> None:
        self.both("pin" if pinned else "unpin", key)

    @rule(key=KEYS)
    def stat(self, key: bytes) -> None:
        self.both("stat", key)

    @rule(
        prefix=st.sampled_from([b"", b"a", b"b", b"zz"]),
        limit=st.sampled_from([1, 2, 9, 99]),
        after=st.none() | KEYS,
    )
    def list(self, prefix: bytes, limit: int, after: bytes | None) -> None:
        self.both("list", prefix, limit, after)

    @rule(
        reads=st.dictionaries(KEYS, VERSIONS, max_size=2),
        writes=st.dictionaries(KEYS, SIZES | st.just(DELETE), max_size=3),
    )
    def transact(self, reads: dict[bytes, int], writes: dict[bytes, Any]) -> None:
        asked = {key: self.known(key, guess) for key, guess in reads.items()}
        values = {k: DELETE if v is DELETE else self.value(v) for k, v in writes.items()}
        self.both("transact", asked, values)

    @rule(age_ms=st.sampled_from([10, 1000]), yields=st.booleans())
    def snapshot(self, age_ms: int, yields: bool) -> None:
        self.snapshots.append(self.both("snapshot", age_ms_max=age_ms, yields=yields))

    @rule(at=st.integers(0, 50), key=KEYS)
    def snapshot_get(self, at: int, key: bytes) -> None:
        if self.snapshots:
            pair = self.snapshots[at % len(self.snapshots)]
            self.hold(self.both("get", key, on=pair))
            self.both("list", b"", 3, None, on=pair)

    @rule(at=st.integers(0, 50))
    def snapshot_close(self, at: int) -> None:
        if self.snapshots:
            for snapshot in self.snapshots.pop(at % len(self.snapshots)):
                snapshot.close()

    @rule(ms=st.sampled_from([1, 5, 100]))
    def wait(self, ms: int) -> None:
        self.now_ms += ms

    @invariant()
    def counts_agree(self) -> None:
        stats = self.ours.stats()
        self.model.expire()
        assert stats.bytes_used == self.model.bytes_used() <= BYTES_MAX
        assert stats.bytes_live == self.model.bytes_live()
        assert stats.bytes_held == stats.bytes_used - stats.bytes_live
        assert (stats.objects, stats.evictions) == (len(self.model.entries), self.model.evictions)
        assert stats.snapshots == len(self.model.snapshots)
        assert stats.bytes_used + stats.bytes_recycled <= BYTES_MAX

    @invariant()
    def views_stay(self) -> None:
        for ours, model in self.views:
            assert bytes(ours) == bytes(model)
            assert (ours.version, ours.metadata) == (model.version, model.metadata)

    def teardown(self) -> None:
        for pair in self.snapshots:
            pair[0].close()
        self.views.clear()
        for stat in self.ours.list():
            self.ours.delete(stat.key, force=True)
        assert self.ours.stats().bytes_used == 0


TestStoreAgainstReference = StoreAgainstReference.TestCase
TestStoreAgainstReference.settings = settings(
    max_examples=examples(150), stateful_step_count=60, deadline=None
)


@settings(max_examples=examples(150), deadline=None)
@given(
    keys=st.lists(
        st.binary(min_size=1, max_size=6) | st.text("ab/", min_size=1).map(str.encode),
        unique=True,
        max_size=120,
    ),
    gone=st.sets(st.integers(0, 119)),
    prefix=st.binary(max_size=2),
    after=st.none() | st.binary(max_size=3),
)
def test_lists_are_in_key_order_after_any_inserts_and_deletes(
    keys: list[bytes], gone: set[int], prefix: bytes, after: bytes | None
) -> None:
    store = ObjectStore(1 << 20)
    for key in keys:
        store.put(key, b"")
    left = [key for at, key in enumerate(keys) if at not in gone]
    for at in gone & set(range(len(keys))):
        store.delete(keys[at])
    wanted = sorted(k for k in left if k.startswith(prefix) and (after is None or k > after))
    assert [stat.key for stat in store.list(prefix, 1000, after)] == wanted
    assert [stat.key for stat in store.list(prefix, 5, after)] == wanted[:5]


@settings(deadline=None)
@given(METADATA)
def test_metadata_comes_back_as_it_went_in(metadata: dict[str, str]) -> None:
    store = ObjectStore(1 << 20)
    store.put(b"k", b"value", metadata=metadata)
    assert store.get(b"k").metadata == store.stat(b"k").metadata == metadata


def test_the_reference_counts_the_overheads_of_the_store() -> None:
    store, model = ObjectStore(10_000), reference.ObjectStore(10_000)
    for each in (store, model):
        each.put(b"key", b"value", metadata={"a": "b"})
    assert store.stats().bytes_used == model.bytes_used()
    with pytest.raises(TypeError):
        store.put(b"key", "text")  # type: ignore[arg-type]

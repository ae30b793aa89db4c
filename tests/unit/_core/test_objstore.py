"""The object store, one behaviour a test."""

from __future__ import annotations

import gc
import threading
from array import array
from typing import Any

import pytest

from spear._core.objstore import (
    BYTES_MAX_LIMIT,
    DELETE,
    OBJECT_BYTES_OVERHEAD,
    ObjectStore,
    ObjectView,
    Snapshot,
)
from spear.errors import (
    InvalidArgument,
    ObjectInUse,
    ObjectNotFound,
    SnapshotExpired,
    StoreFull,
    VersionConflict,
)
from tests.fuzz.fuzz_objstore import fuzz

KIB = b"x" * 1024


def sized(objects: int) -> int:
    """The budget that holds so many objects of KIB with keys of one byte."""
    return objects * (1024 + 1 + OBJECT_BYTES_OVERHEAD)


@pytest.fixture
def store() -> ObjectStore:
    return ObjectStore(1 << 20)


class Clock:
    def __init__(self) -> None:
        self.ms = 5_000

    def __call__(self) -> int:
        return self.ms


# Values and views.


@pytest.mark.parametrize("size", [0, 1, 63, 8000, 8192, 65_536, 131_072, 140_000, 1_100_000])
def test_a_value_of_any_size_comes_back_as_it_went_in(size: int) -> None:
    store = ObjectStore(8 << 20)
    value = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    store.put(b"k", value)
    view = store.get(b"k")
    assert bytes(view) == value
    assert len(view) == size


def test_any_contiguous_buffer_is_a_value(store: ObjectStore) -> None:
    for value in (bytearray(b"abc"), memoryview(b"xabcx")[1:4], array("B", b"abc")):
        store.put(b"k", value)
        assert bytes(store.get(b"k")) == b"abc"


def test_a_put_copies(store: ObjectStore) -> None:
    value = bytearray(b"before")
    store.put(b"k", value)
    value[:] = b"after!"
    assert bytes(store.get(b"k")) == b"before"


def test_a_view_is_a_value(store: ObjectStore) -> None:
    store.put(b"k", KIB)
    store.put(b"copy", store.get(b"k"))
    assert bytes(store.get(b"copy")) == KIB


def test_a_view_is_read_only_and_tells_its_key_and_version(store: ObjectStore) -> None:
    version = store.put(b"k", b"value", metadata={"type": "text"})
    view = store.get(b"k")
    assert memoryview(view).readonly
    assert (view.key, view.version, view.metadata) == (b"k", version, {"type": "text"})
    assert "at version" in repr(view)
    with pytest.raises(TypeError, match="read-only"):
        memoryview(view)[0] = 1


def test_a_view_outlives_key_overwrite_delete_eviction_and_store() -> None:
    store = ObjectStore(sized(3))
    store.put(b"k", KIB)
    view = memoryview(store.get(b"k"))
    store.put(b"k", b"new")
    store.delete(b"k")
    for name in (b"a", b"b", b"c"):
        store.put(name, b"y" * 900)
    del store
    gc.collect()
    assert bytes(view) == KIB


def test_a_view_or_snapshot_cannot_be_made_by_hand(store: ObjectStore) -> None:
    for kind in (ObjectView, Snapshot):
        with pytest.raises(TypeError):
            kind()
    half = ObjectView.__new__(ObjectView)
    for use in (len, bytes, memoryview, lambda v: v.version, lambda v: v.metadata):
        with pytest.raises(TypeError):
            use(half)  # type: ignore[operator]
    with pytest.raises(InvalidArgument):
        Snapshot.__new__(Snapshot).list()


def test_get_stat_delete_and_refs_of_nothing_name_the_key(store: ObjectStore) -> None:
    for call in (
        store.get,
        store.stat,
        store.delete,
        store.add_ref,
        store.remove_ref,
        store.pin,
        store.unpin,
    ):
        with pytest.raises(ObjectNotFound, match=r"^there is no object 'nowhere'"):
            call(b"nowhere")


@pytest.mark.parametrize("key", [b"", b"k" * 1025])
def test_a_key_has_1_to_1024_bytes(store: ObjectStore, key: bytes) -> None:
    for call in (store.get, store.stat, store.delete, store.pin):
        with pytest.raises(InvalidArgument, match="1 to 1024"):
            call(key)
    with pytest.raises(InvalidArgument):
        store.put(key, b"")
    with pytest.raises(InvalidArgument):
        store.transact({key: 1}, {})


def test_keys_are_opaque_bytes(store: ObjectStore) -> None:
    keys = [b"\x00", b"\x00\x00", b"\xff\xfe", b"a/b", b"k" * 1024]
    for key in keys:
        store.put(key, key)
    assert [stat.key for stat in store.list()] == sorted(keys)


@pytest.mark.parametrize("value", [None, "text", 5, memoryview(b"abcdef")[::2]])
def test_what_is_no_contiguous_buffer_is_refused(store: ObjectStore, value: Any) -> None:
    with pytest.raises((TypeError, BufferError)):
        store.put(b"k", value)
    assert len(store) == 0


@pytest.mark.parametrize("metadata", [{"a": 1}, {1: "a"}, {"a": b"b"}, {"a": "b" * 65_536}])
def test_metadata_is_str_to_str_and_64_kib(store: ObjectStore, metadata: Any) -> None:
    with pytest.raises(InvalidArgument):
        store.put(b"k", b"v", metadata=metadata)
    assert len(store) == 0


def test_an_overwrite_replaces_metadata(store: ObjectStore) -> None:
    store.put(b"k", b"v", metadata={"a": "b"})
    store.put(b"k", b"v")
    assert store.get(b"k").metadata == {}


# Versions.


def test_versions_are_epoch_and_counter_and_only_grow() -> None:
    store = ObjectStore(1 << 20, epoch=7)
    first = store.put(b"a", b"")
    assert first == (7 << 40) + 1
    versions = [first, store.put(b"b", b""), store.put(b"a", b"")]
    store.delete(b"a")
    versions.append(store.put(b"a", b""))
    assert versions == sorted(set(versions))


def test_a_later_epoch_gives_larger_versions() -> None:
    assert ObjectStore(1 << 20, epoch=2).put(b"k", b"") > ObjectStore(1 << 20).put(b"k", b"")


def test_if_version_writes_only_over_that_version(store: ObjectStore) -> None:
    first = store.put(b"k", b"1", if_version=0)
    second = store.put(b"k", b"2", if_version=first)
    with pytest.raises(VersionConflict) as caught:
        store.put(b"k", b"3", if_version=first)
    assert caught.value.args == (b"k", first, second)
    assert bytes(store.get(b"k")) == b"2"
    assert store.stats().conflicts == 1


def test_if_version_0_asks_that_there_is_none(store: ObjectStore) -> None:
    version = store.put(b"k", b"1")
    with pytest.raises(VersionConflict, match="must not exist"):
        store.put(b"k", b"2", if_version=0)
    with pytest.raises(VersionConflict, match="does not exist"):
        store.put(b"other", b"2", if_version=version)


def test_a_version_from_before_a_delete_never_matches_again(store: ObjectStore) -> None:
    version = store.put(b"k", b"1")
    store.delete(b"k")
    store.put(b"k", b"1")
    with pytest.raises(VersionConflict):
        store.put(b"k", b"2", if_version=version)


def test_a_large_put_that_conflicts_leaves_nothing_behind() -> None:
    store = ObjectStore(1 << 22)
    store.put(b"k", b"1")
    used = store.stats().bytes_used
    with pytest.raises(VersionConflict):
        store.put(b"k", bytes(1 << 20), if_version=0)
    assert store.stats().bytes_used == used


@pytest.mark.parametrize("version", [-1, 2**63, 2**80])
def test_a_version_is_a_u63(store: ObjectStore, version: int) -> None:
    with pytest.raises(InvalidArgument):
        store.put(b"k", b"", if_version=version)


@pytest.mark.parametrize(
    "options",
    [
        {"bytes_max": 0},
        {"bytes_max": -1},
        {"bytes_max": BYTES_MAX_LIMIT + 1},
        {"bytes_max": 9, "epoch": -1},
        {"bytes_max": 9, "epoch": 1 << 23},
    ],
)
def test_a_store_outside_its_limits_is_not_made(options: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument):
        ObjectStore(**options)


# Deleting, references, pins.


def test_a_referenced_or_pinned_object_is_deleted_only_by_force(store: ObjectStore) -> None:
    store.put(b"k", b"v")
    store.add_ref(b"k")
    store.pin(b"k")
    with pytest.raises(ObjectInUse):
        store.delete(b"k")
    store.remove_ref(b"k")
    with pytest.raises(ObjectInUse):
        store.delete(b"k")
    store.delete(b"k", force=True)
    assert len(store) == 0


def test_delete_if_version_deletes_only_that_version(store: ObjectStore) -> None:
    version = store.put(b"k", b"v")
    with pytest.raises(VersionConflict):
        store.delete(b"k", if_version=version + 1)
    store.delete(b"k", if_version=version)
    with pytest.raises(ObjectNotFound):
        store.delete(b"k", if_version=version)


def test_references_are_counted_and_never_below_zero(store: ObjectStore) -> None:
    store.put(b"k", b"v")
    assert store.add_ref(b"k") == 1
    assert store.add_ref(b"k", 4) == 5
    assert store.remove_ref(b"k", 2) == 3
    with pytest.raises(InvalidArgument, match="3 references"):
        store.remove_ref(b"k", 4)
    assert store.stat(b"k").refs == 3


def test_references_have_a_limit(store: ObjectStore) -> None:
    store.put(b"k", b"v")
    assert store.add_ref(b"k", 2**31 - 1) == 2**31 - 1
    with pytest.raises(InvalidArgument, match="limit"):
        store.add_ref(b"k")
    for count in (0, -1, 2**31):
        with pytest.raises(InvalidArgument):
            store.remove_ref(b"k", count)


def test_an_overwrite_keeps_references_and_pin(store: ObjectStore) -> None:
    store.put(b"k", b"1")
    store.add_ref(b"k", 2)
    store.pin(b"k")
    store.put(b"k", b"2")
    stat = store.stat(b"k")
    assert (stat.refs, stat.pinned) == (2, True)


def test_an_object_made_again_has_neither_references_nor_pin(store: ObjectStore) -> None:
    store.put(b"k", b"1")
    store.add_ref(b"k")
    store.pin(b"k")
    store.delete(b"k", force=True)
    store.put(b"k", b"2")
    stat = store.stat(b"k")
    assert (stat.refs, stat.pinned) == (0, False)


def test_stat_tells_size_version_times_and_metadata() -> None:
    clock = Clock()
    store = ObjectStore(1 << 20, clock_ms=clock)
    store.put(b"k", b"1")
    clock.ms += 10
    version = store.put(b"k", b"22", metadata={"a": "b"})
    assert store.stat(b"k") == (b"k", 2, version, 0, False, 5_000, 5_010, {"a": "b"})


def test_the_default_clock_tells_wall_time(store: ObjectStore) -> None:
    store.put(b"k", b"")
    assert store.stat(b"k").created_ms > 1_600_000_000_000


# The budget.


def test_the_least_recently_used_goes_first() -> None:
    store = ObjectStore(sized(3))
    for key in (b"a", b"b", b"c"):
        store.put(key, KIB)
    store.get(b"a")
    store.put(b"d", KIB)
    assert [stat.key for stat in store.list()] == [b"a", b"c", b"d"]
    assert store.stats().evictions == 1


def test_referenced_and_pinned_objects_stay_and_a_full_store_loses_nothing() -> None:
    store = ObjectStore(sized(3))
    for key in (b"a", b"b", b"c"):
        store.put(key, KIB)
    store.add_ref(b"a")
    store.pin(b"b")
    store.put(b"d", KIB)
    store.pin(b"d")
    with pytest.raises(StoreFull):
        store.put(b"e", KIB)
    assert [stat.key for stat in store.list()] == [b"a", b"b", b"d"]
    store.remove_ref(b"a")
    store.put(b"e", KIB)
    assert [stat.key for stat in store.list()] == [b"b", b"d", b"e"]


def test_nothing_is_evicted_for_a_value_that_will_not_fit() -> None:
    store = ObjectStore(sized(4))
    for key in (b"a", b"b", b"c", b"d"):
        store.put(key, KIB)
    store.pin(b"a")
    with pytest.raises(StoreFull):
        store.put(b"e", bytes(sized(4) - OBJECT_BYTES_OVERHEAD - 1))
    with pytest.raises(StoreFull):
        store.put(b"e", bytes(sized(5)))
    assert len(store) == 4


def test_an_overwrite_at_the_limit_needs_no_room() -> None:
    store = ObjectStore(sized(2))
    store.put(b"a", KIB)
    store.put(b"b", KIB)
    store.pin(b"b")
    for _ in range(3):
        store.put(b"b", KIB)
    assert len(store) == 2


def test_bytes_that_only_views_show_count_until_they_are_let_go() -> None:
    store = ObjectStore(sized(2))
    store.put(b"a", KIB)
    store.put(b"b", KIB)
    views = [store.get(b"a"), store.get(b"b")]
    for key in (b"a", b"b"):
        store.delete(key)
    assert store.stats().bytes_held == store.stats().bytes_used > 2048
    with pytest.raises(StoreFull):
        store.put(b"c", KIB)
    views.clear()
    store.put(b"c", KIB)
    assert store.stats().bytes_held == 0


def test_metadata_and_keys_count_in_the_budget(store: ObjectStore) -> None:
    store.put(b"k" * 100, b"v" * 10, metadata={"ab": "cd"})
    assert store.stats().bytes_used == OBJECT_BYTES_OVERHEAD + 100 + 10 + (4 + 2 + 4 + 2)


def test_recycled_blocks_stay_within_what_the_budget_leaves() -> None:
    store = ObjectStore(6 << 20)
    for at in range(20):
        store.put(b"%d" % (at % (2 if at < 10 else 5)), bytes(1 << 20))
        stats = store.stats()
        assert stats.bytes_used + stats.bytes_recycled <= 6 << 20
    assert store.stats().recycles > 4
    for stat in store.list():
        store.delete(stat.key)
    assert 1 << 20 < store.stats().bytes_recycled <= 3 << 20


def test_small_objects_give_their_pages_back() -> None:
    store = ObjectStore(64 << 20)
    for at in range(20_000):
        store.put(b"%d" % at, KIB)
    grown = store.stats().bytes_mapped
    for at in range(20_000):
        store.delete(b"%d" % at)
    assert store.stats().bytes_mapped < grown / 3
    assert store.stats().bytes_used == 0


# Lists.


def test_a_list_is_in_key_order_by_prefix_limit_and_start(store: ObjectStore) -> None:
    for key in (b"b", b"a/2", b"a", b"a/1", b"a/3", b"a\xff"):
        store.put(key, b"")
    keys = lambda *args: [stat.key for stat in store.list(*args)]  # noqa: E731
    assert keys() == [b"a", b"a/1", b"a/2", b"a/3", b"a\xff", b"b"]
    assert keys(b"a/") == [b"a/1", b"a/2", b"a/3"]
    assert keys(b"a/", 2) == [b"a/1", b"a/2"]
    assert keys(b"a/", 2, b"a/2") == [b"a/3"]
    assert keys(b"a/", 9, b"a") == [b"a/1", b"a/2", b"a/3"]
    assert keys(b"a/", 9, b"b") == []
    assert keys(b"c") == []
    assert keys(b"a" * 3000) == []


def test_a_long_list_comes_whole_and_in_pages() -> None:
    store = ObjectStore(8 << 20)
    wanted = [b"k%05d" % at for at in range(2500)]
    for key in reversed(wanted):
        store.put(key, b"")
    assert [stat.key for stat in store.list(limit=5000)] == wanted
    pages, after = [], None
    while page := store.list(b"k", 300, after):
        pages += page
        after = page[-1].key
    assert [stat.key for stat in pages] == wanted
    assert store.stats().snapshots == 0


@pytest.mark.parametrize("limit", [0, -1, 10**7])
def test_a_limit_has_limits(store: ObjectStore, limit: int) -> None:
    with pytest.raises(InvalidArgument):
        store.list(limit=limit)


# Transactions.


def test_a_transaction_writes_all(store: ObjectStore) -> None:
    a, b = store.put(b"a", b"1"), store.put(b"b", b"1")
    writes = {b"a": b"2", b"b": DELETE, b"new": bytearray(b"3")}
    given = store.transact({b"a": a, b"new": 0}, writes)
    assert given[b"b"] == 0
    assert given[b"a"] > b
    assert given[b"new"] > given[b"a"]
    assert [(s.key, s.version) for s in store.list()] == [
        (b"a", given[b"a"]),
        (b"new", given[b"new"]),
    ]


def test_a_transaction_that_conflicts_writes_nothing(store: ObjectStore) -> None:
    a, b = store.put(b"a", b"1"), store.put(b"b", b"1")
    with pytest.raises(VersionConflict) as caught:
        store.transact({b"a": a, b"b": a}, {b"a": b"2", b"c": b"2"})
    assert caught.value.args == (b"b", a, b)
    assert [bytes(store.get(stat.key)) for stat in store.list()] == [b"1", b"1"]


def test_a_transaction_deletes_nothing_that_is_in_use_or_absent(store: ObjectStore) -> None:
    store.put(b"a", b"1")
    store.pin(b"a")
    with pytest.raises(ObjectInUse, match="'a'"):
        store.transact({}, {b"b": b"2", b"a": DELETE})
    with pytest.raises(ObjectNotFound, match="'c'"):
        store.transact({}, {b"b": b"2", b"c": DELETE})
    assert len(store) == 1


def test_a_transaction_that_does_not_fit_writes_nothing() -> None:
    store = ObjectStore(sized(3))
    store.put(b"a", KIB)
    store.pin(b"a")
    with pytest.raises(StoreFull):
        store.transact({}, {b"b": KIB, b"c": KIB, b"d": KIB})
    store.transact({}, {b"b": KIB, b"c": KIB})
    assert len(store) == 3


def test_a_large_transaction_does_not_evict_what_it_reads() -> None:
    store = ObjectStore(200_000)
    version = store.put(b"read", bytes(140_000))
    with pytest.raises(StoreFull):
        store.transact({b"read": version}, {b"k": bytes(70_000)})
    assert store.stat(b"read").version == version


def test_an_empty_transaction_is_one(store: ObjectStore) -> None:
    assert store.transact() == {}
    assert store.transact({b"none": 0}) == {}


def test_a_transaction_names_65536_keys_at_most(store: ObjectStore) -> None:
    with pytest.raises(InvalidArgument, match="65536"):
        store.transact({b"%d" % at: 0 for at in range(65_537)})


# Snapshots.


def test_a_snapshot_shows_the_store_as_it_was(store: ObjectStore) -> None:
    first = store.put(b"a", b"1", metadata={"m": "1"})
    store.put(b"b", b"1")
    with store.snapshot() as snapshot:
        store.put(b"a", b"2")
        store.delete(b"b")
        store.put(b"c", b"2")
        assert [(s.key, s.size) for s in snapshot.list()] == [(b"a", 1), (b"b", 1)]
        view = snapshot.get(b"a")
        assert (bytes(view), view.version, view.metadata) == (b"1", first, {"m": "1"})
        with pytest.raises(ObjectNotFound):
            snapshot.get(b"c")
    assert bytes(view) == b"1"
    assert [s.key for s in store.list()] == [b"a", b"c"]


def test_snapshots_of_different_moments_close_in_any_order(store: ObjectStore) -> None:
    snapshots = []
    for at in range(6):
        store.put(b"k", b"%d" % at)
        snapshots.append((at, store.snapshot()))
    store.delete(b"k")
    for closing in (2, 0, 5, 1, 4, 3):
        dict(snapshots)[closing].close()
        snapshots = [pair for pair in snapshots if pair[0] != closing]
        for at, snapshot in snapshots:
            assert bytes(snapshot.get(b"k")) == b"%d" % at
    assert store.stats().bytes_used == 0


def test_a_deleted_object_stays_deleted_for_a_snapshot_taken_later(store: ObjectStore) -> None:
    store.put(b"k", b"1")
    before = store.snapshot()
    store.delete(b"k")
    after = store.snapshot()
    store.put(b"k", b"2")
    assert bytes(before.get(b"k")) == b"1"
    assert after.list() == []


def test_what_only_a_snapshot_shows_counts_in_the_budget() -> None:
    store = ObjectStore(sized(2))
    store.put(b"a", KIB)
    store.pin(b"a")
    with store.snapshot():
        store.put(b"a", KIB)
        assert store.stats().bytes_held > 1024
        with pytest.raises(StoreFull):
            store.put(b"b", KIB)
    store.put(b"b", KIB)
    assert store.stats().bytes_held == 0


def test_a_snapshot_past_its_age_is_released_and_says_so() -> None:
    clock = Clock()
    store = ObjectStore(1 << 20, clock_ms=clock)
    store.put(b"a", KIB)
    snapshot = store.snapshot(age_ms_max=100)
    store.delete(b"a")
    clock.ms += 99
    view = snapshot.get(b"a")
    clock.ms += 1
    for call in (snapshot.list, lambda: snapshot.get(b"a")):
        with pytest.raises(SnapshotExpired):
            call()
    assert bytes(view) == KIB
    del view
    assert store.stats().bytes_used == 0
    snapshot.close()


def test_an_expired_snapshot_makes_room() -> None:
    clock = Clock()
    store = ObjectStore(sized(2), clock_ms=clock)
    store.put(b"a", KIB)
    store.put(b"b", KIB)
    snapshot = store.snapshot()
    clock.ms += 60_000
    store.put(b"c", KIB)
    with pytest.raises(SnapshotExpired):
        snapshot.get(b"a")


def test_a_snapshot_that_yields_ends_where_a_put_needs_its_room() -> None:
    store = ObjectStore(sized(2))
    store.put(b"a", KIB)
    store.put(b"b", KIB)
    yielding, staying = store.snapshot(yields=True), store.snapshot()
    with pytest.raises(StoreFull):
        store.put(b"c", KIB)  # the other one sees the same, so nothing is ended for it
    assert bytes(yielding.get(b"a")) == KIB
    staying.close()
    store.delete(b"a")
    assert bytes(yielding.get(b"a")) == KIB
    store.put(b"c", KIB)
    with pytest.raises(SnapshotExpired, match="gave way"):
        yielding.list()
    assert (store.stats().snapshots, store.stats().refusals) == (0, 1)
    assert [stat.key for stat in store.list()] == [b"b", b"c"]


def test_a_snapshot_that_yields_stays_while_there_is_room_elsewhere() -> None:
    store = ObjectStore(sized(3))
    for key in (b"a", b"b"):
        store.put(key, KIB)
    yielding = store.snapshot(yields=True)
    for key in (b"c", b"d", b"e"):  # each makes room for the next
        store.put(key, KIB)
    assert [bytes(yielding.get(key)) for key in (b"a", b"b")] == [KIB, KIB]
    yielding.close()


def test_a_put_that_is_refused_anyhow_ends_no_snapshot_that_yields() -> None:
    """What its end would free is counted before: retired values, keys, what may be evicted."""
    store = ObjectStore(sized(4))
    for key in (b"a", b"b", b"c", b"d"):
        store.put(key, KIB)
    store.pin(b"d")
    with store.snapshot(yields=True) as old, store.snapshot(yields=True) as young:
        store.delete(b"a")
        view = old.get(b"b")
        for refused in (KIB * 4, KIB * 3):  # beside what is pinned; and what is being read
            with pytest.raises(StoreFull):
                store.put(b"e", refused)
            with pytest.raises(StoreFull):
                store.transact({}, {b"a": refused})
            assert [stat.key for stat in young.list()] == [b"a", b"b", b"c", b"d"]
            assert bytes(old.get(b"a")) == KIB
        del view
        assert store.stats().evictions == 0
        store.put(b"a", KIB * 2)
        for snapshot in (old, young):
            with pytest.raises(SnapshotExpired, match="gave way"):
                snapshot.list()


def test_a_put_that_ends_a_snapshot_may_revive_the_key_it_showed() -> None:
    clock = Clock()
    store = ObjectStore(sized(1), clock_ms=clock)
    store.put(b"a", KIB)
    snapshot = store.snapshot(age_ms_max=10)
    store.delete(b"a")
    clock.ms += 10
    store.put(b"a", KIB)
    assert [stat.key for stat in store.list()] == [b"a"]
    snapshot.close()


def test_a_closed_snapshot_is_closed(store: ObjectStore) -> None:
    snapshot = store.snapshot()
    snapshot.close()
    snapshot.close()
    for call in (snapshot.list, snapshot.__enter__, lambda: snapshot.get(b"a")):
        with pytest.raises(InvalidArgument, match="closed"):
            call()


def test_a_dropped_snapshot_is_closed(store: ObjectStore) -> None:
    snapshot = store.snapshot()
    assert store.stats().snapshots == 1
    del snapshot
    assert store.stats().snapshots == 0


def test_a_snapshot_keeps_its_store() -> None:
    store = ObjectStore(1 << 20)
    store.put(b"k", KIB)
    snapshot = store.snapshot()
    del store
    gc.collect()
    assert bytes(snapshot.get(b"k")) == KIB


def test_1024_snapshots_are_enough(store: ObjectStore) -> None:
    held = [store.snapshot() for _ in range(1024)]
    with pytest.raises(StoreFull):
        store.snapshot()
    for age_ms in (0, -1, 2**41):
        with pytest.raises(InvalidArgument):
            store.snapshot(age_ms_max=age_ms)
    held.clear()
    store.snapshot().close()


# Threads.


def test_increments_from_many_threads_are_all_there() -> None:
    store = ObjectStore(1 << 24)
    store.put(b"n", b"0")

    def increment(times: int) -> None:
        while times:
            view = store.get(b"n")
            try:
                store.put(b"n", b"%d" % (int(bytes(view)) + 1), if_version=view.version)
                times -= 1
            except VersionConflict:
                pass

    _in_threads(4, lambda _: increment(500))
    assert bytes(store.get(b"n")) == b"2000"


def test_large_values_written_without_the_gil_are_never_torn() -> None:
    store = ObjectStore(64 << 20)
    store.put(b"k", bytes(1 << 20))
    seen: list[int] = []

    def work(at: int) -> None:
        for turn in range(20):
            store.put(b"k", bytes([at * 20 + turn]) * (1 << 20))
            seen.append(len(set(bytes(store.get(b"k")))))

    _in_threads(4, work)
    assert set(seen) == {1}
    assert store.stats().bytes_writing == 0


def test_a_store_under_pressure_from_many_threads_keeps_its_budget() -> None:
    store = ObjectStore(8 << 20)

    def work(at: int) -> None:
        for turn in range(150):
            key = b"%d" % (turn * 7 % 23)
            size = (100, 5000, 90_000, 1_200_000)[(at + turn) % 4]
            try:
                store.put(key, bytes([at]) * size)
                with store.snapshot() as snapshot:
                    snapshot.list()
                    view = store.get(key)
                    assert len(set(bytes(view))) == 1
            except (StoreFull, ObjectNotFound):
                pass

    _in_threads(4, work)
    stats = store.stats()
    assert stats.bytes_used <= stats.bytes_max
    assert stats.bytes_held == stats.bytes_writing == 0


def _in_threads(count: int, work: Any) -> None:
    errors: list[BaseException] = []

    def guarded(at: int) -> None:
        try:
            work(at)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(at,)) for at in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors


# Everything.


def test_the_fuzzer_finds_nothing_in_its_short_form() -> None:
    assert fuzz(runs=300, seed=1) == 300

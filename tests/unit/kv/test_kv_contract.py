"""What every metadata store does, whichever it is; one suite over all implementations."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spear.errors import AlreadyExists, Conflict, InvalidArgument, KvError, KvLagged, NotFound
from spear.kv.archive import verify
from spear.kv.batch import BATCH_KEYS_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX, Batch
from spear.kv.interface import LocalKv
from spear.kv.memory import open_memory
from spear.kv.rocks import open_rocks


@pytest.fixture(params=["memory", "rocks"])
async def kv(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LocalKv]:
    opened: LocalKv = (
        open_memory() if request.param == "memory" else open_rocks(str(tmp_path / "kv"))
    )
    yield opened
    await opened.close()


def batch_of(*pairs: tuple[bytes, bytes | None]) -> Batch:
    batch = Batch()
    for key, value in pairs:
        if value is None:
            batch.delete(key)
        else:
            batch.put(key, value)
    return batch


def fill(kv: LocalKv, *keys: bytes) -> None:
    kv.write(batch_of(*((key, b"of " + key) for key in keys)))


def keys(rows: list[tuple[bytes, bytes]]) -> list[bytes]:
    return [key for key, _ in rows]


async def test_a_write_is_visible_at_once_and_a_missing_key_is_none(kv: LocalKv) -> None:
    assert kv.get(b"a") is None
    kv.write(batch_of((b"a", b"1"), (b"b", b"")))
    assert (kv.get(b"a"), kv.get(b"b")) == (b"1", b"")
    kv.write(batch_of((b"a", None), (b"missing", None)))
    assert (kv.get(b"a"), kv.get(b"b")) == (None, b"")


async def test_of_several_changes_of_a_key_the_last_counts(kv: LocalKv) -> None:
    kv.write(batch_of((b"a", b"1"), (b"a", None), (b"b", None), (b"b", b"2"), (b"c", b"3")))
    assert kv.scan(b"") == [(b"b", b"2"), (b"c", b"3")]


async def test_sequence_numbers_grow_with_every_write(kv: LocalKv) -> None:
    numbers = [kv.write(batch_of((b"a", b"%d" % at), (b"b", b""))) for at in range(5)]
    assert numbers == sorted(set(numbers))
    assert kv.write(Batch()) == numbers[-1]
    assert kv.write(batch_of((b"a", None))) > numbers[-1]
    assert await kv.commit(batch_of((b"a", None))) > numbers[-1] + 1


@pytest.mark.parametrize("value", [b"", b"\0", b"x" * 70_000])
async def test_keys_and_values_are_any_bytes(kv: LocalKv, value: bytes) -> None:
    for key in (b"\1", b"\xff\xff", b"k" * KEY_BYTES_MAX, b"a\0b"):
        await kv.commit(batch_of((key, value)))
        assert kv.get(key) == value
        assert kv.scan(key) == [(key, value)]


async def test_a_scan_gives_the_rows_of_its_prefix_in_order(kv: LocalKv) -> None:
    fill(kv, b"b/2", b"a", b"b", b"b/1", b"b/10", b"b0", b"c")
    assert kv.scan(b"b/") == [(key, b"of " + key) for key in (b"b/1", b"b/10", b"b/2")]
    assert keys(kv.scan(b"")) == [b"a", b"b", b"b/1", b"b/10", b"b/2", b"b0", b"c"]
    assert kv.scan(b"nothing/") == []
    assert keys(kv.scan(b"b/", reverse=True)) == [b"b/2", b"b/10", b"b/1"]


@pytest.mark.parametrize("reverse", [False, True])
async def test_pages_of_a_scan_make_the_whole(kv: LocalKv, reverse: bool) -> None:
    fill(kv, *(b"p/%03d" % at for at in range(50)), b"o", b"q")
    whole = kv.scan(b"p/", reverse=reverse)
    assert len(whole) == 50
    for limit in (1, 7, 50, 51):
        found: list[tuple[bytes, bytes]] = []
        after = b""
        while page := kv.scan(b"p/", after=after, limit=limit, reverse=reverse):
            assert len(page) <= limit
            found += page
            after = page[-1][0]
        assert found == whole


async def test_after_is_left_out_and_may_lie_outside_of_the_prefix(kv: LocalKv) -> None:
    fill(kv, b"a", b"p/1", b"p/2", b"z")
    assert keys(kv.scan(b"p/", after=b"p/1")) == [b"p/2"]
    assert keys(kv.scan(b"p/", after=b"p/15")) == [b"p/2"]
    assert keys(kv.scan(b"p/", after=b"a")) == [b"p/1", b"p/2"]
    assert keys(kv.scan(b"p/", after=b"q")) == []
    assert keys(kv.scan(b"p/", after=b"p/2", reverse=True)) == [b"p/1"]
    assert keys(kv.scan(b"p/", after=b"a", reverse=True)) == []
    assert keys(kv.scan(b"p/", after=b"z", reverse=True)) == [b"p/2", b"p/1"]
    assert kv.scan(b"p/", limit=0) == []
    with pytest.raises(InvalidArgument, match="-1"):
        kv.scan(b"p/", limit=-1)


async def test_prefixes_of_the_greatest_bytes_end_where_they_should(kv: LocalKv) -> None:
    fill(kv, b"a\xfe", b"a\xff", b"a\xff\xff", b"b", b"\xff", b"\xff\xff")
    assert keys(kv.scan(b"a\xff")) == [b"a\xff", b"a\xff\xff"]
    assert keys(kv.scan(b"a\xff", reverse=True)) == [b"a\xff\xff", b"a\xff"]
    assert keys(kv.scan(b"\xff")) == [b"\xff", b"\xff\xff"]
    assert keys(kv.scan(b"\xff", reverse=True)) == [b"\xff\xff", b"\xff"]


async def test_a_failed_precondition_leaves_everything_as_it_was(kv: LocalKv) -> None:
    kv.write(batch_of((b"a", b"1")))
    for expected in ({b"a": b"2"}, {b"a": None}, {b"b": b"1"}, {b"a": b"1", b"b": b""}):
        batch = batch_of((b"a", b"9"), (b"c", b"9"))
        for key, value in expected.items():
            batch.expect(key, value)
        with pytest.raises(Conflict, match="expected"):
            kv.write(batch)
        assert kv.scan(b"") == [(b"a", b"1")]
    batch = batch_of((b"a", b"2"), (b"b", b"3"))
    batch.expect(b"a", b"1")
    batch.expect(b"b", None)
    kv.write(batch)
    assert kv.scan(b"") == [(b"a", b"2"), (b"b", b"3")]


async def test_a_conflict_shows_the_key_and_no_value(kv: LocalKv) -> None:
    kv.write(batch_of((b"token/1", b"secret")))
    batch = Batch()
    batch.expect(b"token/1", b"other")
    with pytest.raises(Conflict, match="token/1") as raised:
        kv.write(batch)
    assert "secret" not in str(raised.value)
    assert "other'" not in str(raised.value)


async def test_a_batch_of_preconditions_alone_writes_nothing(kv: LocalKv) -> None:
    sequence = kv.write(batch_of((b"a", b"1")))
    batch = Batch()
    batch.expect(b"a", b"1")
    assert kv.write(batch) == sequence
    assert await kv.commit(batch) == sequence


async def test_many_who_commit_at_once_all_get_through(kv: LocalKv) -> None:
    numbers = await asyncio.gather(
        *(kv.commit(batch_of((b"n/%03d" % at, b"x"))) for at in range(200))
    )
    assert len(set(numbers)) == 200
    assert len(kv.scan(b"n/")) == 200
    await kv.synced(max(numbers))


async def test_a_cancelled_waiter_harms_nobody_else(kv: LocalKv) -> None:
    waiters = [asyncio.create_task(kv.commit(batch_of((b"%d" % at, b"")))) for at in range(10)]
    await asyncio.sleep(0)
    for waiter in waiters[::2]:
        waiter.cancel()
    ends = await asyncio.gather(*waiters, return_exceptions=True)
    assert all(isinstance(end, int) for end in ends[1::2])
    assert len(kv.scan(b"")) == 10


async def test_a_watch_hears_every_change_under_its_prefix_in_order(kv: LocalKv) -> None:
    async with kv.watch(b"w/") as watch, kv.watch(b"") as everything:
        first = kv.write(batch_of((b"w/1", b"a"), (b"v", b"")))
        second = kv.write(batch_of((b"w/1", None), (b"w/2", b"b")))
        heard = [await anext(watch) for _ in range(3)]
        assert heard == [(first, b"w/1", b"a"), (second, b"w/1", None), (second, b"w/2", b"b")]
        assert [(await anext(everything))[1] for _ in range(4)] == [b"w/1", b"v", b"w/1", b"w/2"]
        assert kv.stats()["watches"] == 2
    assert kv.stats()["watches"] == 0


async def test_a_watch_waits_and_ends_when_it_is_closed(kv: LocalKv) -> None:
    watch = kv.watch(b"w/")
    heard: list[bytes] = []

    async def listen() -> None:
        async for _, key, _ in watch:
            heard.append(key)

    task = asyncio.create_task(listen())
    await asyncio.sleep(0)
    kv.write(batch_of((b"w/1", b"")))
    while not heard:
        await asyncio.sleep(0)
    watch.close()
    await task
    assert heard == [b"w/1"]


async def test_a_watch_is_for_one_reader(kv: LocalKv) -> None:
    watch = kv.watch(b"")
    first = asyncio.create_task(anext(watch))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="one reader"):
        await anext(watch)
    kv.write(batch_of((b"a", b"1")))
    assert (await first)[1:] == (b"a", b"1")


async def test_closing_the_store_ends_its_watches(kv: LocalKv) -> None:
    watch = kv.watch(b"")
    waiting = asyncio.create_task(anext(watch, None))
    await asyncio.sleep(0)
    await kv.close()
    assert await waiting is None


async def test_a_slow_watcher_is_told_to_read_again_and_writers_do_not_wait(kv: LocalKv) -> None:
    slow = kv.watch(b"")
    for at in range(10_001):
        kv.write(batch_of((b"k", b"%d" % at)))
    with pytest.raises(KvLagged, match="read again"):
        await anext(slow)
    assert kv.stats()["watches"] == 0
    big = kv.watch(b"")
    for _ in range(17):
        kv.write(batch_of((b"k", bytes(1 << 20))))
    with pytest.raises(KvLagged, match="read again"):
        await anext(big)


async def test_a_refused_batch_is_not_heard(kv: LocalKv) -> None:
    watch = kv.watch(b"")
    batch = batch_of((b"a", b"1"))
    batch.expect(b"a", b"0")
    with pytest.raises(Conflict):
        kv.write(batch)
    kv.write(batch_of((b"b", b"2")))
    assert (await anext(watch))[1:] == (b"b", b"2")


async def test_a_closed_store_says_so(kv: LocalKv) -> None:
    kv.write(batch_of((b"a", b"1")))
    await kv.close()
    await kv.close()
    for use in (
        lambda: kv.get(b"a"),
        lambda: kv.scan(b""),
        lambda: kv.write(batch_of((b"a", b"2"))),
        lambda: kv.watch(b""),
    ):
        with pytest.raises(KvError, match="closed"):
            use()
    with pytest.raises(KvError, match="closed"):
        await kv.commit(batch_of((b"a", b"2")))
    with pytest.raises(KvError, match="closed"):
        await kv.backup("nowhere")


async def test_writing_from_another_thread_is_a_broken_invariant(kv: LocalKv) -> None:
    raised: list[BaseException] = []

    def write() -> None:
        try:
            kv.write(batch_of((b"a", b"1")))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    assert [type(error) for error in raised] == [RuntimeError]
    assert kv.get(b"a") is None


async def test_a_backup_is_consistent_while_others_write(kv: LocalKv, tmp_path: Path) -> None:
    fill(kv, *(b"r/%05d" % at for at in range(3000)))
    path = str(tmp_path / "backup")
    task = asyncio.create_task(kv.backup(path))
    at = 0
    while not task.done():
        kv.write(batch_of((b"r/%05d" % (at % 3000), None), (b"s/%d" % at, b"later")))
        at += 1
        await asyncio.sleep(0)
    await task
    assert at > 1
    info = verify(path)
    assert info.rows == 3000  # each write takes one row away and makes one
    with pytest.raises(AlreadyExists, match="backup"):
        await kv.backup(path)
    with pytest.raises(NotFound, match="no such"):
        await kv.backup(str(tmp_path / "missing" / "backup"))
    assert sorted(path.name for path in tmp_path.iterdir()) in (["backup"], ["backup", "kv"])


def test_a_batch_says_its_limits() -> None:
    batch = Batch()
    for key in (b"", b"\0x", b"k" * (KEY_BYTES_MAX + 1)):
        for act in (
            batch.delete,
            lambda key: batch.put(key, b""),
            lambda key: batch.expect(key, b""),
        ):
            with pytest.raises(InvalidArgument, match="no key"):
                act(key)
    with pytest.raises(InvalidArgument, match="limit"):
        batch.put(b"k", bytes(VALUE_BYTES_MAX + 1))
    for _ in range(3):
        batch.put(b"k", bytes(VALUE_BYTES_MAX))
    with pytest.raises(InvalidArgument, match="at most"):
        batch.put(b"k", bytes(VALUE_BYTES_MAX))
    many = Batch()
    for at in range(BATCH_KEYS_MAX):
        many.delete(b"%d" % at)
    with pytest.raises(InvalidArgument, match="at most"):
        many.delete(b"one more")


def test_a_batch_takes_bytes_only_and_one_expectation_a_key() -> None:
    batch = Batch()
    for key, value in (("k", b""), (b"k", bytearray()), (b"k", None)):
        with pytest.raises(TypeError, match="bytes"):
            batch.put(key, value)  # type: ignore[arg-type]
    batch.expect(b"k", b"1")
    batch.expect(b"k", b"1")
    with pytest.raises(InvalidArgument, match="two different"):
        batch.expect(b"k", None)
    assert not batch.changes

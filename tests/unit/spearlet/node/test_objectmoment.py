"""A snapshot is of one moment, also of what is not in memory, and holds little while it is read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from doors import TOKEN, config_of, frame_door, grpc_door
from node_runs import Bench, bench, until

from spear._core.objstore import ObjectStore
from spear.client.client import Client
from spear.errors import QueueFull, SnapshotExpired
from spear.records.node import Node
from spear.spearlet.node import objectmoment
from spear.spearlet.node.services import NodeServices

LARGE = 100_000  # bytes: of a value that is kept in a file


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path) as made:
        await made.start()
        yield made


def table_of(node: Bench) -> ObjectStore:
    return node.services._objects.table


def open_in(node: Bench) -> int:
    return table_of(node).stats().snapshots


async def read(node: Node, prefix: str = "shared/") -> dict[str, bytes]:
    return {info.key: value async for info, value in node.snapshot_objects(prefix)}


class Movers:
    """Threads that move amounts between keys, as guests do, until the block is left."""

    def __init__(self, table: ObjectStore, keys: list[bytes]) -> None:
        self._table, self._keys, self._over = table, keys, threading.Event()
        self.moves = 0
        self._threads = [threading.Thread(target=self._move, args=(n,)) for n in range(2)]

    def _move(self, at: int) -> None:
        keys, table = self._keys, self._table
        while not self._over.is_set():
            at = (at * 48271 + 11) % 2147483647
            one, other = keys[at % len(keys)], keys[-1 - at % (len(keys) - 1)]
            if one == other:
                continue
            first, second = table.get(one), table.get(other)
            writes = {
                one: str(int(bytes(first)) - 1).encode(),
                other: str(int(bytes(second)) + 1).encode(),
            }
            try:
                table.transact({one: first.version, other: second.version}, writes)
            except Exception:  # somebody else came between
                continue
            self.moves += 1

    def __enter__(self) -> Movers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


async def test_ten_thousand_objects_are_of_one_moment_while_guests_write(node: Bench):
    table = table_of(node)
    keys = [f"shared/{number:05}".encode() for number in range(10_000)]
    for key in keys:
        table.put(key, b"100")
    with Movers(table, keys) as movers:
        await until(lambda: movers.moves > 10)
        for _ in range(3):
            before = movers.moves
            found = await read(node.services)
            assert [key.encode() for key in found] == keys
            assert sum(map(int, found.values())) == 100 * len(keys)
            assert movers.moves > before  # or nothing was shown
    assert open_in(node) == 0


async def test_a_snapshot_lets_others_have_their_turn(node: Bench):
    for number in range(objectmoment._PAGE * 2):
        table_of(node).put(f"shared/{number}".encode(), b"")
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(others())
    await read(node.services)
    task.cancel()
    assert turns >= 2


# ---- those that had to make room


@asynccontextmanager
async def narrow(folder: Path, size: int) -> AsyncIterator[Bench]:
    """A node with five durable objects of this size, and room for three."""
    async with bench(folder, **{"objects.size": str(size * 3 + 5536)}) as made:
        services = await made.start()
        for name in "abcde":
            await services.put_object(f"shared/{name}", name.encode() * size, durable=True)
        assert away_in(made) == ["a", "b"]
        yield made


def away_in(node: Bench) -> list[str]:
    there = {stat.key for stat in table_of(node).list()}
    return [name for name in "abcde" if f"shared/{name}".encode() not in there]


@pytest.fixture(params=[20_000, LARGE], ids=["in rows", "in files"])
async def tight(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with narrow(tmp_path, request.param) as made:
        yield made


@pytest.mark.parametrize("crashed", [False, True])
async def test_what_had_to_make_room_is_in_it_and_stays_where_it_is(tight: Bench, crashed: bool):
    size = (await tight.services.stat_object("shared/e")).size
    if crashed:
        await tight.crash(power=True)
    away = away_in(tight)
    assert len(away) == 2
    listed = (await tight.services.list_objects("shared/")).objects
    found = [pair async for pair in tight.services.snapshot_objects("shared/")]
    assert [info for info, _ in found] == list(listed)
    assert [value for _, value in found] == [name.encode() * size for name in "abcde"]
    assert away_in(tight) == away


Change = Callable[[NodeServices], Any]


async def delete(services: NodeServices) -> None:
    await services.delete_object("shared/b")


async def put(services: NodeServices) -> None:
    await services.put_object("shared/b", b"other", durable=True)


async def write(services: NodeServices) -> None:
    await services.transact({}, {"shared/b": b"other"})


async def bring_back(services: NodeServices) -> None:
    await services.add_object_ref("shared/b")


@pytest.mark.parametrize("change", [delete, put, write, bring_back])
async def test_it_is_never_torn_by_changes_of_what_had_to_make_room(tight: Bench, change: Change):
    """What it had then is read, or the reader is told to begin anew."""
    size = (await tight.services.stat_object("shared/e")).size
    reading = tight.services.snapshot_objects("shared/")
    async with aclosing(reading) as found:  # type: ignore[type-var]
        assert (await anext(found))[0].key == "shared/a"
        await change(tight.services)
        if change is bring_back:
            assert (await anext(found))[1] == b"b" * size
        else:
            with pytest.raises(SnapshotExpired, match="'shared/b' was not in memory"):
                await anext(found)
    assert open_in(tight) == 0


async def test_a_write_into_a_full_store_ends_it_and_is_not_refused(tight: Bench):
    size = (await tight.services.stat_object("shared/e")).size
    reading = tight.services.snapshot_objects("shared/")
    async with aclosing(reading) as found:  # type: ignore[type-var]
        await anext(found)
        assert open_in(tight) == 1
        table_of(tight).put(b"shared/new", b"n" * size)
        assert open_in(tight) == 0
        await anext(found)  # b, which lies elsewhere
        with pytest.raises(SnapshotExpired, match="gave way to a write"):
            await anext(found)


async def test_one_whose_row_was_not_yet_written_is_read_as_it_was_put(tmp_path: Path):
    async with narrow(tmp_path, 20_000) as node:
        services = node.services
        putting = asyncio.ensure_future(
            services.put_object("shared/a", b"A" * 20_000, durable=True)
        )
        await asyncio.sleep(0)
        for name in "xyz":  # as guests do
            table_of(node).put(f"shared/{name}".encode(), b"x" * 20_000)
        assert "a" in away_in(node)
        found = await read(services)
        assert found["shared/a"] == b"A" * 20_000
        await putting


# ---- readers who are slow, many, or gone


@asynccontextmanager
async def by_frames(node: Node, folder: Path) -> AsyncIterator[Client]:
    async with frame_door(node, folder), Client(config=config_of(folder)) as client:
        yield client


@asynccontextmanager
async def by_grpc(node: Node, folder: Path) -> AsyncIterator[Client]:
    async with grpc_door(node) as port:
        address = f"127.0.0.1:{port}"
        async with Client(address, token=TOKEN, config=config_of(folder)) as client:
            yield client


WAYS = [by_frames, by_grpc]


class Counted:
    """The node, with a count of what was read of its snapshots."""

    def __init__(self, services: NodeServices) -> None:
        self._services, self.count = services, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._services, name)

    async def snapshot_objects(self, prefix: str = "") -> AsyncIterator[Any]:
        async with aclosing(self._services.snapshot_objects(prefix)) as found:  # type: ignore[type-var]
            async for pair in found:
                self.count += 1
                yield pair


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("count", "size"), [(10_000, 4096), (10, 4 << 20)])
async def test_a_slow_reader_holds_the_moment_and_not_what_it_has_not_read(
    node: Bench, tmp_path: Path, way: Any, count: int, size: int
):
    table, counted = table_of(node), Counted(node.services)
    for number in range(count):
        table.put(f"shared/{number:05}".encode(), number.to_bytes(4, "big") * (size // 4))
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(way(counted, tmp_path))
        async with aclosing(client.snapshot_objects("shared/")) as found:
            await anext(found)
            for number in range(0, count, max(1, count // 100)):
                await client.put_object(f"shared/{number:05}", b"new")
            assert open_in(node) == 1
            assert counted.count * size <= count * size // 2
            seen = 1
            async for _, value in found:
                assert value == seen.to_bytes(4, "big") * (size // 4)
                seen += 1
            assert seen == count
        await until(lambda: open_in(node) == 0)


@pytest.mark.parametrize("way", WAYS)
async def test_a_reader_that_gives_up_or_is_gone_frees_it(node: Bench, tmp_path: Path, way: Any):
    for number in range(1000):
        table_of(node).put(f"shared/{number:05}".encode(), b"v" * 10_000)
    async with way(node.services, tmp_path) as client:
        found = client.snapshot_objects("shared/")
        await anext(found)
        assert open_in(node) == 1
        await found.aclose()
        await until(lambda: open_in(node) == 0)
        left = client.snapshot_objects("shared/")
        await anext(left)
        assert open_in(node) == 1
        await client.close()
        await until(lambda: open_in(node) == 0)
        await left.aclose()


async def test_more_than_so_many_at_once_are_refused(node: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(objectmoment, "OPEN_MAX", 2)
    table_of(node).put(b"shared/a", b"")
    reading = [node.services.snapshot_objects() for _ in range(3)]
    await anext(reading[0])
    await anext(reading[1])
    with pytest.raises(QueueFull, match="2 snapshots are being read"):
        await anext(reading[2])
    await reading[0].aclose()  # type: ignore[attr-defined]
    assert await read(node.services) == {"shared/a": b""}
    await reading[1].aclose()  # type: ignore[attr-defined]


async def test_who_reads_for_too_long_is_told_to_begin_anew(
    node: Bench, monkeypatch: pytest.MonkeyPatch
):
    """One that has read the first page is late with the second."""
    monkeypatch.setattr(objectmoment, "AGE_MS_MAX", 1)
    for number in range(objectmoment._PAGE + 1):
        table_of(node).put(f"shared/{number}".encode(), b"")
    reading = node.services.snapshot_objects("shared/")
    with pytest.raises(SnapshotExpired):
        async for _ in reading:
            await until(lambda: open_in(node) == 0)
    assert open_in(node) == 0

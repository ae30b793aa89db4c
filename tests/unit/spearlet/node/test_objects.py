"""Objects that outlive the process are what their callers were told last, whoever comes between."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from node_runs import Bench, bench, until

from spear._core.objstore import ObjectStore
from spear.errors import KvDamaged, ObjectNotFound, QueueFull, VersionConflict
from spear.records.objects import ObjectInfo
from spear.spearlet.node import blobs, objects, objectwatch
from spear.spearlet.node.objects import NodeObjects

LARGE = bytes(range(256)) * 1000


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path) as made:
        await made.start()
        yield made


class Gate:
    """Holds the next file in its writer's thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go, real = threading.Event(), threading.Event(), blobs._written

        def held(file: int, data: bytes) -> None:
            monkeypatch.setattr(blobs, "_written", real)
            self.begun.set()
            self.go.wait(20)
            real(file, data)

        monkeypatch.setattr(blobs, "_written", held)


async def putting(node: Bench, gate: Gate) -> asyncio.Task[ObjectInfo]:
    """A durable put whose file is being written."""
    put = asyncio.ensure_future(node.services.put_object("shared/a", LARGE, durable=True))
    await until(gate.begun.is_set)
    return put


async def test_an_object_deleted_while_its_file_was_written_stays_deleted(
    node: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    gate = Gate(monkeypatch)
    put = await putting(node, gate)
    await node.services.delete_object("shared/a")
    gate.go.set()
    await put
    with pytest.raises(ObjectNotFound):
        await node.services.stat_object("shared/a")
    assert not list((tmp_path / "objects").glob("*/*"))
    services = await node.crash()
    with pytest.raises(ObjectNotFound):
        await services.stat_object("shared/a")


async def test_the_later_of_two_durable_values_is_kept(
    node: Bench, monkeypatch: pytest.MonkeyPatch
):
    gate = Gate(monkeypatch)
    put = await putting(node, gate)
    later = await node.services.put_object("shared/a", b"later", durable=True)
    gate.go.set()
    earlier = await put
    assert earlier.version < later.version
    assert (earlier.size, earlier.durability) == (len(LARGE), "volatile")
    services = await node.crash(power=True)
    assert (await services.get_object("shared/a"))[1] == b"later"


async def test_a_transaction_takes_no_durable_value_that_came_after_it(node: Bench):
    services = node.services
    for key in ("shared/a", "shared/b"):
        await services.put_object(key, b"before", durable=True)
    writes = {"shared/a": b"1", "shared/b": b"2"}
    transaction = asyncio.ensure_future(services.transact({}, writes))
    await asyncio.sleep(0)
    await services.put_object("shared/b", b"after", durable=True)
    await transaction
    assert (await services.stat_object("shared/b")).durability == "power"
    services = await node.crash()
    assert (await services.get_object("shared/b"))[1] == b"after"
    with pytest.raises(ObjectNotFound):
        await services.stat_object("shared/a")


async def test_a_damaged_object_is_told_to_who_asks_and_can_be_deleted(node: Bench, tmp_path: Path):
    await node.services.put_object("shared/a", LARGE, durable=True)
    await node.services.put_object("shared/b", b"sound", durable=True)
    await node.stop()
    (file,) = (tmp_path / "objects").glob("*/*")
    file.write_bytes(b"damaged")
    services = await node.start()
    assert (await services.get_object("shared/b"))[1] == b"sound"
    with pytest.raises(KvDamaged):
        await services.get_object("shared/a")
    await services.delete_object("shared/a")
    with pytest.raises(ObjectNotFound):
        await services.get_object("shared/a")


# ---- those that had to make room


@pytest.fixture
async def narrow(tmp_path: Path) -> AsyncIterator[Bench]:
    """A node with room for three objects of 20,000 bytes, and four durable ones in it."""
    async with bench(tmp_path, **{"objects.size": "64KiB"}) as made:
        services = await made.start()
        for name in "abcd":
            await services.put_object(f"shared/{name}", name.encode() * 20_000, durable=True)
        assert services._objects.table.stats().evictions > 0
        yield made


def lies_in_the_table(node: Bench, name: str) -> bool:
    return any(s.key == f"shared/{name}".encode() for s in node.services._objects.table.list())


async def test_all_durable_objects_are_listed_in_pages(narrow: Bench):
    assert not lies_in_the_table(narrow, "a")
    page = await narrow.services.list_objects("shared/")
    assert [(info.key, info.size, info.durability) for info in page.objects] == [
        (f"shared/{name}", 20_000, "power") for name in "abcd"
    ]
    first = await narrow.services.list_objects("shared/", limit=2)
    rest = await narrow.services.list_objects("shared/", start_after=first.next_start_after)
    found = [info.key[-1] for info in (*first.objects, *rest.objects)]
    assert found == ["a", "b", "c", "d"]
    services = await narrow.crash()
    assert len((await services.list_objects("shared/")).objects) == 4


def steps_of(what: Callable[[], object]) -> int:
    """How many lines of objects.py it takes."""
    count = 0

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename != objects.__file__:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        what()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("size", ["16MiB", "64KiB"], ids=["room for all", "room for few"])
@pytest.mark.parametrize("followed", [True, False])
async def test_a_page_and_a_file_cost_the_same_however_many_objects_there_are(
    tmp_path: Path, size: str, followed: bool
):
    async with bench(tmp_path, **{"objects.size": size}) as made:
        services = await made.start()
        kept, taken = services._objects, list[tuple[int, int, int]]()
        for part in range(4):
            for number in range(150):
                key = f"shared/{part}/{number:04}"
                await services.put_object(key, b"v" * 1000, durable=True)
            if followed:
                await kept.follow_guests()
            await services.put_object("shared/other", b"")
            digest = str(part)
            taken.append((
                steps_of(lambda: kept.list("shared/0/", 10, "shared/0/0020")),
                steps_of(lambda: kept.list("shared/0/", 10, "")),
                steps_of(lambda digest=digest: kept.needs(digest)),  # type: ignore[misc]
            ))  # fmt: skip
        assert len(set(taken[1:])) == 1, taken  # before the first eviction less is to be looked at
        found, after = list[str](), ""
        while not found or after:
            page = kept.list("shared/", 7, after)
            found += [info.key for info in page.objects]
            after = page.next_start_after
        durable = [f"shared/{part}/{number:04}" for part in range(4) for number in range(150)]
        assert found == [*durable, "shared/other"]


async def test_references_and_pins_reach_one_that_had_to_make_room(narrow: Bench):
    assert await narrow.services.add_object_ref("shared/a") == 1
    assert lies_in_the_table(narrow, "a")
    await narrow.services.pin_object("shared/b")
    assert (await narrow.services.stat_object("shared/b")).pinned
    assert (await narrow.services.get_object("shared/a"))[1] == b"a" * 20_000


async def test_a_transaction_sees_one_that_had_to_make_room(narrow: Bench):
    assert not lies_in_the_table(narrow, "a")
    with pytest.raises(VersionConflict):
        await narrow.services.transact({"shared/a": 0}, {"shared/n": b"n"})
    assert not lies_in_the_table(narrow, "n")


async def test_one_that_had_to_make_room_is_there_for_who_wants_it_absent(narrow: Bench):
    assert not lies_in_the_table(narrow, "a")
    with pytest.raises(VersionConflict):
        await narrow.services.put_object("shared/a", b"", if_version=0)


@pytest.mark.parametrize("gone", [False, True])
async def test_one_that_is_put_anew_while_its_file_is_read_is_there_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
):
    """The file goes with the old one before it is read."""
    async with bench(tmp_path, **{"objects.size": "300KiB"}) as node:
        services = await node.start()
        await services.put_object("shared/a", LARGE, durable=True)
        await services.put_object("shared/b", LARGE[1:], durable=True)
        assert not lies_in_the_table(node, "a")
        real = blobs.Blobs.read

        async def read(self: blobs.Blobs, digest: str) -> bytes:
            monkeypatch.setattr(blobs.Blobs, "read", real)
            if gone:
                await services.delete_object("shared/a")
            else:
                await services.put_object("shared/a", LARGE[2:], durable=True)
            return await real(self, digest)

        monkeypatch.setattr(blobs.Blobs, "read", read)
        if gone:
            with pytest.raises(ObjectNotFound):
                await services.get_object("shared/a")
        else:
            assert (await services.get_object("shared/a"))[1] == LARGE[2:]


# ---- guests, who change the table and tell nobody


def by_guest(node: Bench) -> ObjectStore:
    return node.services._objects.table


@pytest.mark.parametrize("value", [b"small", LARGE], ids=["row", "file"])
async def test_what_a_guest_makes_of_a_durable_object_reaches_its_row(node: Bench, value: bytes):
    await node.services.put_object("shared/a", b"first", durable=True, metadata={"a": "b"})
    by_guest(node).put(b"shared/a", value)
    assert (await node.services.stat_object("shared/a")).durability == "volatile"
    assert node.node is not None
    await node.node._housekeeping.turn()
    assert (await node.services.stat_object("shared/a")).durability == "power"
    services = await node.crash(power=True)
    assert (await services.get_object("shared/a"))[1] == value


async def test_what_a_guest_has_deleted_stays_deleted(node: Bench):
    await node.services.put_object("shared/a", b"first", durable=True)
    by_guest(node).delete(b"shared/a")
    assert (await node.services.list_objects("shared/")).objects == ()
    with pytest.raises(ObjectNotFound):
        await node.services.stat_object("shared/a")
    services = await node.crash()
    with pytest.raises(ObjectNotFound):
        await services.stat_object("shared/a")


async def test_a_node_that_closes_keeps_what_guests_made_last(node: Bench):
    await node.services.put_object("shared/a", b"first", durable=True)
    by_guest(node).put(b"shared/a", b"last")
    await node.stop()
    services = await node.start()
    assert (await services.get_object("shared/a"))[1] == b"last"


class Between:
    """The table, where a guest does something after each call of one method."""

    def __init__(self, table: ObjectStore, after: str, guest: Callable[[ObjectStore], object]):
        self._table, self._after, self._guest = table, after, guest

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._table, name)
        if name != self._after:
            return method

        def call(*given: Any, **named: Any) -> Any:
            found = method(*given, **named)
            self._after = ""
            self._guest(self._table)
            return found

        return call


@pytest.mark.parametrize("after", ["get", "stat"])
async def test_info_and_value_are_of_one_version_whatever_a_guest_does(node: Bench, after: str):
    await node.services.put_object("shared/a", b"first", metadata={"of": "first"})
    kept = node.services._objects
    guest = Between(kept._store, after, lambda table: table.put(b"shared/a", b"second!"))
    kept._store = guest  # type: ignore[assignment]
    info, value = await node.services.get_object("shared/a")
    version = by_guest(node).stat(b"shared/a").version
    second = info.version == version
    assert (info.size, value) == ((7, b"second!") if second else (5, b"first"))
    assert info.metadata == ({} if second else {"of": "first"})


@pytest.mark.parametrize(
    "guest",
    [lambda table: table.put(b"shared/a", b"other"), lambda table: table.delete(b"shared/a")],
    ids=["puts", "deletes"],
)
async def test_who_puts_is_told_its_own_version_whatever_a_guest_does(
    node: Bench, guest: Callable[[ObjectStore], object]
):
    """Else the next compare and swap would take the guest's value for its own."""
    kept = node.services._objects
    kept._store = Between(kept._store, "put", guest)  # type: ignore[assignment]
    info = await node.services.put_object("shared/a", b"mine", metadata={"of": "me"})
    assert (info.key, info.size, info.metadata) == ("shared/a", 4, {"of": "me"})
    with pytest.raises(VersionConflict):
        await node.services.put_object("shared/a", b"mine too", if_version=info.version)


async def test_a_guests_changes_are_watched(node: Bench):
    watching = node.services.watch_objects("shared/")
    first = asyncio.ensure_future(anext(watching))
    await asyncio.sleep(0)
    by_guest(node).put(b"shared/g", b"1")
    assert (await first).info.key == "shared/g"
    by_guest(node).delete(b"shared/g")
    assert (await anext(watching)).deleted


async def test_an_eviction_of_a_durable_object_is_no_change(narrow: Bench):
    watching = narrow.services.watch_objects("shared/")
    first = asyncio.ensure_future(anext(watching))
    await asyncio.sleep(0)
    await narrow.services.put_object("shared/e", b"e" * 20_000, durable=True)
    assert (await first).info.key == "shared/e"


async def test_too_many_objects_are_not_watched(node: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(objectwatch, "WATCHED_MAX", 2)
    for name in "abc":
        await node.services.put_object(f"shared/{name}", b"")
    with pytest.raises(QueueFull, match="watch a longer prefix"):
        await anext(node.services.watch_objects("shared/"))


async def test_what_changes_while_a_watcher_looks_is_told(
    node: Bench, monkeypatch: pytest.MonkeyPatch
):
    looks, real = 0, objectwatch._look

    async def look(objects: NodeObjects, prefix: str) -> objectwatch.Seen:
        nonlocal looks
        looks += 1
        found = await real(objects, prefix)
        if looks == 2:
            by_guest(node).put(b"shared/late", b"")
        return found

    monkeypatch.setattr(objectwatch, "_look", look)
    watching = node.services.watch_objects("shared/")
    first = asyncio.ensure_future(anext(watching))
    await asyncio.sleep(0)
    by_guest(node).put(b"shared/early", b"")
    found = {(await first).info.key, (await anext(watching)).info.key}
    assert found == {"shared/early", "shared/late"}


async def test_a_page_fits_into_a_message_however_much_metadata_its_objects_have(node: Bench):
    """Of gRPC, where one has 4 MiB."""
    keys = [f"shared/{number:03}" for number in range(100)]
    for key in keys:
        await node.services.put_object(key, b"", metadata={"m": "x" * 60_000})
    found, after = list[str](), ""
    while not found or after:
        page = await node.services.list_objects("shared/", limit=100, start_after=after)
        assert 0 < sum(len(info.metadata["m"]) for info in page.objects) <= 2 << 20
        found += [info.key for info in page.objects]
        after = page.next_start_after
    assert found == keys

"""Durable objects have a bound on the node, whoever puts them; a refusal changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from node_runs import Bench, bench

from spear.errors import KvFull, ObjectNotFound, StoreFull
from spear.records.objects import ObjectInfo
from spear.spearlet.node import blobs
from spear.spearlet.node.durables import ROW_BYTES, Durables, Kept

KEY_BYTES = len("shared/a")
LARGE = bytes(100_000)  # lies in a file


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Bench]:
    """With room for three objects of 1000 bytes."""
    size = 3 * (ROW_BYTES + KEY_BYTES + 1000)
    async with bench(tmp_path, **{"objects.durable_size": str(size)}) as made:
        await made.start()
        yield made


async def put(node: Bench, name: str, value: bytes = bytes(1000), **metadata: str) -> str:
    info = await node.services.put_object(f"shared/{name}", value, durable=True, metadata=metadata)
    return info.durability


async def fill(node: Bench) -> None:
    for name in "abc":
        assert await put(node, name) == "power"


async def test_one_too_many_is_refused_and_changes_nothing(node: Bench):
    await fill(node)
    with pytest.raises(StoreFull, match=r"objects\.durable_size is \d+: delete some, or raise it"):
        await put(node, "d", b"")
    with pytest.raises(ObjectNotFound):
        await node.services.stat_object("shared/d")
    info = await node.services.put_object("shared/d", bytes(1000))
    assert info.durability == "volatile"
    with pytest.raises(StoreFull):
        await put(node, "a", bytes(1001))
    with pytest.raises(StoreFull):
        await put(node, "a", bytes(1000), of="more")
    assert (await node.services.stat_object("shared/a")).durability == "power"


async def test_metadata_counts_with_its_bytes(node: Bench):
    await put(node, "a")
    await put(node, "b")
    with pytest.raises(StoreFull):
        await put(node, "c", b"", of="\u4e00" * 400)  # 1200 bytes, and there are 1000


async def test_what_takes_no_more_than_before_has_room(node: Bench):
    await fill(node)
    assert await put(node, "a", b"x" * 1000) == "power"
    assert await put(node, "a", b"") == "power"
    assert await put(node, "b", bytes(2000)) == "power"
    services = await node.crash(power=True)
    assert [info.size for info in (await services.list_objects("shared/")).objects] == [
        0, 2000, 1000,
    ]  # fmt: skip


async def test_what_is_kept_counts_again_at_the_next_start(node: Bench):
    await fill(node)
    await node.crash(power=True)
    with pytest.raises(StoreFull):
        await put(node, "d", b"")
    await node.services.delete_object("shared/b")
    assert await put(node, "d") == "power"
    await node.services.put_object("shared/c", b"")  # is durable no more
    assert await put(node, "e") == "power"
    await node.services.transact({}, {"shared/e": b""})
    assert await put(node, "f") == "power"


async def test_files_that_are_being_written_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with bench(tmp_path, **{"objects.durable_size": str(250_000)}) as node:
        await node.start()
        names = "abcde"
        ends = await asyncio.gather(
            *(put(node, name, LARGE + name.encode()) for name in names), return_exceptions=True
        )
        assert [end if isinstance(end, str) else type(end) for end in ends] == [
            "power", "power", StoreFull, StoreFull, StoreFull,
        ]  # fmt: skip
        with monkeypatch.context() as broken:

            def full(file: int, data: bytes) -> None:
                raise KvFull("no room (planted)")

            broken.setattr(blobs, "_written", full)
            await node.services.delete_object("shared/b")
            with pytest.raises(KvFull):
                await put(node, "f", LARGE + b"f")
        assert await put(node, "g", LARGE + b"g") == "power"  # that one takes nothing
        assert len(list((tmp_path / "objects").glob("*/*"))) == 2


async def test_what_was_kept_before_is_needed_where_its_successor_could_not_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with bench(tmp_path) as node:
        await node.start()
        await put(node, "a", LARGE)
        kept = node.services._objects
        (digest,) = kept._durable.digests

        async def refused(**_: object) -> None:
            raise KvFull("no room (planted)")

        with monkeypatch.context() as broken:
            broken.setattr(kept._journal, "kept", refused)
            with pytest.raises(KvFull):
                await put(node, "a", LARGE + b"a")
        assert kept.needs(digest)
        await kept.follow_guests()
        assert not kept.needs(digest)
        services = await node.crash(power=True)
        assert (await services.get_object("shared/a"))[1] == LARGE + b"a"


def test_guests_are_told_the_room_for_key_and_value() -> None:
    told = list[int]()
    durables = Durables(10_000, told.append)
    info = ObjectInfo(key="k", size=100, version=1, metadata={"a": "\u00fc"})
    durables[b"k"] = Kept(b"k", "", info, 1)
    durables.coming(50)
    durables.coming(-50)
    del durables[b"k"]
    free = 10_000 - ROW_BYTES
    taken = ROW_BYTES + 1 + 100 + 3
    assert told == [free, free - taken, free - taken - 50, free - taken, free]


async def test_a_guest_cannot_make_a_durable_object_outgrow_it(node: Bench):
    await fill(node)
    kept = node.services._objects
    kept.table.put(b"shared/a", bytes(5000))
    await kept.follow_guests()
    assert (await node.services.stat_object("shared/a")).durability == "volatile"
    await node.services.delete_object("shared/b")
    kept.table.put(b"shared/a", bytes(1500))
    await kept.follow_guests()
    assert (await node.services.stat_object("shared/a")).durability == "power"


async def test_none_at_all(tmp_path: Path):
    async with bench(tmp_path, **{"objects.durable_size": "0"}) as node:
        await node.start()
        with pytest.raises(StoreFull):
            await put(node, "a", b"")
        assert (await node.services.put_object("shared/a", b"")).version

"""Durable objects are looked over in turns of the loop, and what comes between is not lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from node_runs import Bench, bench

from spear._core.objstore import ObjectStore
from spear.errors import ObjectNotFound
from spear.spearlet.node import objects
from spear.spearlet.node.objects import NodeObjects

SIZE = 4000
COUNT = 40


@asynccontextmanager
async def many(folder: Path, room: int) -> AsyncIterator[Bench]:
    """A node with COUNT durable objects, and room in memory for `room` of them."""
    size = room * (SIZE + 192 + 128 + len("shared/00")) + 4000
    async with bench(folder, **{"objects.size": str(max(size, 65536))}) as made:
        services = await made.start()
        for number in range(COUNT):
            value = b"%02d" % number * (SIZE // 2)
            await services.put_object(f"shared/{number:02}", value, durable=True)
        yield made


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """With room for all of them."""
    monkeypatch.setattr(objects, "_SLICE", 5)
    monkeypatch.setattr(objects, "_SLICE_KNOWN", 5)
    async with many(tmp_path, COUNT + 10) as made:
        yield made


def parts(node: Bench) -> tuple[NodeObjects, ObjectStore]:
    kept = node.services._objects
    return kept, kept.table


def fill(table: ObjectStore) -> None:
    """As a guest that needs all the room: each one that may goes."""
    before = table.stats().evictions
    while table.stats().evictions < before + COUNT:
        table.put(b"shared/x%d" % table.stats().puts, bytes(SIZE))


async def turns_during(what: Any, each: Callable[[int], None] = lambda turn: None) -> int:
    """How often others had their turn."""
    turns, task = 0, asyncio.ensure_future(what)
    while not task.done():
        turns += 1
        each(turns)
        await asyncio.sleep(0)
    await task
    return turns


async def test_guests_are_followed_in_turns(node: Bench):
    kept, table = parts(node)
    table.put(b"shared/plain", b"")
    assert await turns_during(kept.follow_guests()) >= COUNT // 5
    assert await turns_during(kept.follow_guests()) <= 3  # nothing has moved


@pytest.mark.parametrize("turn", [1, 3, 9])
async def test_what_guests_do_between_the_turns_is_followed(node: Bench, turn: int):
    kept, table = parts(node)
    table.put(b"shared/20", b"before")

    def guest(now: int) -> None:
        if now == turn:
            table.put(b"shared/02", b"between")
            table.put(b"shared/38", b"between")
            table.delete(b"shared/03")
            table.delete(b"shared/37")

    await turns_during(kept.follow_guests(), guest)
    await kept.follow_guests()
    services = await node.crash(power=True)
    for name, value in (("02", b"between"), ("38", b"between"), ("20", b"before")):
        assert (await services.get_object(f"shared/{name}"))[1] == value
    for name in ("03", "37"):
        with pytest.raises(ObjectNotFound):
            await services.stat_object(f"shared/{name}")
    assert len((await services.list_objects("shared/")).objects) == COUNT - 2


@pytest.mark.parametrize("turn", [1, 3, 9])
async def test_what_callers_do_between_the_turns_stays(node: Bench, turn: int):
    kept, table = parts(node)
    doing: list[asyncio.Task[Any]] = []

    def caller(now: int) -> None:
        if now == turn:
            put, delete = node.services.put_object, node.services.delete_object
            doing.append(asyncio.ensure_future(put("shared/02", b"between", durable=True)))
            doing.append(asyncio.ensure_future(put("shared/50", b"new", durable=True)))
            doing.append(asyncio.ensure_future(delete("shared/37")))

    table.delete(b"shared/02")
    await turns_during(kept.follow_guests(), caller)
    await asyncio.gather(*doing)
    services = await node.crash(power=True)
    assert (await services.get_object("shared/02"))[1] == b"between"
    assert (await services.get_object("shared/50"))[1] == b"new"
    with pytest.raises(ObjectNotFound):
        await services.stat_object("shared/37")


class Counting:
    """The table, where a guest comes after the so many-th look of one kind."""

    def __init__(self, table: ObjectStore, name: str, at: int, guest: Callable[[], None]) -> None:
        self._table, self._name, self._at, self._guest = table, name, at, guest

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._table, name)
        if name != self._name:
            return method

        def call(*given: Any, **named: Any) -> Any:
            try:
                return method(*given, **named)
            finally:
                self._at -= 1
                if self._at == 0:
                    self._guest()

        return call


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 9, 30])
@pytest.mark.parametrize("look", ["stat", "stats"])
async def test_what_makes_room_just_as_it_is_looked_at_is_not_taken_for_deleted(
    node: Bench, look: str, at: int
):
    kept, table = parts(node)
    table.delete(b"shared/00")  # or there is nothing to follow
    kept._store = Counting(table, look, at, lambda: fill(table))  # type: ignore[assignment]
    await kept.follow_guests()
    kept._store = table
    services = await node.crash(power=True)
    found = [info.key for info in (await services.list_objects("shared/")).objects]
    assert found[-COUNT + 1 :] == [f"shared/{number:02}" for number in range(1, COUNT)]


async def test_what_had_to_make_room_is_brought_back_without_a_look_at_all_others(
    node: Bench, monkeypatch: pytest.MonkeyPatch
):
    kept, table = parts(node)
    fill(table)

    async def looked(part: object) -> None:
        raise AssertionError("all are looked at")

    with monkeypatch.context() as planted:
        planted.setattr(kept, "_follow_all", looked)
        assert (await node.services.get_object("shared/07"))[1] == b"07" * (SIZE // 2)
    await kept.follow_guests()
    table.delete(b"shared/07")
    with pytest.raises(ObjectNotFound):
        await node.services.get_object("shared/07")


async def test_a_snapshot_of_many_that_made_room_lets_others_have_their_turn(node: Bench):
    """And is of the moment at which it was asked for, whatever they do with it."""
    kept, table = parts(node)
    fill(table)
    for stat in table.list(b"shared/x"):
        table.delete(stat.key)
    await kept.follow_guests()
    reading = node.services.snapshot_objects("shared/")
    doing: list[asyncio.Task[Any]] = []

    def others(turn: int) -> None:
        if turn == 2:
            get, put = node.services.get_object, node.services.put_object
            doing.append(asyncio.ensure_future(get("shared/30")))  # so it is back
            doing.append(asyncio.ensure_future(put("shared/31x", b"", durable=True)))

    found = list[Any]()

    async def read() -> None:
        found.extend([pair async for pair in reading])

    assert await turns_during(read(), others) >= COUNT // 5
    await asyncio.gather(*doing)
    assert [info.key for info, _ in found] == [f"shared/{number:02}" for number in range(COUNT)]
    thirty = next(pair for pair in found if pair[0].key == "shared/30")
    assert thirty[1] == b"30" * (SIZE // 2)
    assert thirty[0].version < (await node.services.stat_object("shared/30")).version

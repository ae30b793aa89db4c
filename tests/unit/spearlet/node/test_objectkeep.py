"""What guests have put is kept before they are told so, whoever comes between.

The rule: the test writes into the table as a guest's thread does, then asks as its handler does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from node_runs import Bench, bench, until

from spear.errors import InvalidArgument, KvFull, ObjectNotFound, StoreFull
from spear.spearlet.node import blobs

KEY, NAME = b"shared/a", "shared/a"
LARGE = bytes(range(256)) * 400


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Bench]:
    options = {"objects.size": "1MiB", "storage.max_object_size": "200KiB"}
    async with bench(tmp_path, **options) as made:
        await made.start()
        yield made


def guest_puts(node: Bench, value: bytes, key: bytes = KEY) -> int:
    return node.services._objects.table.put(key, value)


async def test_what_made_room_before_it_was_kept_is_told(node: Bench):
    """Another guest has put in its place, and that was evicted: nothing is left to keep."""
    version = guest_puts(node, b"x" * 100_000)
    for number in range(12):
        guest_puts(node, b"y" * 100_000, f"shared/{number}".encode())
    with pytest.raises(StoreFull, match="had to make room before it was kept"):
        await node.services._objects.keep(KEY, version)
    await node.services._objects.follow_guests()


async def test_what_was_deleted_needs_no_keeping(node: Bench):
    version = guest_puts(node, b"x")
    node.services._objects.table.delete(KEY)
    await node.services._objects.keep(KEY, version)


async def test_a_plain_put_in_the_flush_is_kept_in_its_place(node: Bench):
    """It has the row go that the guest waits for: what the guest is told must hold all the same."""
    held, real = [], node.store.when_synced
    node.store.when_synced = lambda *flush: held.append(flush)  # type: ignore[method-assign]
    version = guest_puts(node, b"first")
    kept = asyncio.ensure_future(node.services._objects.keep(KEY, version))
    await until(lambda: held)
    put = asyncio.ensure_future(node.services.put_object(NAME, b"second"))
    table = node.services._objects.table
    await until(lambda: bytes(table.get(KEY)) == b"second")
    node.store.when_synced = real  # type: ignore[method-assign]
    for flush in held:
        real(*flush)
    await put
    await kept
    services = await node.crash(power=True)
    assert (await services.get_object(NAME))[1] == b"second"


async def test_a_callers_put_that_a_guests_takes_over_is_durable(
    node: Bench, monkeypatch: pytest.MonkeyPatch
):
    begun, go, real = threading.Event(), threading.Event(), blobs._written

    def held(file: int, data: bytes) -> None:
        begun.set()
        go.wait(20)
        real(file, data)

    monkeypatch.setattr(blobs, "_written", held)
    version = guest_puts(node, LARGE)
    kept = asyncio.ensure_future(node.services._objects.keep(KEY, version))
    await until(begun.is_set)
    put = asyncio.ensure_future(node.services.put_object(NAME, LARGE[::-1], durable=True))
    await until(lambda: bytes(node.services._objects.table.get(KEY)) == LARGE[::-1])
    go.set()
    await kept
    assert (await put).durability == "power"
    services = await node.crash(power=True)
    assert (await services.get_object(NAME))[1] == LARGE[::-1]


async def test_after_a_file_that_could_not_be_written_guests_are_followed(
    node: Bench, monkeypatch: pytest.MonkeyPatch
):
    await node.services.put_object(NAME, b"old", durable=True)

    def full(file: int, data: bytes) -> None:
        raise KvFull("no room (planted)")

    with monkeypatch.context() as broken:
        broken.setattr(blobs, "_written", full)
        with pytest.raises(KvFull):
            await node.services._objects.keep(KEY, guest_puts(node, LARGE))
    guest_puts(node, b"new")
    await node.services._objects.follow_guests()
    services = await node.crash(power=True)
    assert (await services.get_object(NAME))[1] == b"new"


async def test_a_value_beyond_the_limit_stays_in_memory(node: Bench):
    version = guest_puts(node, b"x" * 300_000)
    with pytest.raises(InvalidArgument, match=r"storage\.max_object_size"):
        await node.services._objects.keep(KEY, version)
    services = await node.crash()
    with pytest.raises(ObjectNotFound):
        await services.stat_object(NAME)


async def test_a_failure_that_nobody_waits_for_is_nobodys(
    node: Bench,
):
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    version = guest_puts(node, b"x" * 300_000)
    keeping = asyncio.ensure_future(node.services._objects.keep(KEY, version))
    await asyncio.sleep(0)
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    await until(lambda: not node.services._objects._for_guests)
    await asyncio.sleep(0)
    assert told == []

"""Objects that outlive the process are what their callers were told last, whoever comes between."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from node_runs import Bench, bench, until

from spear.errors import KvDamaged, ObjectNotFound
from spear.records.objects import ObjectInfo
from spear.spearlet.node import blobs

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

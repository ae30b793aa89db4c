"""An artifact is compiled from the bytes that came, not from what was written of them; it stays as
long as another one needs it, also one that is only coming."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
from node_runs import CODE, DIGEST, Bench, bench, until

from spear.errors import InUse, KvFull, NotFound
from spear.records.task import Artifact, TaskSpec
from spear.spearlet.node.blobs import Blobs
from spear.spearlet.node.services import NodeServices


async def cut(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 7):
        yield data[at : at + 7]


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_is_put_is_not_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streamed: bool
):
    async with bench(tmp_path) as node:
        services = await node.start()

        async def read(self: Blobs, digest: str) -> bytes:
            raise AssertionError("it was read back")

        monkeypatch.setattr(Blobs, "read", read)
        artifact = await services.put_artifact(cut(CODE) if streamed else CODE)
        assert (artifact.digest, artifact.size) == (DIGEST, len(CODE))
        monkeypatch.undo()
        found = b"".join([part async for part in services.read_artifact(DIGEST)])
        assert found == CODE


async def test_who_puts_the_same_is_not_told_before_it_is_kept(tmp_path: Path):
    """As the first one is not, whose flush is under way."""
    async with bench(tmp_path) as node:
        services = await node.start()
        flushes: list[Callable[[], None]] = []
        flush = node.store.when_synced
        node.store.when_synced = lambda *told: flushes.append(partial(flush, *told))  # type: ignore[method-assign]
        first = asyncio.ensure_future(services.put_artifact(CODE))
        await until(lambda: flushes)
        second = asyncio.ensure_future(services.put_artifact(CODE))
        await until(lambda: second.done() or len(flushes) == 2)
        assert [first.done(), second.done()] == [False, False]
        for done in flushes:
            done()
        assert await first == await second


async def test_one_that_is_put_as_it_is_deleted_is_put_anew(tmp_path: Path):
    async with bench(tmp_path) as node:
        services = await node.start()
        await services.put_artifact(CODE)
        known = services._artifacts._known

        async def deleted_meanwhile(digest: str) -> Artifact | None:
            asking = asyncio.ensure_future(known(digest))
            deleting = asyncio.ensure_future(services.delete_artifact(DIGEST))
            found, _ = await asyncio.gather(asking, deleting)
            return found

        services._artifacts._known = deleted_meanwhile  # type: ignore[method-assign]
        await services.put_artifact(CODE)
        assert (await services.artifact(DIGEST)).digest == DIGEST
        assert b"".join([part async for part in services.read_artifact(DIGEST)]) == CODE


OTHER = CODE + b", which needs it"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path) as made:
        await made.start()
        await made.services.put_artifact(CODE)
        yield made


async def test_what_another_one_needs_stays_also_over_a_restart(node: Bench):
    services = node.services
    other = await services.put_artifact(OTHER, dependencies=[DIGEST[:12]])
    assert other.dependencies == (DIGEST,)
    await stays(services, other)
    services = await node.crash()
    await stays(services, other)
    await services.delete_artifact(other.digest)
    await services.delete_artifact(DIGEST)


async def stays(services: NodeServices, other: Artifact) -> None:
    await services.collect_garbage()
    with pytest.raises(InUse, match=f"needed by artifact {other.digest[:12]}: remove that"):
        await services.delete_artifact(DIGEST)
    assert b"".join([part async for part in services.read_artifact(DIGEST)]) == CODE


async def test_what_needs_something_that_is_not_there_is_refused(node: Bench):
    with pytest.raises(NotFound):
        await node.services.put_artifact(OTHER, dependencies=["0" * 64])
    assert len(await node.services.artifacts()) == 1


async def test_what_a_coming_one_needs_stays(node: Bench):
    services = node.services

    async def slowly() -> AsyncIterator[bytes]:
        with pytest.raises(InUse, match="an artifact that is being put"):
            await services.delete_artifact(DIGEST)
        yield OTHER

    other = await services.put_artifact(slowly(), dependencies=[DIGEST])
    assert (await services.artifact(DIGEST)).digest in other.dependencies


async def test_one_that_does_not_come_holds_nothing(node: Bench):
    async def broken() -> AsyncIterator[bytes]:
        yield OTHER
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await node.services.put_artifact(broken(), dependencies=[DIGEST])
    await node.services.delete_artifact(DIGEST)


@pytest.mark.parametrize("how", ["register", "put"])
async def test_nothing_begins_to_need_one_that_is_being_deleted(node: Bench, how: str):
    services = node.services
    deleting = asyncio.ensure_future(services.delete_artifact(DIGEST))
    await asyncio.sleep(0)  # its row is removed when this turn ends
    with pytest.raises(NotFound):
        if how == "register":
            await services.register(TaskSpec(name="work", artifact=DIGEST))
        else:
            await services.put_artifact(OTHER, dependencies=[DIGEST])
    await deleting
    assert await services.tasks() == []


async def test_one_whose_deletion_was_not_kept_is_there_as_before(node: Bench):
    services = node.services
    node.store.full = True
    with pytest.raises(KvFull):
        await services.delete_artifact(DIGEST)
    node.store.full = False
    await services.register(TaskSpec(name="work", artifact=DIGEST))

"""A list of executions, page by page, has each once: those that run and those that ended."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from node_runs import Bench, bench, until
from rocksdict import Options, Rdict

from spear.errors import KvDamaged
from spear.kv.batch import Batch
from spear.kv.rocks import RocksKv, open_rocks
from spear.protocol.convert.execution import EXECUTION
from spear.records.execution import Invocation
from spear.spearlet.node import rows

LEFT_OUT = "left out of a list"


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
async def test_pages_have_all_live_and_ended_executions_once(tmp_path: Path, limit: int):
    async with bench(tmp_path) as node:
        services = await node.ready()
        ids = [(await services.submit("work")).id for _ in range(6)]
        await node.run(5)
        for at in (0, 3, 4):
            node.runtime.runs[at].finish()
        await until(lambda: len(services._executions.works()) == 3)
        assert (await services.stats())["instances"] == {"active": 3, "idle": 0}
        pages, token = [], ""
        while not pages or token:
            page = await services.executions(limit=limit, page_token=token)
            assert len(page.executions) <= limit
            pages += page.executions
            token = page.next_page_token
        assert sorted(one.id for one in pages) == sorted(ids)
        stamps = [(one.created_ns, one.id) for one in pages]
        assert stamps == sorted(stamps, reverse=True)
        assert [one.ended for one in pages].count(True) == 3


async def test_a_page_fits_into_a_message_however_much_its_records_hold(tmp_path: Path):
    """Of gRPC, where one has 4 MiB."""
    async with bench(tmp_path) as node:
        services = await node.ready()
        call = Invocation(metadata={"who": "a" * 65_000})
        ids = [(await services.submit("work", b"", call)).id for _ in range(160)]
        for at in range(80):
            (await node.run(at)).finish()
        await until(lambda: len(services._executions.works()) == 80)
        listed, token = list[str](), ""
        while not listed or token:
            page = await services.executions(limit=160, page_token=token)
            sizes = [EXECUTION.message(one).ByteSize() for one in page.executions]
            assert 0 < sum(sizes) < 3 << 20
            listed += [one.id for one in page.executions]
            token = page.next_page_token
        assert listed == sorted(ids, reverse=True)
        for run in node.runtime.runs[80:]:
            run.finish()


async def ended(node: Bench, count: int) -> list[str]:
    services = await node.ready()
    ids = []
    for at in range(count):
        ids.append((await services.submit("work")).id)
        (await node.run(at)).finish()
    await until(lambda: not services._executions.works())
    return ids


async def test_a_record_that_cannot_be_read_is_told_and_the_others_are_listed(tmp_path: Path):
    async with bench(tmp_path) as node:
        ids = await ended(node, 5)
        node.rows._rows[rows.execution_key(ids[1])] = b"\xff"
        listed, token = list[str](), ""
        while not listed or token:
            page = await node.services.executions(limit=2, page_token=token)
            listed += [one.id for one in page.executions]
            token = page.next_page_token
        assert sorted(listed) == sorted(set(ids) - {ids[1]})
        await node.services.executions()
        told = [line for line in node.said.lines if line["event"] == LEFT_OUT]
        assert [line["row"] for line in told] == [f"key b'exec/{ids[1]}'"]  # once
        with pytest.raises(KvDamaged, match=ids[1]):
            await node.services.execution(ids[1])


async def test_an_artifact_that_cannot_be_read_is_told_and_the_others_are_listed(tmp_path: Path):
    async with bench(tmp_path) as node:
        services = await node.start()
        put = [(await services.put_artifact(b"stub: %d" % at)).digest for at in range(3)]
        scan = node.store.scan

        def scanned(prefix: bytes, *, damaged: Any, **bounds: Any) -> list[tuple[bytes, bytes]]:
            damaged(rows.artifact_key(put[1]), KvDamaged("planted"))
            return [row for row in scan(prefix, **bounds) if row[0] != rows.artifact_key(put[1])]

        node.store.scan = scanned  # type: ignore[method-assign]
        found = await services.artifacts()
        assert sorted(one.digest for one in found) == sorted({put[0], put[2]})
        assert node.said.lines[-1] == {
            "event": LEFT_OUT,
            "row": f"key b'artifact/{put[1]}'",
            "reason": "planted",
        }


async def test_a_damaged_block_is_told_and_what_lies_on_both_sides_is_listed(tmp_path: Path):
    """A flipped byte in a file of the store, not in a row: neither list fails as a whole."""
    async with bench(tmp_path) as node:
        ids = await ended(node, 250)
        digests = {(await node.services.put_artifact(b"stub: %d" % at)).digest for at in range(200)}
        kv = await damaged_copy(node, tmp_path / "kv", rows.HELD_BY_TIME, rows.ARTIFACTS)
        node.store.scan, node.store.get = kv.scan, kv.get  # type: ignore[method-assign]
        listed, token = list[str](), ""
        while not listed or token:
            page = await node.services.executions(limit=7, page_token=token)
            listed += [one.id for one in page.executions]
            token = page.next_page_token
        assert len(listed) == len(set(listed))
        assert 0 < len(set(ids) - set(listed)) < len(ids) - 5
        found, after = set[str](), ""
        while part := await node.services.artifacts(limit=100, after=after):
            found.update(one.digest for one in part)
            after = part[-1].digest
        assert 100 < len(found & digests) < 200
        told = [str(line["reason"]) for line in node.said.lines if line["event"] == LEFT_OUT]
        for index in ("exec_held/", "artifact/"):
            assert any(re.match(f"all .* key b'{index}", reason) for reason in told)
        assert all("spear node accept-loss" in reason for reason in told)
        with pytest.raises(KvDamaged, match="accept-loss"):
            node.services._artifacts.find(min(digests - found))
        hidden = KvDamaged("all of it (planted)")

        def nothing(prefix: bytes, *, damaged: Any, **bounds: Any) -> list[tuple[bytes, bytes]]:
            damaged(b"", hidden)
            return []

        node.store.scan = nothing  # type: ignore[method-assign]
        for listing in (node.services.artifacts, node.services.executions):
            with pytest.raises(KvDamaged, match="planted"):
                await listing()
        await kv.close()


async def test_a_damaged_block_keeps_no_others_from_being_forgotten(tmp_path: Path):
    async with bench(tmp_path, **{"history.count": "2"}) as node:
        ids = await ended(node, 5)
        scan = node.store.scan

        def scanned(prefix: bytes, *, damaged: Any = None, **bounds: Any) -> Any:
            if damaged is None:
                raise KvDamaged("planted")
            damaged(prefix, KvDamaged("planted"))
            return [row for row in scan(prefix, **bounds) if ids[0].encode() not in row[0]]

        node.store.scan = scanned  # type: ignore[method-assign]
        assert await node.services._history.trim() == 3
        assert (await node.services.execution(ids[4])).ended
        assert LEFT_OUT in [line["event"] for line in node.said.lines]


async def damaged_copy(node: Bench, path: Path, *indexes: bytes) -> RocksKv:
    """The node's rows on disk, with a flipped byte in the middle of each of these."""
    kv = open_rocks(str(path))
    batch = Batch()
    for key, value in node.rows._rows.items():
        batch.put(key, value)
    await kv.commit(batch)
    await kv.close()
    db = Rdict(str(path), Options(raw_mode=True))
    db.flush()
    db.close()
    for index in indexes:
        keys = sorted(key for key in node.rows._rows if key.startswith(index))
        middle = keys[len(keys) // 2]
        for table in path.glob("*.sst"):
            await flip_until_unreadable(path, table, middle)
    return open_rocks(str(path))


async def flip_until_unreadable(path: Path, table: Path, key: bytes) -> None:
    """Blocks are compressed, so where a row lies is found by trying."""
    whole = table.read_bytes()
    for at in range(0, len(whole) * 9 // 10, 700):
        data = bytearray(whole)
        data[at] ^= 0x18
        table.write_bytes(data)
        try:
            kv = open_rocks(str(path))
        except KvDamaged:
            continue
        try:
            kv.get(key)
        except KvDamaged:
            return
        finally:
            await kv.close()
    table.write_bytes(whole)
    raise AssertionError(f"no byte of {key!r} found")

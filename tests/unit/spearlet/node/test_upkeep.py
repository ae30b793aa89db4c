"""Garbage goes and nothing else; a backup brings the whole node back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from node_runs import CODE, DIGEST, INSTANT, Bench, answer, bench

from spear.errors import AlreadyExists, InvalidArgument, KvDamaged, NotFound
from spear.kv.rocks import open_rocks
from spear.records.task import Retry
from spear.spearlet.node import upkeep
from spear.telemetry.redact import Redactor

LARGE = bytes(range(256)) * 1000


def files(folder: Path) -> set[str]:
    kinds = ("artifacts", "inputs", "objects", "results")
    return {path.name for kind in kinds for path in (folder / kind).rglob("*") if path.is_file()}


async def test_garbage_goes_and_what_is_named_stays(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        execution = await services.invoke("work", LARGE)
        await services.put_object("shared/a", LARGE, durable=True)
        kept = files(tmp_path)
        for kind in ("artifacts", "inputs", "objects", "results"):
            (tmp_path / kind / "ab").mkdir(parents=True, exist_ok=True)
            (tmp_path / kind / "ab" / ("ab" + "0" * 62)).write_bytes(b"left by a crash")
            (tmp_path / kind / "writing-1-1").write_bytes(b"half")
        found = await services.collect_garbage()
        assert {k: v for k, v in found.items() if v} == {
            "artifacts": 2, "inputs": 2, "objects": 2, "results": 2,
        }  # fmt: skip
        assert files(tmp_path) == kept
        assert (await services.wait(execution.id)).output == LARGE


async def test_an_input_lives_as_long_as_its_execution(tmp_path: Path):
    async with bench(tmp_path) as node:
        services = await node.ready()
        one = await services.submit("work", LARGE)
        two = await services.submit("work", LARGE)
        runs = [await node.run(0), await node.run(1)]
        assert len(list((tmp_path / "inputs").rglob("??*/*"))) == 1
        await services.collect_garbage()
        runs[0].finish()
        await services.wait(one.id)
        assert len(list((tmp_path / "inputs").rglob("??*/*"))) == 1
        runs[1].finish()
        await services.wait(two.id)
        assert not list((tmp_path / "inputs").rglob("??*/*"))


async def test_a_result_lives_as_long_as_the_last_execution_that_has_it(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        one = await services.invoke("work", LARGE)
        two = await services.invoke("work", LARGE)
        await services.remove(one.id)
        assert (await services.wait(two.id)).output == LARGE
        await services.remove(two.id)
        assert not list((tmp_path / "results").rglob("??*/*"))


async def test_a_result_goes_with_two_executions_that_are_forgotten_in_one_turn(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        one = await services.invoke("work", LARGE)
        two = await services.invoke("work", LARGE)
        await asyncio.gather(services.remove(one.id), services.remove(two.id))
        assert not list((tmp_path / "results").rglob("??*/*"))


async def test_the_log_of_an_earlier_attempt_goes_with_its_record(tmp_path: Path):
    async with bench(tmp_path) as node:
        services = await node.ready(retry=Retry(attempts=2, backoff_ns=INSTANT, on=("TRAP",)))
        running = asyncio.ensure_future(services.invoke("work"))
        run = await node.run(0)
        run.log("first")
        run.finish("failed", "trap")
        (await node.run(1)).finish()
        execution = await running
        assert (execution.log_lines, await node.logged(execution.id)) == (0, ["first"])
        await services.remove(execution.id)
        assert list(node._logs(Redactor()).read(execution.id, "work")) == []


async def whole_node(folder: Path) -> tuple[Bench, str]:
    node = Bench(folder / "data", answer)
    (folder / "data").mkdir()
    services = await node.ready()
    execution = await services.invoke("work", LARGE)
    await services.put_object("shared/a", LARGE, durable=True)
    return node, execution.id


async def test_a_backup_brings_everything_back(tmp_path: Path):
    node, id = await whole_node(tmp_path)
    copied = await node.services.backup(str(tmp_path / "backup"))
    assert copied == {"artifacts": 1, "inputs": 0, "objects": 1, "results": 1}
    with pytest.raises(AlreadyExists, match="new folder"):
        await node.services.backup(str(tmp_path / "backup"))
    await node.stop()
    found = await upkeep.restore(str(tmp_path / "backup"), str(tmp_path / "other"))
    assert found["results"] == 1
    other = Bench(tmp_path / "other", answer)
    kv = open_rocks(str(tmp_path / "other" / "metadata"))
    for key, value in kv.scan(b"", limit=1000):
        other.rows._rows[key] = value
    other.rows._keys = sorted(other.rows._rows)
    await kv.close()
    services = await other.start()
    assert (await services.wait(id)).output == LARGE
    assert (await services.get_object("shared/a"))[1] == LARGE
    assert (await services.invoke("work", b"again")).output == b"again"
    assert b"".join([part async for part in services.read_artifact(DIGEST)]) == CODE
    await other.stop()


async def test_a_backup_that_is_damaged_restores_nothing(tmp_path: Path):
    node, _ = await whole_node(tmp_path)
    await node.services.backup(str(tmp_path / "backup"))
    await node.stop()
    (result,) = (tmp_path / "backup" / "results").rglob("??*/*")
    result.write_bytes(b"x" + LARGE[1:])
    with pytest.raises(KvDamaged):
        await upkeep.restore(str(tmp_path / "backup"), str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "other.restoring").exists()


async def test_a_restore_goes_over_nothing(tmp_path: Path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "metadata.archive").touch()
    with pytest.raises(AlreadyExists, match="not empty"):
        await upkeep.restore(str(tmp_path / "backup"), str(tmp_path / "full"))
    with pytest.raises(NotFound, match="no backup"):
        await upkeep.restore(str(tmp_path / "full"), str(tmp_path / "other"))


async def test_work_goes_on_while_a_backup_is_made(tmp_path: Path):
    node, _ = await whole_node(tmp_path)
    services = node.services
    making = asyncio.ensure_future(services.backup(str(tmp_path / "backup")))
    while not making.done():
        execution = await services.invoke("work", LARGE)
        await services.remove(execution.id)
        await asyncio.sleep(0)
    await making
    with pytest.raises(InvalidArgument, match="absolute"):
        await services.backup("here")
    await services.collect_garbage()
    await node.stop()

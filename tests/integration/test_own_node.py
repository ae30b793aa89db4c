"""Spearlet.open: the whole node in a process of the caller's."""

from __future__ import annotations

from pathlib import Path

import pytest
from guest_runs import guest_bytes

import spear
from spear.errors import KvLocked, NotFound
from spear.records.task import TaskSpec

SETTINGS = {"cache_dir": "off"}


async def test_what_it_keeps_is_there_again(tmp_path: Path):
    folder = str(tmp_path / "data")
    async with spear.Spearlet.open(folder, SETTINGS) as node:
        artifact = await node.put_artifact(guest_bytes("answer"))
        await node.register(TaskSpec(name="answer", artifact=artifact.digest, args=("Ada",)))
        first = await node.invoke("answer", b"hello")
        assert (first.status, first.durability) == ("completed", "crash")
    async with spear.Spearlet.open(folder, SETTINGS) as node:
        again = await node.execution(first.id, include_output=True)
        assert again.output == first.output
        assert (await node.invoke("answer", b"hello")).output == first.output


async def test_one_process_has_a_directory(tmp_path: Path):
    async with spear.Spearlet.open(str(tmp_path / "data"), SETTINGS):
        with pytest.raises(KvLocked, match=str(tmp_path)):
            async with spear.Spearlet.open(str(tmp_path / "data"), SETTINGS):
                pass


async def test_without_a_directory_it_keeps_nothing():
    async with spear.Spearlet.open(settings=SETTINGS) as node:
        artifact = await node.put_artifact(guest_bytes("hello"))
        execution = await node.invoke(TaskSpec(name="hello", artifact=artifact.digest))
        assert execution.durability == "volatile"
        assert (await node.info())["durability"] == "volatile"
    async with spear.Spearlet.open(settings=SETTINGS) as node:
        with pytest.raises(NotFound):
            await node.execution(execution.id)

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


async def test_a_function_of_who_opened_it_has_a_say_in_who_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))  # no configuration of who runs the tests

    def nobody(question: spear.Question) -> spear.Verdict:
        return spear.Verdict(rejected=True, message=f"not {question.candidates[0].spec.name}")

    async with spear.Spearlet.open(settings=SETTINGS, router_filter=nobody) as node:
        artifact = await node.put_artifact(guest_bytes("talker"))
        spec = TaskSpec(name="talker", artifact=artifact.digest, args=("m=hi", "s=0"))
        assert b"not stub" in (await node.invoke(spec)).output

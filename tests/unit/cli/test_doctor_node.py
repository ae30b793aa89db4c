"""What doctor finds of a node and of the room for what it keeps."""

from __future__ import annotations

import asyncio
import os
from collections import namedtuple
from pathlib import Path

import pytest
from doors import config_of, fake_node, frame_door

from spear.cli.verbs.machine import doctor_node
from spear.cli.verbs.machine.finding import Finding


async def asked_of(tmp_path: Path, version: str) -> Finding:
    """In a thread, as a command would; the node answers here."""
    async with fake_node() as node, frame_door(node, tmp_path):
        info = await node.info() | {"version": version}

        async def told() -> dict[str, str]:
            return info

        node.info = told  # type: ignore[method-assign]
        return await asyncio.to_thread(doctor_node._node, config_of(tmp_path))


async def test_a_node_that_answers_is_told_with_its_version(tmp_path: Path) -> None:
    found = await asked_of(tmp_path, "0.1.0")
    assert (found.verdict, found.found.endswith("version 0.1.0")) == ("ok", True)


async def test_a_node_of_another_version_is_noted(tmp_path: Path) -> None:
    found = await asked_of(tmp_path, "0.0.9")
    assert (found.verdict, "this command is 0.1.0" in found.found) == ("note", True)


def test_no_node_is_no_fault(tmp_path: Path) -> None:
    assert doctor_node._node(config_of(tmp_path)) == (
        "node", "note", "none runs here", "spear up starts one",
    )  # fmt: skip


def test_a_socket_nobody_listens_at_is_noted(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    os.makedirs(os.path.dirname(config.socket_path))
    Path(config.socket_path).touch()
    found = doctor_node._node(config)
    assert (found.verdict, "no node answers" in found.found) == ("note", True)


Room = namedtuple("Room", "f_bavail f_frsize")


@pytest.mark.parametrize(("blocks", "verdict"), [(1 << 20, "ok"), (1 << 10, "note")])
def test_the_room_of_the_disk_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int, verdict: str
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: Room(blocks, 4096))
    found = doctor_node._room(str(tmp_path / "data" / "spear"))
    assert (found.verdict, "made when first needed" in found.found) == (verdict, True)

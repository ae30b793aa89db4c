"""Files that a verb writes are whole or not there."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spear.cli.visits import files
from spear.errors import InvalidArgument, NotFound, Unreachable


async def parts(*found: bytes, then: Exception | None = None) -> AsyncIterator[bytes]:
    for part in found:
        yield part
    if then is not None:
        raise then


async def test_a_file_is_replaced_once_all_of_it_is_there(tmp_path: Path) -> None:
    target = tmp_path / "answer"
    target.write_bytes(b"old")
    assert await files.write(parts(b"new ", b"one"), str(target)) == 7
    assert target.read_bytes() == b"new one"
    assert list(tmp_path.iterdir()) == [target]


async def test_what_breaks_off_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "answer"
    target.write_bytes(b"old")
    with pytest.raises(Unreachable):
        await files.write(parts(b"new", then=Unreachable("gone")), str(target))
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


async def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    target = tmp_path / "pipe"
    os.mkfifo(target)
    reader = os.open(target, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert await files.write(parts(b"new ", b"one"), str(target)) == 7
        assert os.read(reader, 100) == b"new one"
    finally:
        os.close(reader)
    assert target.is_fifo()
    assert list(tmp_path.iterdir()) == [target]


async def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="directory"):
        await files.write(parts(b"new"), str(tmp_path))


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing"):
        files.opened(str(tmp_path / "nothing"))
    with pytest.raises(InvalidArgument, match="directory"):
        files.opened(str(tmp_path))

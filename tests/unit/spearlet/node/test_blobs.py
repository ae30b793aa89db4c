"""Files by their digest: whole or not there, whatever cuts a writer short."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spear.errors import KvDamaged, NotFound
from spear.spearlet.node import blobs
from spear.spearlet.node.blobs import Blobs

DATA = b"x" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


async def data() -> AsyncIterator[bytes]:
    yield DATA


async def test_two_writers_never_share_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """They are threads, and the other may come between any two steps of the one."""
    found, folder = [], Blobs(str(tmp_path))
    real = os.getpid

    def other_comes() -> int:
        monkeypatch.setattr(os, "getpid", real)
        found.append(folder._temporary())
        return real()

    monkeypatch.setattr(os, "getpid", other_comes)
    found.append(folder._temporary())
    assert len(set(found)) == 2


async def test_what_a_process_of_the_same_id_left_half_written_is_in_nobodys_way(tmp_path: Path):
    (tmp_path / f"writing-{os.getpid()}-1").write_bytes(b"half" * 1000)
    folder = Blobs(str(tmp_path))
    assert await folder.put_stream(data(), bytes_max=5000) == (DIGEST, len(DATA))
    assert await folder.read(DIGEST) == DATA


async def test_what_a_crash_left_half_written_is_not_copied(tmp_path: Path):
    folder = Blobs(str(tmp_path / "a"))
    await folder.put(DATA, sync=False)
    (tmp_path / "a" / "writing-1-1").write_bytes(b"half")
    assert await folder.copy_to(str(tmp_path / "b")) == 1
    assert await Blobs(str(tmp_path / "b")).read(DIGEST) == DATA


@pytest.mark.parametrize("step", ["_written", "sync_folder"])
async def test_a_writer_that_is_cancelled_leaves_nothing_to_its_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
):
    """The thread's descriptor must not be closed, and then be another file's, under it."""
    loop, begun, go, open_after = asyncio.get_running_loop(), asyncio.Event(), threading.Event(), []
    real = getattr(blobs, step)

    def slow(*given: object) -> None:
        loop.call_soon_threadsafe(begun.set)
        go.wait(20)
        if step == "_written":
            open_after.append(os.fstat(given[0]).st_ino)  # type: ignore[call-overload]
        real(*given)

    monkeypatch.setattr(blobs, step, slow)
    folder = Blobs(str(tmp_path))
    writing = asyncio.ensure_future(folder.put_stream(data(), bytes_max=5000))
    await begun.wait()
    writing.cancel()
    loop.call_soon(loop.call_soon, go.set)
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert bool(open_after) == (step == "_written")
    assert not folder._held
    assert not folder._writing
    assert not list(tmp_path.glob("writing-*"))


LARGE = bytes(range(256)) * 10_000  # more than is read at once, and no multiple of it


async def test_what_is_read_in_pieces_is_whole_also_where_it_is_deleted_meanwhile(tmp_path: Path):
    folder = Blobs(str(tmp_path))
    digest = await folder.put(LARGE, sync=False)
    folder.let_go(digest)
    chunks = folder.chunks(digest)
    first = await anext(chunks)
    folder.delete(digest)
    assert await folder.sweep(lambda name: False) == 0
    rest = [chunk async for chunk in chunks]
    assert max(map(len, rest)) == len(first) == blobs.CHUNK_BYTES
    assert first + b"".join(rest) == LARGE
    folder.delete(digest)
    assert folder.size(digest) == 0


async def test_a_reader_that_gives_up_holds_nothing(tmp_path: Path):
    folder = Blobs(str(tmp_path))
    digest = await folder.put(LARGE, sync=False)
    folder.let_go(digest)
    chunks = folder.chunks(digest)
    await anext(chunks)
    await chunks.aclose()
    folder.delete(digest)
    assert folder.size(digest) == 0


async def test_damage_is_told_before_the_first_piece_and_a_cut_file_where_it_ends(tmp_path: Path):
    folder = Blobs(str(tmp_path))
    digest = await folder.put(LARGE, sync=False)
    (path,) = tmp_path.rglob(digest)
    chunks = folder.chunks(digest)
    await anext(chunks)
    os.truncate(path, len(LARGE) - 1)
    with pytest.raises(KvDamaged, match="cut while it was read"):
        async for _ in chunks:
            pass
    with pytest.raises(KvDamaged, match="put it again"):
        await anext(folder.chunks(digest))
    path.unlink()
    with pytest.raises(NotFound):
        await anext(folder.chunks(digest))

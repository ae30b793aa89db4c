"""The flushes of a store on disk: what they sync, what they note, and on which loop they end."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from spear._core.flushthread import FlushThread
from spear.kv import flusher
from spear.kv.flusher import Flusher
from spear.kv.watermark import Mark, read_mark

MANIFEST = "MANIFEST-000003"
LOG = "000004.log"
LOOPS = [asyncio.SelectorEventLoop, uvloop.new_event_loop]


class Seen:
    """The flush thread, and the names of what each flush was handed."""

    handed: list[list[str]]
    error = 0

    def __init__(self) -> None:
        self._thread = FlushThread()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._thread, name)

    def begin(self, files: list[int], folder: int = -1) -> None:
        found = [*files, *([folder] if folder >= 0 else [])]
        self.handed.append([Path(os.readlink(f"/proc/self/fd/{one}")).name for one in found])
        self._thread.begin(files, folder)

    def ended(self) -> int | None:
        found = self._thread.ended()
        return found if found is None else self.error


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> type[Seen]:
    class Own(Seen):
        handed: list[list[str]] = []  # noqa: RUF012

    monkeypatch.setattr(flusher, "FlushThread", Own)
    return Own


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "kv"
    made.mkdir()
    (made / "CURRENT").write_text(f"{MANIFEST}\n")
    (made / MANIFEST).write_bytes(record(9))
    (made / LOG).touch()
    return made


def record(size: int) -> bytes:
    """As the manifest has it: checksum, length, kind, bytes."""
    return b"crc!" + size.to_bytes(2, "little") + b"\1" + bytes(size)


async def flush(made: Flusher, sequence: int) -> OSError | None:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[OSError | None] = loop.create_future()
    made.listen(loop)
    made.begin(sequence, ended.set_result)
    return await ended


def end(made: Flusher) -> None:
    made.stop()
    made.join()
    made.close()


async def test_a_flush_syncs_what_may_be_unsafe_and_no_more(folder: Path, seen: type[Seen]) -> None:
    made = Flusher(str(folder), 1, 99)
    for sequence in (2, 3):
        assert await flush(made, sequence) is None
    with (folder / MANIFEST).open("ab") as file:
        file.write(record(1))
    (folder / "000007.log").touch()
    for sequence in (4, 5):
        assert await flush(made, sequence) is None
    assert seen.handed == [
        [LOG, MANIFEST, "kv"],
        [LOG],
        [LOG, "000007.log", MANIFEST, "kv"],
        ["000007.log"],
    ]
    end(made)


async def test_what_is_noted_was_synced(folder: Path, seen: type[Seen]) -> None:
    """The manifest may grow once a flush has begun, and the next may begin before it is noted."""
    made = Flusher(str(folder), 1, 99)
    made.note()
    assert read_mark(str(folder)) == Mark(1, MANIFEST, 16)
    assert await flush(made, 2) is None
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[OSError | None] = loop.create_future()
    with (folder / MANIFEST).open("ab") as file:
        file.write(record(1))
    made.begin(3, ended.set_result)
    made.note()
    assert read_mark(str(folder)) == Mark(2, MANIFEST, 16)
    assert await ended is None
    made.note()
    assert read_mark(str(folder)) == Mark(3, MANIFEST, 24)
    end(made)


async def test_after_a_failure_the_same_is_unsafe_still(folder: Path, seen: type[Seen]) -> None:
    made = Flusher(str(folder), 1, 99)
    seen.error = errno.ENOSPC
    error = await flush(made, 2)
    assert error is not None
    assert (error.errno, error.filename) == (errno.ENOSPC, str(folder))
    assert "No space left on device" in str(error)
    made.note()
    assert read_mark(str(folder)) == Mark(1, MANIFEST, 16)
    seen.error = 0
    assert await flush(made, 3) is None
    assert seen.handed == [[LOG, MANIFEST, "kv"]] * 2
    end(made)


async def test_one_that_cannot_be_decided_has_not_begun(
    folder: Path, seen: type[Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Flusher(str(folder), 1, 99)

    def refused(*_: object) -> int:
        raise OSError("planted")

    with monkeypatch.context() as broken, pytest.raises(OSError, match="planted"):
        broken.setattr(os, "listdir", refused)
        made.begin(2, lambda error: None)
    assert seen.handed == []
    assert await flush(made, 2) is None
    end(made)


@pytest.mark.parametrize("second", LOOPS)
@pytest.mark.parametrize("first", LOOPS)
def test_a_flush_that_outlives_its_loop_is_heard_by_the_next(
    folder: Path, first: Callable[[], Any], second: Callable[[], Any]
) -> None:
    made = Flusher(str(folder), 1, 99)
    ends: list[OSError | None] = []

    async def begin() -> None:
        made.listen(asyncio.get_running_loop())
        made.begin(2, ends.append)

    async def hear() -> None:
        made.listen(asyncio.get_running_loop())
        async with asyncio.timeout(60):
            while not ends:
                await asyncio.sleep(0.001)
        assert await flush(made, 3) is None
        end(made)

    with asyncio.Runner(loop_factory=first) as runner:
        runner.run(begin())
    with asyncio.Runner(loop_factory=second) as runner:
        runner.run(hear())
    assert ends == [None]


@pytest.mark.parametrize("factory", LOOPS)
def test_one_that_is_dropped_leaves_nothing(folder: Path, factory: Callable[[], Any]) -> None:
    """Its loop goes on, and does not keep it. Its files are those of its owner to close."""

    async def use() -> None:
        loop = asyncio.get_running_loop()
        for sequence in range(2, 12):
            made = Flusher(str(folder), 1, 99)
            assert await flush(made, sequence) is None
            watched, files = made._thread.descriptor, (made._logs, made._mark)
            del made
            gc.collect()
            assert not loop.remove_reader(watched)
            for one in files:
                one.close()
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(use())


async def test_without_memory_none_has_begun(
    folder: Path, seen: type[Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Flusher(str(folder), 1, 99)

    def no_memory(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as broken, pytest.raises(OSError, match="Cannot allocate"):
        broken.setattr(made._thread, "begin", no_memory, raising=False)
        made.begin(2, lambda error: None)
    assert seen.handed == []
    assert await flush(made, 2) is None
    end(made)


async def test_a_log_that_cannot_be_closed_fails_the_flush(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a network's file system may: else who waits would hear of nothing."""
    made = Flusher(str(folder), 1, 99)
    assert await flush(made, 2) is None
    (folder / "000007.log").touch()

    def refused(descriptor: int) -> None:
        sound(descriptor)
        raise OSError(errno.EIO, "planted")

    sound = os.close
    with monkeypatch.context() as broken:
        broken.setattr(os, "close", refused)
        error = await asyncio.wait_for(flush(made, 3), 60)
    assert error is not None
    assert error.errno == errno.EIO
    made.note()
    assert read_mark(str(folder)) == Mark(2, MANIFEST, 16)
    end(made)


FORKED = """
import asyncio, os, sys, uvloop
from spear.kv.flusher import Flusher

async def flush(made, sequence):
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    made.listen(loop)
    made.begin(sequence, ended.set_result)
    assert await asyncio.wait_for(ended, 60) is None

async def use():
    made = Flusher(sys.argv[1], 1, 99)
    await flush(made, 2)
    child = os.fork()
    if child == 0:
        del made
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    await flush(made, 3)

for factory in (asyncio.SelectorEventLoop, uvloop.new_event_loop):
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(use())
"""


def test_a_forked_child_takes_no_end_away(folder: Path) -> None:
    """It has what the loop watches in common with its parent."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("7\n7\n", "")


async def test_of_what_was_stopped_nobody_hears(folder: Path) -> None:
    made = Flusher(str(folder), 1, 99)
    ends: list[OSError | None] = []
    made.listen(asyncio.get_running_loop())
    made.begin(2, ends.append)
    made.stop()
    made.join()
    for _ in range(5):
        await asyncio.sleep(0)
    assert ends == []
    made.close()


def test_one_that_cannot_be_made_leaves_no_descriptor(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError("planted")

    before = len(os.listdir("/proc/self/fd"))
    for name in ("FlushThread", "LiveLogs", "Watermark"):
        with monkeypatch.context() as broken, pytest.raises(OSError, match="planted"):
            broken.setattr(flusher, name, refused)
            Flusher(str(folder), 1, 99)
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) == before

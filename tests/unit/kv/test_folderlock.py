"""The lock of a store's folder ends with the process, or the object, that took it."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kv_marks import note_what_is_safe

from spear.errors import KvError, KvLocked
from spear.kv.batch import Batch
from spear.kv.folderlock import FolderLock
from spear.kv.rocks import open_rocks

# Opens a store, forks a child that outlives it, and dies.
FORKS = """
import os, signal, sys
from spear.kv.rocks import open_rocks
kv = open_rocks(sys.argv[1])
if os.fork() == 0:
    print("forked", flush=True)
    sys.stdin.read()
    os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_a_forked_child_does_not_keep_it_once_its_parent_is_dead(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    command = (sys.executable, "-c", FORKS, str(tmp_path))
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"forked\n"
        process.wait()
        await open_rocks(str(tmp_path)).close()


def test_another_one_is_refused_while_it_is_held(tmp_path: Path) -> None:
    lock = FolderLock(str(tmp_path))
    with pytest.raises(KvLocked, match=str(tmp_path)):
        FolderLock(str(tmp_path))
    lock.release()
    lock.release()
    FolderLock(str(tmp_path)).release()


def test_it_is_given_up_for_whoever_has_the_descriptor_too(tmp_path: Path) -> None:
    """As a child has it that was forked where Python does not hear of it."""
    lock = FolderLock(str(tmp_path))
    copy = os.dup(lock._folder)
    lock.release()
    FolderLock(str(tmp_path)).release()
    os.close(copy)


def test_the_parent_has_it_still_when_a_child_has_forgotten_it(tmp_path: Path) -> None:
    lock = FolderLock(str(tmp_path))
    copy = os.dup(lock._folder)
    lock.forget()
    with pytest.raises(KvLocked):
        FolderLock(str(tmp_path))
    os.close(copy)
    lock.release()


@pytest.mark.parametrize("used", [False, True])
async def test_a_store_that_is_dropped_gives_it_up(tmp_path: Path, used: bool) -> None:
    """Also once it has a thread of its own."""
    kv = open_rocks(str(tmp_path))
    if used:
        batch = Batch()
        batch.put(b"key", b"value")
        await kv.commit(batch)
        await asyncio.sleep(0)  # the committer looks whether more is to be flushed
        note_what_is_safe(kv)
    del kv
    gc.collect()
    kv = open_rocks(str(tmp_path))
    assert kv.get(b"key") == (b"value" if used else None)
    await kv.close()


@pytest.mark.parametrize("number", [errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(folder: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    descriptors = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", flock)
        with pytest.raises(KvError, match="keep the data directory on a disk of this machine"):
            open_rocks(str(tmp_path))
    assert len(os.listdir("/proc/self/fd")) == descriptors

"""Whether a folder has got a new file: never missed, also where the system does not tell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from spear._core.folderwatch import FolderWatch


def test_a_new_file_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "older").touch()
    watch = FolderWatch(str(tmp_path))
    assert not watch.changed()
    for name in ("a", "b"):
        (tmp_path / name).touch()
        assert watch.changed()
        assert not watch.changed()


def test_one_that_is_moved_there_is_new_and_writes_and_ends_are_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "elsewhere").touch()
    (folder / "here").touch()
    watch = FolderWatch(str(folder))
    (folder / "here").write_text("more")
    os.truncate(folder / "here", 100)
    (folder / "here").unlink()
    assert not watch.changed()
    (tmp_path / "elsewhere").rename(folder / "name")
    assert watch.changed()
    (folder / "name").rename(folder / "another")
    assert watch.changed()


def test_many_at_once_are_told_together(tmp_path: Path) -> None:
    watch = FolderWatch(str(tmp_path))
    for number in range(1000):
        (tmp_path / f"{number:0200}").touch()
    assert watch.changed()
    assert not watch.changed()


def test_a_folder_that_is_not_watched_may_have_changed(tmp_path: Path) -> None:
    watch = FolderWatch(str(tmp_path / "gone"))
    assert watch.changed()
    assert watch.changed()
    closed = FolderWatch(str(tmp_path))
    for _ in range(2):
        closed.close()
    assert closed.changed()


def test_what_the_system_fails_to_tell_may_be_a_change(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    own = os.dup(writer)
    os.close(own)
    watch = FolderWatch(str(tmp_path))
    assert os.readlink(f"/proc/self/fd/{own}") == "anon_inode:inotify"
    os.dup2(writer, own)  # not to be read: EBADF
    assert watch.changed()
    assert watch.changed()
    for descriptor in (reader, writer):
        os.close(descriptor)


def test_nothing_of_it_is_left(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        FolderWatch(str(tmp_path))
        FolderWatch(str(tmp_path / "gone"))
    assert len(os.listdir("/proc/self/fd")) == before


LIMITED = """
import resource, sys
from spear._core.folderwatch import FolderWatch
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
print(FolderWatch(sys.argv[1]).changed())
"""


def test_without_a_descriptor_it_may_have_changed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("True\n", "")

"""Rotating files: limits, torn lines, and failures in between."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from manual_clock import ManualClock

from spear.telemetry import rotating
from spear.telemetry.rotating import Limits, Place, RotatingFile

HOUR = 3600 * 10**9
Make = Callable[..., RotatingFile]


def header(ns: int) -> bytes:
    return b"began %d\n" % ns


def began(line: bytes) -> int | None:
    return int(line[6:]) if line.startswith(b"began ") else None


@pytest.fixture
def make(tmp_path: Path, clock: ManualClock) -> Make:
    def file(size: int = 100, count: int = 3, age_ns: int = 0, **options: object) -> RotatingFile:
        limits = Limits(size, count, age_ns)
        path = str(tmp_path / "logs" / "spear.log")
        return RotatingFile(path, limits, clock, began, **options)  # type: ignore[arg-type]

    return file


def names(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "logs"))


def test_lines_are_in_the_file_at_once_and_only_its_owner_may_read(
    make: Make, tmp_path: Path
) -> None:
    assert make().write(b"one\n") == Place(1, 0, 4)
    path = tmp_path / "logs" / "spear.log"
    assert path.read_bytes() == b"one\n"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_full_file_gets_a_number_and_the_oldest_go(make: Make, tmp_path: Path) -> None:
    file = make(size=10, count=2)
    places = [file.write(b"line %d\n" % n) for n in range(5)]
    assert places == [Place(n, 0, 7) for n in (1, 2, 3, 4, 5)]
    assert names(tmp_path) == ["spear.000003.log", "spear.000004.log", "spear.log"]
    assert file.generations == [3, 4, 5]
    assert file.read(4, 0, 100) == b"line 3\n"
    assert file.read(5, 5, 100) == b"4\n"
    with pytest.raises(FileNotFoundError):
        file.read(2, 0, 100)


def test_a_batch_larger_than_a_file_stays_in_one(make: Make) -> None:
    file = make(size=10)
    file.write(b"x\n")
    assert file.write(b"long line\n" * 5) == Place(2, 0, 50)


def test_numbers_go_on_after_a_new_open(make: Make, tmp_path: Path) -> None:
    first = make(size=10)
    for n in range(3):
        first.write(b"line %d\n" % n)
    first.close()
    second = make(size=10)
    assert second.write(b"a\n") == Place(3, 7, 9)
    assert second.write(b"line 4\n") == Place(4, 0, 7)


def test_a_number_is_never_used_again_by_one_owner(make: Make) -> None:
    file = make(size=10, count=0)
    file.write(b"line 1\n")
    file.write(b"line 2\n")
    file.close()
    assert file.write(b"line 3\n").generation == 3


@pytest.mark.parametrize("torn", [b"half", b"half" * 50_000, b""])
@pytest.mark.parametrize("whole", [b"", b"one\ntwo\n"])
def test_a_torn_last_line_is_cut_off(make: Make, tmp_path: Path, whole: bytes, torn: bytes) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "spear.log").write_bytes(whole + torn)
    file = make(size=1 << 20)
    file.write(b"next\n")
    assert (tmp_path / "logs" / "spear.log").read_bytes() == whole + b"next\n"


def test_a_batch_that_does_not_fit_is_not_there_at_all(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = make()
    file.write(b"kept\n")
    real_write, room = os.write, [6]

    def full(fd: int, data: bytes) -> int:
        if room[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real_write(fd, bytes(data)[: room[0]])
        room[0] -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(rotating.os, "write", full)
        with pytest.raises(OSError, match="No space"):
            file.write(b"one\ntwo\n")
    assert (tmp_path / "logs" / "spear.log").read_bytes() == b"kept\n"
    assert file.write(b"later\n") == Place(1, 5, 11)


def test_what_could_not_be_cut_off_is_before_the_next_line(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = make()
    file.write(b"kept\n")
    real_write = os.write

    def torn(fd: int, data: bytes) -> int:
        real_write(fd, b"to")
        raise OSError(errno.EIO, "Input/output error")

    def refuse(fd: int, size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(rotating.os, "write", torn)
        patch.setattr(rotating.os, "ftruncate", refuse)
        with pytest.raises(OSError, match="Input/output"):
            file.write(b"torn\n")
    assert (tmp_path / "logs" / "spear.log").read_bytes() == b"kept\nto"
    file.write(b"later\n")
    assert (tmp_path / "logs" / "spear.log").read_bytes() == b"kept\nlater\n"


def test_a_directory_that_cannot_be_made_fails_the_write_until_it_can(
    make: Make, tmp_path: Path
) -> None:
    (tmp_path / "logs").write_text("in the way")
    file = make()
    with pytest.raises(OSError):
        file.write(b"one\n")
    (tmp_path / "logs").unlink()
    file.write(b"two\n")
    assert (tmp_path / "logs" / "spear.log").read_bytes() == b"two\n"


def test_a_link_in_the_place_of_the_file_is_not_followed(make: Make, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / "logs" / "spear.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        make().write(b"one\n")
    assert (tmp_path / "elsewhere").read_bytes() == b""


def test_lines_go_after_the_retention_and_a_quarter_also_when_nothing_is_written(
    make: Make, tmp_path: Path, clock: ManualClock
) -> None:
    file = make(age_ns=4 * HOUR, header=header)
    file.write(b"one\n")
    clock.advance(HOUR)
    file.write(b"two\n")  # an hour is a quarter: still the same file
    clock.advance(HOUR)
    assert file.write(b"three\n").generation == 2
    assert file.sweep() == 0
    clock.advance(3 * HOUR)
    assert file.sweep() == 0
    assert names(tmp_path) == ["spear.000001.log", "spear.000002.log"]
    clock.advance(1)
    assert file.sweep() == 1
    assert names(tmp_path) == ["spear.000002.log", "spear.log"]
    clock.advance(2 * HOUR)
    assert file.sweep() == 1
    assert names(tmp_path) == ["spear.log"]


def test_the_age_of_files_is_known_after_a_new_open(
    make: Make, tmp_path: Path, clock: ManualClock
) -> None:
    file = make(size=30, age_ns=4 * HOUR, header=header)
    file.write(b"one\n")
    file.write(b"two\n")
    clock.advance(5 * HOUR + 1)
    assert make(size=30, age_ns=4 * HOUR, header=header).sweep() == 2
    assert names(tmp_path) == []


def test_only_what_is_ours_is_removed(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    others = ["other.log", "spear.log.1", "spear.1.log", "spear.abcdef.log", "spear.000001.txt"]
    for name in others:
        (folder / name).write_text("not a log of ours")
    file = make(size=10, count=0)
    for _ in range(4):
        file.write(b"line 1\n")
    assert names(tmp_path) == sorted([*others, "spear.log"])


def test_companions_go_with_their_file_and_keep_its_number(make: Make, tmp_path: Path) -> None:
    ended: list[int] = []
    file = make(size=10, count=1, rotating=ended.append, companions=(".index",))
    file.write(b"line 1\n")
    (tmp_path / "logs" / "spear.000001.log.index").write_text("of 1")
    file.write(b"line 2\n")
    file.write(b"line 3\n")
    assert ended == [1, 2]
    assert names(tmp_path) == ["spear.000002.log", "spear.log"]
    (tmp_path / "logs" / "spear.000007.log.index").write_text("of the written one")
    file.close()
    assert file.write(b"x\n").generation == 7


def test_a_file_that_somebody_removed_is_made_again_by_a_sweep(make: Make, tmp_path: Path) -> None:
    file = make()
    file.write(b"one\n")
    (tmp_path / "logs" / "spear.log").unlink()
    file.sweep()
    file.write(b"two\n")
    assert (tmp_path / "logs" / "spear.log").read_bytes() == b"two\n"


def test_the_oldest_goes_when_asked_for_in_the_end_the_written_one(
    make: Make, tmp_path: Path
) -> None:
    file = make(size=10)
    file.write(b"line 1\n")
    file.write(b"line 2\n")
    file.remove_oldest()
    assert names(tmp_path) == ["spear.log"]
    file.remove_oldest()
    file.remove_oldest()
    assert names(tmp_path) == ["spear.log"]
    assert file.remove_folder()
    assert not (tmp_path / "logs").exists()
    assert file.write(b"again\n").generation == 3


def test_a_folder_with_lines_stays(make: Make, tmp_path: Path) -> None:
    file = make()
    file.write(b"one\n")
    assert not file.remove_folder()
    assert names(tmp_path) == ["spear.log"]

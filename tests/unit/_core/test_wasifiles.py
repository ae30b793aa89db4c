"""WASI's calls on descriptors: data, offsets, entries, flags, rights, numbers."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guest_runs import MS, assembled, ended, executor, guest
from wasi_script import (
    ALL,
    APPEND,
    BADF,
    CREATE,
    DIRECTORY,
    EXCLUSIVE,
    FAULT,
    FBIG,
    INVAL,
    ISDIR,
    MFILE,
    NAMETOOLONG,
    NOTCAPABLE,
    NOTDIR,
    NOTSUP,
    READ,
    ROFS,
    SCRATCH,
    SPIPE,
    SUCCESS,
    WRITE,
    Script,
    entries,
    play,
    tree,
)  # fmt: skip

from spear._core.executor import Executor
from spear._core.filetable import Directory
from spear.errors import InvalidArgument

BEYOND = 0xFFFFFFF0
REGULAR_TYPE, DIRECTORY_TYPE, STREAM_TYPE = 4, 3, 2


@pytest.fixture(scope="module")
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


@pytest.fixture
def granted(tmp_path: Path) -> Directory:
    return Directory(tmp_path, "/data", writable=True)


@pytest.fixture
def readable(tmp_path: Path) -> Directory:
    return Directory(tmp_path, "/data")


# ---- what is granted


def test_granted_directories_are_descriptors_3_and_up_under_their_names(
    node: Executor, tmp_path: Path
):
    tree(tmp_path, ["a/", "b/"])
    script = Script()
    rooms = [(script.room(8), script.room(500)) for _ in range(2)]
    for fd, (stat, name) in enumerate(rooms, 3):
        script.call("fd_prestat_get", fd, stat.at)
        script.call("fd_prestat_dir_name", fd, name.at, 500)
    script.call("fd_prestat_get", 5, SCRATCH)
    script.call("fd_prestat_dir_name", 3, rooms[0][1].at, 5)
    script.call("fd_prestat_get", 3, BEYOND)
    script.call("fd_prestat_dir_name", 3, BEYOND, 20)
    script.call("fd_prestat_get", 1, SCRATCH)
    answers = play(node, script, Directory(tmp_path / "a", "/first"), Directory(tmp_path / "b"))
    assert answers == [0, 0, 0, 0, BADF, NAMETOOLONG, FAULT, FAULT, BADF]
    names = ["/first", str(tmp_path / "b")]
    for (stat, name), expected in zip(rooms, names, strict=True):
        assert struct.unpack("<II", stat.bytes) == (0, len(expected))
        assert name.bytes.rstrip(b"\0") == expected.encode()


def test_a_directory_says_what_it_is(tmp_path: Path):
    made = Directory(tmp_path, "/d", writable=True)
    assert (made.host, made.guest, made.writable) == (str(tmp_path), "/d", True)
    assert repr(made) == f"<Directory {tmp_path}:/d:rw>"
    assert Directory(str(tmp_path)).guest == str(tmp_path)
    assert not Directory(tmp_path).writable


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("none", "No such file"), ("file", "not a directory"), ("", "1 to 4095 bytes"),
        ("a\0b", "without a NUL"), ("x" * 5000, "1 to 4095 bytes"),
    ],
)  # fmt: skip
def test_what_is_no_directory_is_refused(tmp_path: Path, host: str, message: str):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidArgument, match=message):
        Directory(host and f"{tmp_path}/{host}" if len(host) < 10 else host)


def test_names_for_the_guest_are_checked(tmp_path: Path):
    for name in ("a\0b", "x" * 5000):
        with pytest.raises(InvalidArgument, match="the guest's name"):
            Directory(tmp_path, name)


@pytest.mark.parametrize("names", [("/a", "/a"), ("/a", "a/"), (".", "/"), ("/a/b", "a//./b")])
def test_two_directories_of_one_name_are_refused(
    node: Executor, tmp_path: Path, names: tuple[str, str]
):
    dirs = [Directory(tmp_path, name) for name in names]
    with pytest.raises(InvalidArgument, match="give each a name of its own"):
        node.start(guest("hello"), dirs=dirs)


def test_the_same_directory_twice_is_one(node: Executor, readable: Directory):
    script = Script()
    script.call("fd_prestat_get", 4, SCRATCH)
    assert play(node, script, readable, readable) == [BADF]


@pytest.mark.parametrize("dirs", [["/tmp"], [None], [("/tmp", "/tmp")]])
def test_what_is_not_a_directory_object_is_refused(node: Executor, dirs: list[Any]):
    with pytest.raises(InvalidArgument, match="a sequence of Directory"):
        node.start(guest("hello"), dirs=dirs)


@pytest.mark.parametrize("count", [0, 15, 65_537, "many", True - 5])
def test_a_number_of_descriptors_out_of_range_is_refused(node: Executor, count: Any):
    with pytest.raises(InvalidArgument, match="descriptors_max"):
        node.start(guest("hello"), descriptors_max=count)


def test_more_directories_than_descriptors_are_refused(node: Executor, tmp_path: Path):
    dirs = [Directory(tmp_path, f"/{number}") for number in range(14)]
    with pytest.raises(InvalidArgument, match="14 directories are granted"):
        node.start(guest("hello"), dirs=dirs, descriptors_max=16)


def test_a_directory_is_what_it_was_when_it_was_granted(node: Executor, tmp_path: Path):
    tree(tmp_path, ["old/here", "other/there"])
    made = Directory(tmp_path / "old", "/d")
    (tmp_path / "old").rename(tmp_path / "moved")
    (tmp_path / "other").rename(tmp_path / "old")
    script = Script()
    script.stat(3, "here")
    script.stat(3, "there")
    assert play(node, script, made) == [SUCCESS, 44]


# ---- data


def test_what_is_written_can_be_read(node: Executor, granted: Directory, tmp_path: Path):
    script = Script()
    file = script.open(3, "new.txt", CREATE | EXCLUSIVE, ALL)
    script.write(file, b"hello ")
    script.write(file, b"files\n")
    tell = script.room(8)
    script.call("fd_tell", file, tell.at)
    sought = script.room(8)
    script.call("fd_seek", file, -6, 2, sought.at)
    tail = script.read(file, 100)
    script.pwrite(file, b"J", 0)
    script.call("fd_close", file)
    script.call("fd_close", file)
    assert play(node, script, granted) == [0] * 8 + [BADF]
    assert (tell.number, sought.number, tail.bytes[:7]) == (12, 6, b"files\n\0")
    assert (tmp_path / "new.txt").read_bytes() == b"Jello files\n"


def test_vectors_are_filled_in_their_order_and_a_short_file_ends_them(
    node: Executor, readable: Directory, tmp_path: Path
):
    (tmp_path / "f").write_bytes(bytes(range(100)))
    script = Script()
    file = script.open(3, "f")
    parts = [script.room(size) for size in (10, 0, 50, 100)]
    vectors = script.place(b"".join(struct.pack("<II", part.at, part.size) for part in parts))
    done, again = script.room(4), script.room(4)
    script.call("fd_read", file, vectors, 4, done.at)
    script.call("fd_pread", file, vectors, 1, 95, again.at)
    assert play(node, script, readable) == [0, 0, 0]
    assert (done.number, again.number) == (100, 5)
    assert parts[0].bytes == bytes([95, 96, 97, 98, 99, 5, 6, 7, 8, 9])
    assert parts[2].bytes + parts[3].bytes[:40] == bytes(range(10, 100))


def test_a_call_serves_64_vectors_and_16_mib(node: Executor, granted: Directory, tmp_path: Path):
    script = Script()
    file = script.open(3, "f", CREATE, ALL)
    vectors = script.place(struct.pack("<II", 64, 1) * 200)
    many, large = script.room(4), script.room(4)
    script.call("fd_write", file, vectors, 200, many.at)
    whole = script.place(struct.pack("<II", 0, 1 << 16) * 64)
    script.call("fd_write", file, whole, 64, large.at)
    assert play(node, script, granted) == [0, 0, 0]
    assert (many.number, large.number) == (64, 64 << 16)
    assert (tmp_path / "f").stat().st_size == 64 + (64 << 16)


def test_appending_writes_at_the_end_wherever_the_offset_is(
    node: Executor, granted: Directory, tmp_path: Path
):
    (tmp_path / "log").write_text("one\n")
    script = Script()
    file = script.open(3, "log", 0, ALL, APPEND)
    script.call("fd_seek", file, 0, 0, SCRATCH)
    script.write(file, b"two\n")
    stat = script.room(24)
    script.call("fd_fdstat_get", file, stat.at)
    script.call("fd_fdstat_set_flags", file, 0)
    script.call("fd_seek", file, 0, 0, SCRATCH)
    script.write(file, b"ONE")
    script.call("fd_fdstat_set_flags", file, 5)
    script.write(file, b"three\n")
    script.call("fd_fdstat_set_flags", file, 16)
    script.call("fd_fdstat_set_flags", file, 32)
    assert play(node, script, granted) == [0] * 9 + [NOTSUP, INVAL]
    assert (tmp_path / "log").read_text() == "ONE\ntwo\nthree\n"
    assert stat.bytes[0] == REGULAR_TYPE
    assert stat.bytes[2] == APPEND


@pytest.mark.parametrize("flags", [2, 8, 16, 31])
def test_synchronous_files_are_opened_and_stay_so(node: Executor, granted: Directory, flags: int):
    script = Script()
    file = script.open(3, "f", CREATE, ALL, flags)
    script.write(file, b"x")
    script.call("fd_fdstat_set_flags", file, flags ^ 5)
    script.call("fd_fdstat_set_flags", file, flags ^ 2)
    assert play(node, script, granted) == [0, 0, 0, NOTSUP]


def test_sizes_are_set_and_room_is_allocated(node: Executor, granted: Directory, tmp_path: Path):
    script = Script()
    file = script.open(3, "f", CREATE, ALL)
    script.call("fd_filestat_set_size", file, 100)
    script.call("fd_allocate", file, 50, 4096)
    script.call("fd_allocate", file, 0, 0)
    script.call("fd_allocate", file, -1, 5)
    script.call("fd_allocate", file, 0, (256 << 20) + 1)
    script.call("fd_filestat_set_size", file, -1)
    script.call("fd_sync", file)
    script.call("fd_datasync", file)
    script.call("fd_sync", 3)
    script.call("fd_advise", file, 0, 0, 3)
    script.call("fd_advise", file, 0, 0, 6)
    script.call("fd_advise", 3, 0, 0, 0)
    assert play(node, script, granted) == [
        0, 0, 0, INVAL, INVAL, FBIG, INVAL, 0, 0, 0, 0, INVAL, ISDIR,
    ]  # fmt: skip
    assert (tmp_path / "f").stat().st_size == 4146


def test_an_offset_that_no_file_has_is_an_error(node: Executor, granted: Directory):
    script = Script()
    file = script.open(3, "f", CREATE, ALL)
    script.pwrite(file, b"x", 2**62)
    script.pwrite(file, b"x", 2**63 - 1)
    script.pwrite(file, b"x", 2**63)
    script.call("fd_filestat_set_size", file, 2**63 - 1)
    script.call("fd_seek", file, -1, 0, SCRATCH)
    script.call("fd_seek", file, 0, 3, SCRATCH)
    script.call("fd_seek", file, 0, 0, BEYOND)
    script.call("fd_pread", file, SCRATCH, 0, 2**63, SCRATCH)
    answers = play(node, script, granted)
    assert set(answers[1:3]) <= {FBIG, INVAL}
    assert answers[3] == INVAL
    assert answers[4] in (FBIG, INVAL)
    assert answers[5:] == [INVAL, INVAL, FAULT, INVAL]


def test_times_are_set_as_asked(node: Executor, granted: Directory, tmp_path: Path):
    (tmp_path / "f").write_text("")
    os.utime(tmp_path / "f", (5, 5))
    script = Script()
    file = script.open(3, "f", 0, ALL)
    script.call("fd_filestat_set_times", file, 123_000_000_007, 9, 1)
    stat = script.room(64)
    script.call("fd_filestat_get", file, stat.at)
    for wrong in (3, 12, 16, -1):
        script.call("fd_filestat_set_times", file, 0, 0, wrong)
    script.call("path_filestat_set_times", 3, 1, "f", 7, 8 * 10**9, 4)
    script.call("fd_filestat_set_times", 3, 1, 2, 5)
    assert play(node, script, granted) == [0, 0, 0, INVAL, INVAL, INVAL, INVAL, 0, 0]
    found = struct.unpack("<8Q", stat.bytes)
    assert found[5:7] == (123_000_000_007, 5 * 10**9)
    assert (tmp_path / "f").stat().st_mtime_ns == 8 * 10**9
    assert (tmp_path / "f").stat().st_atime_ns == 123_000_000_007
    assert (tmp_path.stat().st_atime_ns, tmp_path.stat().st_mtime_ns) == (1, 2)


def test_a_file_is_described(node: Executor, readable: Directory, tmp_path: Path):
    (tmp_path / "f").write_text("12345")
    script = Script()
    file = script.open(3, "f")
    stat, fdstat = script.room(64), script.room(24)
    script.call("fd_filestat_get", file, stat.at)
    script.call("fd_fdstat_get", file, fdstat.at)
    beneath = script.room(64)
    script.call("fd_filestat_get", 3, beneath.at)
    script.call("fd_filestat_get", file, BEYOND)
    assert play(node, script, readable) == [0, 0, 0, 0, FAULT]
    host = (tmp_path / "f").stat()
    assert struct.unpack("<8Q", stat.bytes) == (
        host.st_dev, host.st_ino, REGULAR_TYPE, 1, 5, host.st_atime_ns, host.st_mtime_ns,
        host.st_ctime_ns,
    )  # fmt: skip
    assert fdstat.bytes[0] == REGULAR_TYPE
    assert beneath.bytes[16] == DIRECTORY_TYPE


# ---- kinds and rights


def test_a_directory_is_no_file(node: Executor, granted: Directory):
    script = Script()
    script.read(3, 10)
    script.write(3, b"x")
    script.call("fd_seek", 3, 0, 0, SCRATCH)
    script.call("fd_tell", 3, SCRATCH)
    script.call("fd_filestat_set_size", 3, 0)
    script.call("fd_allocate", 3, 0, 1)
    assert play(node, script, granted) == [ISDIR] * 6


def test_a_file_is_no_directory(node: Executor, granted: Directory, tmp_path: Path):
    (tmp_path / "f").write_text("")
    script = Script()
    file = script.open(3, "f", 0, ALL)
    script.open(file, "x")
    script.call("path_unlink_file", file, "x")
    script.readdir(file)
    script.call("path_unlink_file", 1, "x")
    assert play(node, script, granted) == [0] + [NOTDIR] * 4


def test_what_may_only_be_read_is_not_written(node: Executor, readable: Directory, tmp_path: Path):
    (tmp_path / "f").write_text("")
    os.utime(tmp_path / "f", (5, 5))
    script = Script()
    file = script.open(3, "f")
    script.write(file, b"x")
    script.pwrite(file, b"x", 0)
    script.call("fd_filestat_set_size", file, 0)
    script.call("fd_allocate", file, 0, 1)
    script.call("fd_filestat_set_times", file, 0, 0, 2)
    script.call("fd_filestat_set_times", 3, 0, 0, 2)
    script.call("fd_fdstat_set_flags", file, 1)
    assert play(node, script, readable) == [0] + [ROFS] * 6 + [0]
    assert (tmp_path / "f").stat().st_mtime == 5


def test_a_descriptor_has_the_rights_it_was_opened_with(node: Executor, granted: Directory):
    script = Script()
    out = script.open(3, "f", CREATE, WRITE)
    script.write(out, b"abc")
    script.read(out, 3)
    script.call("fd_seek", out, 0, 0, SCRATCH)
    script.call("fd_filestat_get", out, SCRATCH)
    into = script.open(3, "f", 0, READ)
    script.read(into, 3)
    script.write(into, b"x")
    assert play(node, script, granted) == [
        0, 0, NOTCAPABLE, NOTCAPABLE, NOTCAPABLE, 0, 0, NOTCAPABLE,
    ]  # fmt: skip


def test_rights_are_given_up_and_never_taken(node: Executor, granted: Directory, tmp_path: Path):
    (tmp_path / "d").mkdir()
    script = Script()
    script.call("fd_fdstat_set_rights", 3, 1 << 13, READ)
    script.call("fd_fdstat_set_rights", 3, 1 << 14, 0)
    script.call("fd_fdstat_set_rights", 3, 0, READ | WRITE)
    script.open(3, "d", DIRECTORY)
    script.open(3, "f", CREATE, READ)
    script.open(3, "f", 0, WRITE)
    script.call("path_unlink_file", 3, "f")
    script.readdir(3)
    script.call("fd_fdstat_set_rights", 1, 0, 0)
    script.write(1, b"nothing")
    script.call("fd_fdstat_set_rights", 9, 0, 0)
    module = assembled(script.wasm())
    run = node.start(module, dirs=[granted])
    assert ended(run).exit_code == 0
    assert run.output == b""  # it gave up its right to write
    assert list(tmp_path.iterdir()) == [tmp_path / "d"]


def test_what_a_directory_may_not_pass_on_is_refused_or_left_out(
    node: Executor, granted: Directory, tmp_path: Path
):
    tree(tmp_path, ["d/f"])
    script = Script()
    below = script.open(3, "d", DIRECTORY, ALL, inheriting=0)  # which takes nothing away
    script.open(below, "f", 0, READ | WRITE)
    script.call("fd_fdstat_set_rights", below, 1 << 13, READ | 1 << 2)
    file = script.open(below, "f", 0, READ | 1 << 21)
    script.call("fd_filestat_get", file, SCRATCH)
    script.read(file, 3)
    script.open(below, "f", 0, WRITE)
    assert play(node, script, granted) == [0, 0, 0, 0, NOTCAPABLE, 0, NOTCAPABLE]


# ---- numbers


def test_the_lowest_free_number_is_given(node: Executor, readable: Directory, tmp_path: Path):
    (tmp_path / "f").write_text("")
    script = Script()
    files = [script.open(3, "f") for _ in range(4)]
    script.call("fd_close", files[2])
    script.call("fd_close", files[1])
    script.call("fd_close", 3)
    again = [script.open(files[0], "f")]
    assert play(node, script, readable) == [0] * 7 + [NOTDIR]
    assert [file.number for file in files + again] == [4, 5, 6, 7, 0]
    script = Script()
    files = [script.open(3, "f") for _ in range(4)]
    script.call("fd_close", files[2])
    script.call("fd_close", files[1])
    again = [script.open(3, "f") for _ in range(3)]
    assert play(node, script, readable) == [0] * 9
    assert [file.number for file in again] == [5, 6, 8]


@pytest.mark.parametrize("limit", [16, 100])
def test_no_more_descriptors_are_given_than_the_limit(
    node: Executor, readable: Directory, tmp_path: Path, limit: int
):
    (tmp_path / "f").write_text("")
    script = Script()
    files = [script.open(3, "f") for _ in range(limit)]
    script.call("fd_close", files[0])
    again = script.open(3, "f")
    left = limit - 4
    answers = play(node, script, readable, descriptors_max=limit)
    assert answers == [0] * left + [MFILE] * 4 + [0, 0]
    assert files[left - 1].number == limit - 1
    assert again.number == 4


def test_descriptors_are_moved(node: Executor, granted: Directory, tmp_path: Path):
    tree(tmp_path, ["one", "two"])
    script = Script()
    one, two = script.open(3, "one"), script.open(3, "two")
    script.call("fd_renumber", one, two)
    read = script.read(two, 3)
    script.call("fd_tell", one, SCRATCH)
    script.call("fd_renumber", two, two)
    script.call("fd_renumber", two, one)
    script.call("fd_renumber", one, two)
    script.call("fd_renumber", -1, two)
    script.call("fd_renumber", 3, two)
    moved = script.stat(two, "one")
    script.call("fd_prestat_get", two, SCRATCH)
    script.call("fd_prestat_get", 3, SCRATCH)
    answers = play(node, script, granted)
    assert answers == [0, 0, 0, 0, BADF, 0, BADF, BADF, BADF, 0, 0, 0, BADF]
    assert read.bytes == b"one"
    assert moved.bytes[16] == REGULAR_TYPE


def test_stdout_becomes_a_file(node: Executor, granted: Directory, tmp_path: Path):
    script = Script()
    file = script.open(3, "out", CREATE, ALL)
    script.write(1, b"before ")
    script.call("fd_renumber", file, 1)
    script.write(1, b"after")
    run = node.start(assembled(script.wasm()), dirs=[granted], log_stdout=False)
    assert ended(run).exit_code == 0
    assert run.output == b"before "
    assert (tmp_path / "out").read_bytes().startswith(b"after" + struct.pack("<4I", 0, 0, 0, 0))


def test_streams_are_moved_and_closed(node: Executor):
    script = Script()
    script.call("fd_renumber", 1, 2)
    script.call("fd_renumber", 2, 0)
    script.write(0, b"by zero")
    script.read(0, 1)
    script.write(1, b"x")
    script.call("fd_close", 0)
    script.call("fd_close", 0)
    run = node.start(assembled(script.wasm()), stdin=b"input")
    assert ended(run).exit_code == 0
    assert run.output == b"by zero"


def test_a_stream_has_what_a_stream_has(node: Executor):
    script = Script()
    stats = [script.room(24) for _ in range(3)]
    for fd, stat in enumerate(stats):
        script.call("fd_fdstat_get", fd, stat.at)
        script.call("fd_seek", fd, 0, 0, SCRATCH)
        script.call("fd_filestat_set_times", fd, 0, 0, 0)
        script.call("fd_readdir", fd, SCRATCH, 0, 0, SCRATCH)
        script.call("fd_fdstat_set_flags", fd, APPEND)
    script.call("fd_fdstat_get", 0, SCRATCH)
    answers = play(node, script)
    assert answers == [0, SPIPE, INVAL, NOTDIR, 0] * 3 + [0]
    assert {stat.bytes[0] for stat in stats} == {STREAM_TYPE}


# ---- entries of directories


def listed(node: Executor, directory: Directory, size: int) -> list[tuple[str, int]]:
    """(name, type), read through buffers of `size`, each from the last whole entry on."""
    found: list[tuple[str, int]] = []
    cookie = 0
    while True:
        script = Script()
        room, used = script.readdir(3, size, cookie)
        assert play(node, script, directory) == [0]
        part = entries(room, used)
        found += [(name, kind) for name, kind, _ in part]
        if used.number < size:
            return found
        assert part, "a buffer for no entry"
        cookie = part[-1][2]


@pytest.mark.parametrize("size", [300, 1000, 60_000])
def test_entries_are_listed_once_each_whatever_the_buffer(
    node: Executor, readable: Directory, tmp_path: Path, size: int
):
    names = [f"{'n' * (number % 90)}{number}" for number in range(60)]
    tree(tmp_path, [*names, "d/"])
    (tmp_path / "link").symlink_to("d")
    os.mkfifo(tmp_path / "fifo")
    found = listed(node, readable, size)
    expected = dict.fromkeys(names, REGULAR_TYPE)
    expected |= {".": 3, "..": 3, "d": 3, "link": 7, "fifo": 0}
    assert dict(found) == expected
    assert len(found) == len(expected)


def test_ten_thousand_entries(node: Executor, readable: Directory, tmp_path: Path):
    for number in range(10_000):
        (tmp_path / f"{number}").touch()
    script = Script()
    room, used = script.readdir(3, 600_000)
    assert play(node, script, readable) == [0]
    names = [name for name, _, _ in entries(room, used)]
    assert len(names) == 10_002
    assert set(names) == {".", "..", *map(str, range(10_000))}


@pytest.mark.parametrize("size", [0, 1, 23, 24, 25, 26])
def test_a_short_buffer_is_filled_to_its_end(node: Executor, readable: Directory, size: int):
    script = Script()
    room, used = script.readdir(3, size)
    whole, _ = script.readdir(3, 100)
    assert play(node, script, readable) == [0, 0]
    assert used.number == size
    assert room.bytes == whole.bytes[:size]


def test_a_cookie_is_no_more_than_where_to_go_on(
    node: Executor, readable: Directory, tmp_path: Path
):
    tree(tmp_path, ["a", "b", "c"])
    script = Script()
    everything = script.readdir(3)
    again = script.readdir(3)
    for cookie in (2**63, 2**64 - 1):
        script.readdir(3, 4096, cookie)
    wild = [script.readdir(3, 4096, cookie) for cookie in (1, 12345, 2**62, 2**63 - 1)]
    script.call("fd_readdir", 3, BEYOND, 4096, 0, SCRATCH)
    script.call("fd_readdir", 3, SCRATCH, 4096, 0, BEYOND)
    answers = play(node, script, readable)
    assert answers[:4] == [0, 0, INVAL, INVAL]
    assert answers[-2:] == [FAULT, FAULT]
    assert entries(*everything) == entries(*again)
    for room, used in wild:
        assert used.number <= 4096
        assert {name for name, _, _ in entries(room, used)} <= {".", "..", "a", "b", "c"}


def test_what_lies_above_has_no_number(node: Executor, readable: Directory):
    script = Script()
    room, used = script.readdir(3)
    assert play(node, script, readable) == [0]
    inodes, at = {}, 0
    for name, _, _ in entries(room, used):
        (inodes[name],) = struct.unpack_from("<Q", room.bytes, at + 8)
        at += 24 + len(name)
    assert inodes[".."] == 0
    assert inodes["."] == os.stat(readable.host).st_ino


def test_entries_while_the_directory_changes(node: Executor, granted: Directory, tmp_path: Path):
    """What was there all the time is found once; what came or went is found or not."""
    kept = {f"kept-{number}" for number in range(200)}
    tree(tmp_path, kept)
    seen: list[str] = []
    cookie, turn = 0, 0
    while True:
        script = Script()
        room, used = script.readdir(3, 500, cookie)
        assert play(node, script, granted) == [0]
        part = entries(room, used)
        seen += [name for name, _, _ in part]
        if used.number < 500:
            break
        cookie = part[-1][2]
        (tmp_path / f"new-{turn}").touch()
        if turn > 0:
            (tmp_path / f"new-{turn - 1}").unlink()
        turn += 1
    assert sorted(name for name in seen if name.startswith("kept")) == sorted(kept)


# ---- waiting


def test_files_are_ready_at_once(node: Executor, readable: Directory, tmp_path: Path):
    (tmp_path / "f").write_bytes(bytes(1234))
    script = Script()
    file = script.open(3, "f")
    script.read(file, 34)
    events, count = script.room(5 * 32), script.room(4)
    wanted = [(1, 4), (2, 4), (1, 3), (1, 9), (0, 1)]  # kind and descriptor; at last a clock
    at = script.place(b"".join(
        struct.pack("<QB7xI4xQQH6x", n, kind, fd, 10**15, 0, 0)
        for n, (kind, fd) in enumerate(wanted)
    ))  # fmt: skip
    script.call("poll_oneoff", at, events.at, 5, count.at)
    assert play(node, script, readable, timeout_ns=20_000 * MS) == [0, 0, 0]
    found = [struct.unpack_from("<QHB5xQ", events.bytes, 32 * n) for n in range(count.number)]
    assert found == [(0, 0, 1, 1200), (1, 0, 2, 0), (2, 0, 1, 0), (3, BADF, 1, 0)]

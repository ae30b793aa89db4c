"""WASI's calls on paths: opening, names, links; and every way out of a directory that there is.

Rule: where a guard that is tested here does not hold, the guest reaches what it aims at. So calls
that change anything aim at files of the test's own folder, by whatever way; at a path of the system
(`/`, `/proc`, `/dev`) only calls that look.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from guest_runs import executor
from wasi_script import (
    ACCES,
    ALL,
    BADF,
    CREATE,
    DIRECTORY,
    EXCLUSIVE,
    EXIST,
    FAULT,
    FOLLOW,
    ILSEQ,
    INVAL,
    ISDIR,
    LOOP,
    NAMETOOLONG,
    NOENT,
    NOTCAPABLE,
    NOTDIR,
    NOTEMPTY,
    PERM,
    READING,
    ROFS,
    SCRATCH,
    SIGNATURES,
    SUCCESS,
    TRUNCATE,
    WRITE,
    Script,
    play,
    tree,
)  # fmt: skip

from spear._core.executor import Executor
from spear._core.filetable import Directory

BEYOND = 0xFFFFFFF0
SECRET = "the secret outside"


@pytest.fixture(scope="module")
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """The folder that is granted; a secret lies beside it."""
    tree(tmp_path, ["inside/sub/deep/", "inside/file", "inside/sub/file"])
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text(SECRET)
    return tmp_path / "inside"


@pytest.fixture
def granted(inside: Path) -> Directory:
    return Directory(inside, "/", writable=True)


@pytest.fixture
def readable(inside: Path) -> Directory:
    return Directory(inside, "/")


def everything(path: str | bytes, *, fd: object = 3) -> Script:
    """Every call that takes a path, each with this one."""
    script = Script()
    script.open(fd, path)
    script.open(fd, path, CREATE, ALL)
    script.open(fd, path, DIRECTORY)
    script.open(fd, path, lookup=0)
    script.call("path_filestat_get", fd, FOLLOW, path, SCRATCH)
    script.call("path_filestat_get", fd, 0, path, SCRATCH)
    script.call("path_filestat_set_times", fd, FOLLOW, path, 5, 5, 5)
    script.call("path_readlink", fd, path, SCRATCH, 64, 160 - 4)
    script.call("path_create_directory", fd, path)
    script.call("path_remove_directory", fd, path)
    script.call("path_unlink_file", fd, path)
    script.call("path_symlink", "target", fd, path)
    script.call("path_rename", fd, path, fd, "moved-here")
    script.call("path_rename", fd, "file", fd, path)
    script.call("path_link", fd, 0, path, fd, "linked-here")
    script.call("path_link", fd, 0, "file", fd, path)
    return script


def state(folder: Path) -> list[tuple[str, int, int, bytes]]:
    """All that lies beneath, with times and contents."""
    found = []
    for path in sorted(folder.rglob("*")):
        seen = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(seen.st_mode) else b""
        found.append((str(path), seen.st_ino, seen.st_mtime_ns, content))
    return found


# ---- opening


@pytest.mark.parametrize(
    ("path", "oflags", "rights", "lookup", "answer"),
    [
        ("file", 0, READING, FOLLOW, SUCCESS),
        ("sub/../file", 0, READING, FOLLOW, SUCCESS),
        ("./sub//deep/.././file", 0, READING, FOLLOW, SUCCESS),
        ("none", 0, READING, FOLLOW, NOENT),
        ("none/x", CREATE, ALL, FOLLOW, NOENT),
        ("file/x", 0, READING, FOLLOW, NOTDIR),
        ("file/", 0, READING, FOLLOW, NOTDIR),
        ("file", DIRECTORY, READING, FOLLOW, NOTDIR),
        ("sub", DIRECTORY, READING, FOLLOW, SUCCESS),
        ("sub/", 0, READING, FOLLOW, SUCCESS),
        ("sub", 0, READING, FOLLOW, SUCCESS),
        ("sub", DIRECTORY, ALL, FOLLOW, SUCCESS),
        ("sub", 0, ALL, FOLLOW, ISDIR),
        ("sub", TRUNCATE, READING, FOLLOW, ISDIR),
        (".", DIRECTORY, READING, FOLLOW, SUCCESS),
        ("file", CREATE | EXCLUSIVE, ALL, FOLLOW, EXIST),
        ("sub", CREATE | EXCLUSIVE, ALL, FOLLOW, EXIST),
        ("new", CREATE | EXCLUSIVE, ALL, FOLLOW, SUCCESS),
        ("new", CREATE, READING, FOLLOW, SUCCESS),
        ("new/", CREATE, ALL, FOLLOW, ISDIR),
        ("x", CREATE | DIRECTORY, ALL, FOLLOW, INVAL),
        ("file", TRUNCATE | DIRECTORY, ALL, FOLLOW, INVAL),
        ("file", 16, READING, FOLLOW, INVAL),
        ("file", 0, READING, 2, INVAL),
        ("", 0, READING, FOLLOW, NOENT),
    ],
)
def test_what_opening_says(
    node: Executor, granted: Directory, path: str, oflags: int, rights: int, lookup: int,
    answer: int,
):  # fmt: skip
    script = Script()
    script.open(3, path, oflags, rights, lookup=lookup)
    script.open(3, "file", 0, READING, 32)
    assert play(node, script, granted) == [answer, INVAL]


def test_a_file_is_truncated_and_created_as_asked(node: Executor, granted: Directory, inside: Path):
    script = Script()
    script.open(3, "file", TRUNCATE, READING)
    script.open(3, "new", CREATE, WRITE)
    assert play(node, script, granted) == [0, 0]
    assert (inside / "file").read_bytes() == (inside / "new").read_bytes() == b""
    assert not (inside / "new").stat().st_mode & 0o111


def test_what_may_only_be_read_is_not_changed(node: Executor, readable: Directory, inside: Path):
    before = state(inside)
    script = Script()
    script.open(3, "file", 0, WRITE)
    script.open(3, "file", 0, ALL)
    script.open(3, "file", TRUNCATE)
    script.open(3, "new", CREATE)
    script.open(3, "file", CREATE)  # there is nothing to make
    script.open(3, "file", CREATE | EXCLUSIVE)
    script.call("path_filestat_set_times", 3, 1, "file", 5, 5, 5)
    script.call("path_create_directory", 3, "d")
    script.call("path_remove_directory", 3, "sub/deep")
    script.call("path_unlink_file", 3, "file")
    script.call("path_symlink", "file", 3, "link")
    script.call("path_rename", 3, "file", 3, "moved")
    script.call("path_link", 3, 0, "file", 3, "linked")
    below = script.open(3, "sub", DIRECTORY, ALL)
    script.call("path_unlink_file", below, "file")
    script.open(below, "file", 0, WRITE)
    answers = play(node, script, readable)
    assert answers == [ROFS] * 4 + [0, EXIST] + [ROFS] * 7 + [0, ROFS, ROFS]
    assert state(inside) == before


def test_what_may_only_be_read_gets_no_name_where_it_may_be_written(
    node: Executor, readable: Directory, tmp_path: Path
):
    (tmp_path / "out").mkdir()
    script = Script()
    script.call("path_link", 3, 0, "file", 4, "file")
    script.call("path_rename", 3, "file", 4, "file")
    script.call("path_rename", 4, "none", 3, "file")
    script.call("path_link", 4, 0, "none", 3, "new")
    script.call("path_rename", 4, "none", 4, "file")
    out = Directory(tmp_path / "out", "/out", writable=True)
    assert play(node, script, readable, out) == [ROFS] * 4 + [NOENT]
    assert list((tmp_path / "out").iterdir()) == []


# ---- names


def test_names_are_made_moved_and_removed(node: Executor, granted: Directory, inside: Path):
    script = Script()
    script.call("path_create_directory", 3, "new/")
    script.call("path_create_directory", 3, "new")
    script.call("path_rename", 3, "file", 3, "new/file")
    script.call("path_link", 3, 0, "new/file", 3, "again")
    script.call("path_remove_directory", 3, "new")
    script.call("path_unlink_file", 3, "new/file")
    script.call("path_rename", 3, "new/", 3, "newer/")
    script.call("path_remove_directory", 3, "newer//")
    script.call("path_unlink_file", 3, "sub")
    script.call("path_remove_directory", 3, "again")
    assert play(node, script, granted) == [0, EXIST, 0, 0, NOTEMPTY, 0, 0, 0, ISDIR, NOTDIR]
    assert sorted(path.name for path in inside.iterdir()) == ["again", "sub"]
    assert (inside / "again").read_text() == "file"


def test_names_move_between_granted_directories(
    node: Executor, granted: Directory, inside: Path, tmp_path: Path
):
    script = Script()
    script.call("path_rename", 3, "sub", 4, "came")
    script.call("path_link", 3, 0, "file", 4, "came/linked")
    outside = Directory(tmp_path / "outside", "/o", writable=True)
    assert play(node, script, granted, outside) == [0, 0]
    assert (tmp_path / "outside" / "came" / "linked").read_text() == "file"
    assert not (inside / "sub").exists()


@pytest.mark.parametrize(
    ("calls", "answers"),
    [
        ([("path_unlink_file", 3, "file/"), ("path_unlink_file", 3, "sub/")], [NOTDIR, ISDIR]),
        ([("path_unlink_file", 3, "none/")], [NOENT]),
        ([("path_rename", 3, "file/", 3, "x"), ("path_rename", 3, "file", 3, "x/")], [NOTDIR] * 2),
        ([("path_rename", 3, "none/", 3, "x")], [NOENT]),
        ([("path_symlink", "t", 3, "x/"), ("path_symlink", "t", 3, "sub/")], [NOENT, EXIST]),
        ([("path_symlink", "t", 3, "file/")], [EXIST]),
        ([("path_link", 3, 0, "file/", 3, "x"), ("path_link", 3, 0, "file", 3, "x/")],
         [NOTDIR, NOENT]),
        ([("path_link", 3, 1, "file", 3, "x"), ("path_link", 3, 2, "file", 3, "x")], [INVAL] * 2),
        ([("path_link", 3, 0, "sub", 3, "x")], [PERM]),
        ([("path_rename", 3, "sub", 3, "sub/deep/x")], [INVAL]),
        ([("path_create_directory", 3, "."), ("path_create_directory", 3, "sub/..")], [EXIST] * 2),
        ([("path_remove_directory", 3, "sub/."), ("path_remove_directory", 3, "sub/..")],
         [INVAL] * 2),
        ([("path_unlink_file", 3, "."), ("path_unlink_file", 3, "sub/..")], [ISDIR] * 2),
        ([("path_rename", 3, "sub/..", 3, "x"), ("path_rename", 3, "file", 3, ".")], [INVAL] * 2),
        ([("path_symlink", "t", 3, "./..//")], [EXIST]),
    ],
)  # fmt: skip
def test_the_corners_of_names(
    node: Executor, granted: Directory, inside: Path, calls: list[tuple[object, ...]],
    answers: list[int],
):  # fmt: skip
    before = state(inside)
    script = Script()
    for name, *args in calls:
        script.call(str(name), *args)
    assert play(node, script, granted) == answers
    assert state(inside) == before


# ---- symbolic links


def test_links_within_are_followed_or_not_as_asked(
    node: Executor, granted: Directory, inside: Path
):
    script = Script()
    script.call("path_symlink", "sub/file", 3, "link")
    script.call("path_symlink", "../file", 3, "sub/up")
    script.call("path_symlink", "none", 3, "dangling")
    followed, itself = script.stat(3, "link"), script.stat(3, "link", 0)
    up = script.open(3, "sub/up")
    read = script.read(up, 4)
    script.open(3, "link", lookup=0)
    script.open(3, "dangling")
    script.open(3, "dangling", CREATE | EXCLUSIVE, ALL)
    script.open(3, "dangling", CREATE, ALL)
    target, used = script.room(64), script.room(4)
    script.call("path_readlink", 3, "link", target.at, 64, used.at)
    short, cut = script.room(64), script.room(4)
    script.call("path_readlink", 3, "link", short.at, 3, cut.at)
    script.call("path_readlink", 3, "file", target.at, 64, SCRATCH)
    script.call("path_filestat_set_times", 3, 0, "link", 0, 5 * 10**9, 4)
    assert play(node, script, granted) == [0] * 7 + [LOOP, NOENT, EXIST, 0, 0, 0, INVAL, 0]
    assert (followed.bytes[16], itself.bytes[16]) == (4, 7)
    assert read.bytes == b"file"
    assert target.bytes[: used.number] == b"sub/file"
    assert short.bytes[: cut.number] == b"sub"
    assert (inside / "none").read_bytes() == b""
    assert (inside / "link").lstat().st_mtime == 5
    assert (inside / "sub/file").stat().st_mtime != 5


def test_a_link_to_an_absolute_path_is_not_made(node: Executor, granted: Directory, inside: Path):
    script = Script()
    for target in ("/", "/etc/passwd", "//x", str(inside / "file")):  # only named, never followed
        script.call("path_symlink", target, 3, "link")
    script.call("path_symlink", "", 3, "link")
    assert play(node, script, granted) == [PERM] * 4 + [NOENT]
    assert not (inside / "link").is_symlink()


# ---- the ways out


OUT = (
    "..", "../secret", "../outside", "../outside/secret", "sub/../../secret",
    "./././../secret", "sub/deep/../../../secret", "../inside/file", "sub/../../inside/file",
    "{up}{own}/secret", "{own}/secret", "/{own}/secret", "{own}/inside/file", "{own}/made",
    "/proc/self/root{own}/secret",
)  # fmt: skip


def looking(path: str, *, fd: object = 3) -> Script:
    """The calls that change nothing."""
    script = Script()
    script.open(fd, path)
    script.open(fd, path, DIRECTORY)
    script.open(fd, path, lookup=0)
    script.stat(fd, path)
    script.stat(fd, path, 0)
    script.call("path_readlink", fd, path, SCRATCH, 64, 160 - 4)
    return script


@pytest.mark.parametrize("path", ["/", "//", "/..", "/proc/self/root", "/etc/passwd", "../" * 40])
def test_no_path_leads_to_the_system(node: Executor, granted: Directory, path: str):
    assert play(node, looking(path), granted) == [PERM] * 6


@pytest.mark.parametrize("way", OUT)
def test_no_path_leads_out(node: Executor, granted: Directory, tmp_path: Path, way: str):
    """Not even back in. The calls on a name may say that ".." is no name before that."""
    path = way.format(own=tmp_path, up="../" * 40)
    before = state(tmp_path)
    answers = play(node, everything(path), granted)
    assert set(answers) <= {PERM, EXIST, INVAL, ISDIR}
    assert answers.count(PERM) >= 8
    assert state(tmp_path) == before


@pytest.mark.parametrize("path", ["..", "../file", "../../secret"])
def test_an_opened_directory_holds_its_own(
    node: Executor, granted: Directory, tmp_path: Path, path: str
):
    before = state(tmp_path)
    script = Script()
    below = script.open(3, "sub", DIRECTORY, ALL)
    script.open(below, path)
    script.stat(below, path)
    script.call("path_create_directory", below, "../made")
    script.call("path_rename", below, "file", below, "../moved")
    script.call("path_unlink_file", below, "../file")
    assert play(node, script, granted) == [0] + [PERM] * 5
    assert state(tmp_path) == before


@pytest.fixture
def traps(inside: Path, tmp_path: Path) -> Path:
    """Links on the host that lead out, and one chain that comes back."""
    links = {
        "to-file": tmp_path / "secret", "to-dir": tmp_path / "outside", "up": Path(".."),
        "up-file": Path("../secret"), "chain-1": Path("chain-2"), "chain-2": Path("sub/chain-3"),
        "sub/chain-3": Path("../../secret"), "loop-1": Path("loop-2"), "loop-2": Path("loop-1"),
        "root": Path("/"), "proc": Path("/proc/self/root"),
        "back": inside / "file",
    }  # fmt: skip
    for name, target in links.items():
        (inside / name).symlink_to(target)
    return inside


@pytest.mark.parametrize(
    "path",
    [
        "to-file", "to-dir", "to-dir/", "to-dir/secret", "up", "up/secret", "up-file", "chain-1",
        "root{own}/secret", "root{own}/outside", "proc{own}/secret", "proc{own}", "back",
        "up/inside/file", "to-dir/../secret",
    ],
)  # fmt: skip
def test_no_link_of_the_host_leads_out(node: Executor, traps: Path, tmp_path: Path, path: str):
    path = path.format(own=tmp_path)
    before = state(tmp_path)
    script = Script()
    for oflags in (0, CREATE, DIRECTORY, TRUNCATE):
        script.open(3, path, oflags, ALL if oflags != DIRECTORY else READING)
    script.stat(3, path)
    script.call("path_filestat_set_times", 3, 1, path, 5, 5, 5)
    for end in ("/x", "/../x"):
        script.call("path_create_directory", 3, path + end)
        script.call("path_unlink_file", 3, path + end)
        script.call("path_symlink", "x", 3, path + end)
        script.call("path_rename", 3, "file", 3, path + end)
        script.call("path_link", 3, 0, "file", 3, path + end)
    answers = play(node, script, Directory(traps, "/", writable=True))
    assert set(answers) <= {PERM}
    assert state(tmp_path) == before


@pytest.mark.parametrize("path", ["root", "root/etc", "proc", "proc/etc/passwd"])
def test_no_link_of_the_host_leads_to_the_system(node: Executor, traps: Path, path: str):
    script = Script()
    script.open(3, path)
    script.open(3, path, DIRECTORY)
    script.stat(3, path)
    assert play(node, script, Directory(traps)) == [PERM] * 3


def test_links_that_lead_in_a_circle_are_told(node: Executor, traps: Path):
    script = Script()
    script.open(3, "loop-1")
    script.stat(3, "loop-1")
    script.stat(3, "loop-1", 0)
    assert play(node, script, Directory(traps)) == [LOOP, LOOP, 0]


def test_the_link_itself_can_be_seen_and_removed(node: Executor, traps: Path, tmp_path: Path):
    """It stands in the directory; only what it leads to does not."""
    script = Script()
    seen = script.stat(3, "to-file", 0)
    script.open(3, "to-file", lookup=0)
    script.call("path_rename", 3, "to-file", 3, "moved")
    script.call("path_unlink_file", 3, "moved")
    script.call("path_unlink_file", 3, "to-dir")
    assert play(node, script, Directory(traps, writable=True)) == [0, LOOP, 0, 0, 0]
    assert seen.bytes[16] == 7
    assert (tmp_path / "secret").read_text() == SECRET
    assert (tmp_path / "outside" / "secret").exists()


def test_no_link_of_the_guest_s_leads_out(node: Executor, granted: Directory, tmp_path: Path):
    before = state(tmp_path / "outside")
    script = Script()
    script.call("path_symlink", "../secret", 3, "a")
    script.call("path_symlink", "..", 3, "sub/b")
    script.call("path_symlink", "b/../outside", 3, "sub/c")
    script.call("path_symlink", "a", 3, "d")
    script.call("path_rename", 3, "sub/b", 3, "e")  # from here it leads one further up
    for path in ("a", "d", "e", "e/secret", "sub/c/secret", "e/outside/secret"):
        script.open(3, path)
    below = script.open(3, "sub", DIRECTORY, ALL)
    script.call("path_symlink", "../file", below, "up")
    script.open(below, "up")  # within what was granted, but not within what was opened
    script.open(3, "sub/up")
    answers = play(node, script, granted)
    assert answers[:5] == [0] * 5
    assert set(answers[5:11]) <= {PERM, NOENT}
    assert answers[11:] == [0, 0, PERM, 0]
    assert state(tmp_path / "outside") == before


def test_magic_links_of_proc_are_no_way_either(node: Executor):
    """Even where the guest is granted the folder in which they stand."""
    script = Script()
    for path in ("root", "cwd", "exe", "fd/0", "root/etc/passwd", "fd/1"):
        script.open(3, path)
        script.stat(3, path)
    script.stat(3, "exe", 0)
    answers = play(node, script, Directory("/proc/self"))
    assert set(answers[:-1]) <= {LOOP, PERM, NOENT}
    assert answers[-1] == 0


# ---- what is no file


@pytest.fixture
def specials(inside: Path) -> Iterator[list[str]]:
    os.mkfifo(inside / "fifo")
    listening = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(inside)  # such names are short
    listening.bind("socket")
    os.chdir(here)
    names = ["fifo", "socket"]
    if os.geteuid() == 0:
        os.mknod(inside / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(inside / "block", 0o666 | stat.S_IFBLK, os.makedev(7, 200))
        names += ["null", "block"]
    (inside / "link").symlink_to("fifo")
    yield [*names, "link"]
    listening.close()


def test_what_is_no_file_is_seen_and_not_opened(
    node: Executor, granted: Directory, inside: Path, specials: list[str]
):
    script = Script()
    for name in specials:
        script.open(3, name)
        script.open(3, name, 0, WRITE)
        script.open(3, name, CREATE | TRUNCATE, ALL)
    assert play(node, script, granted) == [ACCES] * (3 * len(specials))
    script = Script()
    seen = [script.stat(3, name) for name in specials]
    script.call("path_unlink_file", 3, "fifo")
    assert play(node, script, granted) == [0] * (len(specials) + 1)
    assert [room.bytes[16] for room in seen] == [0, 6, *([2, 1] if len(seen) > 3 else []), 0]


def test_a_device_in_its_own_folder_is_not_opened(node: Executor):
    script = Script()
    for name in ("null", "zero", "tty", "full", "ptmx"):
        script.open(3, name)
        script.open(3, name, 0, WRITE)
    answers = play(node, script, Directory("/dev", writable=True))
    assert set(answers) <= {ACCES, NOENT, PERM}
    assert answers[0] == ACCES


# ---- names that are none, pointers that are none


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (b"a\0b", INVAL), (b"\0", INVAL), (b"file\0", INVAL),
        (b"x" * 4096, NAMETOOLONG), (b"a/" * 2047 + b"aa", NAMETOOLONG),
        (b"x" * 60_000, NAMETOOLONG),
        (b"\xff", ILSEQ), (b"a\x80", ILSEQ), (b"\xc3", ILSEQ), (b"\xc0\xaf", ILSEQ),
        (b"\xe0\x80\xaf", ILSEQ), (b"\xed\xa0\x80", ILSEQ), (b"\xf4\x90\x80\x80", ILSEQ),
        (b"\xf8\x88\x80\x80\x80", ILSEQ), (b"\xf0\x9f\x98", ILSEQ), (b"\xf0\x80\x80\xaf", ILSEQ),
        (b"", NOENT),
    ],
)  # fmt: skip
def test_what_is_no_path_is_refused_by_every_call(
    node: Executor, granted: Directory, inside: Path, path: bytes, answer: int
):
    before = state(inside)
    assert play(node, everything(path), granted) == [answer] * 16
    assert state(inside) == before


def test_the_longest_names_and_all_characters_are_names(
    node: Executor, granted: Directory, inside: Path
):
    edges = "\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff"  # of each length in UTF-8
    names = ["x" * 255, edges, "a b\n\t'\"\\", "\x01\x7f", "-rf"]
    script = Script()
    for name in names:
        script.open(3, name, CREATE | EXCLUSIVE, ALL)
    script.open(3, "x" * 256, CREATE, ALL)
    script.open(3, "./" * 2045 + "file")
    assert play(node, script, granted) == [0] * 5 + [NAMETOOLONG, 0]
    assert {path.name for path in inside.iterdir()} == {*names, "file", "sub"}


def _pointers(name: str) -> Iterator[int]:
    """Where a call's 32-bit values are, but for the descriptor that it begins with."""
    letters = SIGNATURES[name]
    first = 0 if name == "path_symlink" else 1
    return (at for at in range(first, len(letters)) if letters[at] == "i")


@pytest.mark.parametrize("name", sorted(n for n in SIGNATURES if n.startswith(("path_", "fd_"))))
def test_wild_pointers_are_answered(node: Executor, granted: Directory, inside: Path, name: str):
    """One value after another, all else right: never a crash, never a write outside."""
    letters = SIGNATURES[name]
    usual = {"i": 4, "I": 1}
    for at in _pointers(name):
        script = Script()
        for wild in (BEYOND, 0xFFFFFFFF, 0x80000000, 65_535, 65_533):
            args = [usual[letter] for letter in letters]
            args[0] = 3 if letters[0] == "i" else args[0]
            args[at] = wild
            script.calls.append((name, tuple(args)))
        answers = play(node, script, granted)
        assert max(answers) <= 76
    assert (inside.parent / "secret").read_text() == SECRET


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("path_open", (3, 1, BEYOND, 4, 0, 0, 0, 0, 64)),
        ("path_open", (3, 1, 65_533, 4, 0, 0, 0, 0, 64)),
        ("path_open", (3, 1, 0, 0xFFFFFFFF, 0, 0, 0, 0, 64)),
        ("path_open", (3, 1, 160, 4, 0, 0, 0, 0, 65_533)),
        ("path_filestat_get", (3, 1, 160, 4, 65_473)),
        ("path_readlink", (3, 168, 4, BEYOND, 4, 64)),
        ("path_readlink", (3, 168, 4, 64, 4, 65_533)),
        ("path_symlink", (BEYOND, 4, 3, 160, 4)),
        ("path_symlink", (160, 4, 3, BEYOND, 4)),
        ("path_rename", (3, 160, 4, 3, BEYOND, 4)),
        ("path_link", (3, 0, 160, 4, 3, 65_535, 2)),
        ("fd_readdir", (3, 65_533, 24, 0, 64)),
        ("fd_prestat_dir_name", (3, 65_536, 1)),
    ],
)
def test_a_pointer_outside_memory_is_a_fault(
    node: Executor, granted: Directory, inside: Path, name: str, args: tuple[int, ...]
):
    (inside / "link").symlink_to("file")
    script = Script()
    assert script.place(b"file") == 160
    assert script.place(b"link") > 160
    script.data[1] = (168, b"link")
    script.calls.append((name, args))
    assert play(node, script, granted) == [FAULT]
    assert (inside / "file").read_text() == "file"


def test_rights_that_a_directory_lacks_are_missed(node: Executor, granted: Directory):
    script = Script()
    script.call("fd_fdstat_set_rights", 3, 0, 0)
    answers = play(node, _joined(script, everything("file")), granted)
    assert answers[0] == 0
    assert set(answers[1:]) == {NOTCAPABLE}


def test_a_closed_directory_is_closed(node: Executor, granted: Directory):
    script = Script()
    script.call("fd_close", 3)
    answers = play(node, _joined(script, everything("file")), granted)
    assert answers == [0] + [BADF] * 16


def _joined(first: Script, second: Script) -> Script:
    """The calls of `first`, which has no data, then those of `second`."""
    assert not first.data
    second.calls[:0] = first.calls
    return second


def test_results_are_written_where_they_belong(node: Executor, readable: Directory, inside: Path):
    """Exactly there: the bytes beside them stay."""
    script = Script()
    before, stat_room, behind = script.room(8), script.room(64), script.room(8)
    script.call("path_filestat_get", 3, 1, "file", stat_room.at)
    assert play(node, script, readable) == [0]
    assert before.bytes == behind.bytes == bytes(8)
    assert struct.unpack("<8Q", stat_room.bytes)[1] == (inside / "file").stat().st_ino

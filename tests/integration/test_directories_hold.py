"""Granted directories under attack and at the end: races, limits of the system, what stays open."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import wasm_asm as asm
from guest_runs import MS, assembled, ended, executor, guest, python
from wasi_script import ALL, CREATE, DIRECTORY, FOLLOW, SCRATCH, Script, entries, play, tree

from spear._core.executor import Executor
from spear._core.filetable import Directory
from spear._core.run import Run
from spear.errors import InvalidArgument, NodeBusy

SWAPS = 4000
SECRET = b"SECRET"
LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, RENAME_EXCHANGE = -100, 2


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


# ---- races


def exchange(one: Path, other: Path) -> None:
    """Two names change places in one step."""
    done = LIBC.renameat2(AT_FDCWD, bytes(one), AT_FDCWD, bytes(other), RENAME_EXCHANGE)
    assert done == 0, os.strerror(ctypes.get_errno())


@pytest.fixture
def swapped(tmp_path: Path) -> Path:
    """A folder to grant, in which `swap` is a directory and `other` leads outside."""
    tree(tmp_path, ["granted/swap/deep/", "outside/deep/"])
    (tmp_path / "granted" / "swap" / "file").write_bytes(b"inside")
    (tmp_path / "outside" / "file").write_bytes(SECRET)
    (tmp_path / "granted" / "other").symlink_to("../outside")
    return tmp_path / "granted"


def raced(node: Executor, script: Script, folder: Path) -> Run:
    """The script again and again, while the two names are swapped; ended then."""
    module = assembled(script.wasm(forever=True))
    run = node.start(
        module, dirs=[Directory(folder, "/", writable=True)], log_stdout=False,
        output_bytes_max=1 << 30,
    )  # fmt: skip

    def swap() -> None:
        for _ in range(SWAPS):
            exchange(folder / "swap", folder / "other")

    swapping = threading.Thread(target=swap)
    swapping.start()
    swapping.join()
    assert not run.done
    run.cancel()
    assert ended(run).cause == "cancelled"
    return run


@pytest.mark.parametrize("path", ["swap/file", "swap/../swap/file", "swap/deep/../file"])
def test_a_directory_swapped_with_a_way_out_is_never_read_through(
    node: Executor, swapped: Path, path: str
):
    script = Script()
    opened = script.open(3, path)
    read = script.read(opened, 6)
    script.call("fd_close", opened)
    vector = script.place(read.at.to_bytes(4, "little") + (6).to_bytes(4, "little"))
    script.call("fd_write", 1, vector, 1, SCRATCH)
    output = raced(node, script, swapped).output
    pieces = {output[at : at + 6] for at in range(0, len(output), 6)}
    assert b"inside" in pieces
    assert pieces <= {b"inside", bytes(6)}


def test_a_directory_swapped_with_a_way_out_is_never_written_through(
    node: Executor, swapped: Path, tmp_path: Path
):
    before = sorted(path.name for path in (tmp_path / "outside").rglob("*"))
    script = Script()
    opened = script.open(3, "swap/made", CREATE, ALL)
    script.write(opened, b"x")
    script.call("fd_close", opened)
    script.call("path_create_directory", 3, "swap/folder")
    script.call("path_symlink", "x", 3, "swap/link")
    script.call("path_link", 3, 0, "swap/made", 3, "swap/again")
    script.call("path_rename", 3, "swap/again", 3, "swap/moved")
    script.call("path_filestat_set_times", 3, FOLLOW, "swap/deep", 5, 5, 5)
    for name in ("made", "link", "moved", "file"):
        script.call("path_unlink_file", 3, f"swap/{name}")
    script.call("path_remove_directory", 3, "swap/folder")
    script.call("path_remove_directory", 3, "swap/deep")
    raced(node, script, swapped)
    assert sorted(path.name for path in (tmp_path / "outside").rglob("*")) == before
    assert (tmp_path / "outside" / "file").read_bytes() == SECRET
    assert (tmp_path / "outside" / "deep").stat().st_mtime_ns != 5


# ---- what stays open


def opened_beneath(folder: Path) -> int:
    """Descriptors of this process that lead into the folder."""
    found = 0
    for entry in os.scandir("/proc/self/fd"):
        try:
            found += os.readlink(entry.path).startswith(str(folder))
        except FileNotFoundError:  # the one by which the directory is read
            continue
    return found


def greedy(end: bytes = b"") -> bytes:
    """Opens files, directories and the granted one's entries; closes nothing, ends as told."""
    script = Script()
    for _ in range(20):
        script.open(3, "file")
        script.open(3, "new", CREATE, ALL)
        script.open(3, "folder", DIRECTORY)
    script.readdir(3)
    rows, body = [], b""
    for name, args in script.calls:
        rows.append((asm.WASI, name, "iiiiiIIii" if name == "path_open" else "iiiIi", "i"))
        letters = rows[-1][2]
        body += b"".join(
            asm.i64_const(value) if letter == "I" else asm.i32_const(value)
            for letter, value in zip(letters, args, strict=True)
        )
        body += asm.call(len(rows) - 1) + asm.DROP
    rows.append(("spear", "log", "iii", "i"))
    body += asm.i32_const(2) + asm.i32_const(0) + asm.i32_const(0)
    body += asm.call(len(rows) - 1) + asm.DROP
    rows.append((asm.WASI, "proc_exit", "i", ""))
    rows.append(("spear", "sleep_ms", "i", ""))
    return asm.module(rows, body + end, data=script.data)


EXIT = asm.i32_const(3) + asm.call(62)
SLEEP = asm.i32_const(-1) + asm.call(63)
ENDS: dict[str, tuple[bytes, str, Callable[[Executor, Run], object]]] = {
    "return": (b"", "exit", lambda node, run: None),
    "exit": (EXIT, "exit", lambda node, run: None),
    "trap": (asm.UNREACHABLE, "trap", lambda node, run: None),
    "deadline asleep": (SLEEP, "deadline", lambda node, run: None),
    "deadline running": (asm.FOREVER, "deadline", lambda node, run: None),
    "cancelled asleep": (SLEEP, "cancelled", lambda node, run: run.cancel()),
    "cancelled running": (asm.FOREVER, "cancelled", lambda node, run: run.cancel()),
    "executor closed": (SLEEP, "cancelled", lambda node, run: node.close()),
}


# One that is ended from outside while it runs cannot run on the thread that ends it.
@pytest.mark.parametrize(
    ("how", "inline"),
    [(how, inline) for how in ENDS for inline in (False, True)
     if not (inline and how == "cancelled running")],
)  # fmt: skip
def test_whatever_the_end_all_is_closed(node: Executor, tmp_path: Path, how: str, inline: bool):
    tree(tmp_path, ["file", "folder/"])
    directory = Directory(tmp_path, "/", writable=True)
    assert opened_beneath(tmp_path) == 1
    end, cause, act = ENDS[how]
    timeout_ns = 400 * MS if cause == "deadline" else 60_000 * MS
    run = node.start(assembled(greedy(end)), dirs=[directory], timeout_ns=timeout_ns, inline=inline)
    while not run.read_logs() and not run.done:
        run.wait(60, events=True)
    if cause not in ("exit", "trap", "deadline"):
        assert opened_beneath(tmp_path) == 62
    act(node, run)
    assert ended(run).cause == cause
    assert opened_beneath(tmp_path) == 1
    del run, directory
    assert opened_beneath(tmp_path) == 0


def test_a_run_that_never_began_leaves_nothing_open(tmp_path: Path):
    with executor(guests_max=1) as node:
        first = node.start(guest("sleeper"), args=("sleeper", "-1"))
        with pytest.raises(NodeBusy):
            node.start(guest("hello"), dirs=[Directory(tmp_path)])
        with pytest.raises(InvalidArgument):
            node.start(guest("hello"), dirs=[Directory(tmp_path), Directory(tmp_path)])
        first.cancel()
    assert opened_beneath(tmp_path) == 0


def test_a_directory_given_to_a_run_outlives_its_object(node: Executor, tmp_path: Path):
    (tmp_path / "file").write_text("here")
    script = Script()
    read = script.read(script.open(3, "file"), 4)
    run = node.start(assembled(script.wasm()), dirs=[Directory(tmp_path)], log_stdout=False)
    assert ended(run).exit_code == 0
    assert script.take(run.output) == [0, 0]
    assert read.bytes == b"here"


def test_guests_share_a_directory_and_not_where_they_stand_in_it(node: Executor, tmp_path: Path):
    tree(tmp_path, [f"{number}" for number in range(300)])
    directory = Directory(tmp_path)
    script = Script()
    pieces = [script.readdir(3, 4096, 0) for _ in range(5)]
    module = assembled(script.wasm())
    runs = [node.start(module, dirs=[directory], log_stdout=False) for _ in range(20)]
    seen = set()
    for run in runs:
        assert ended(run).exit_code == 0
        script.take(run.output)
        seen |= {tuple(name for name, _, _ in entries(*piece)) for piece in pieces}
    assert len(seen) == 1


# ---- the limits of the system, each in a process of its own


def test_a_file_as_large_as_the_system_allows_ends_no_process():
    """Not even where the signal for it would: workers take none."""
    probe = """
import resource, signal, tempfile
from guest_runs import assembled, executor
from spear._core.filetable import Directory
from wasi_script import ALL, CREATE, Script, play
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
with tempfile.TemporaryDirectory() as folder, executor() as node:
    script = Script()
    file = script.open(3, "f", CREATE, ALL)
    script.write(file, bytes(9_000))
    script.write(file, bytes(9_000))
    script.write(file, bytes(9_000))
    script.pwrite(file, b"x", 2**40)
    script.call("fd_filestat_set_size", file, 2**40)
    script.call("fd_allocate", file, 0, 20_000)
    script.call("fd_filestat_set_size", file, 5)
    script.pwrite(file, b"x", 5)
    assembled(script.wasm())  # compiling writes files too
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    print(play(node, script, Directory(folder, writable=True)))
"""
    done = python(probe)
    answers = [0, 0, 0, 22, 22, 22, 22, 0, 0]
    assert (done.returncode, done.stdout) == (0, f"{answers}\n"), done.stderr


def test_guests_hold_at_most_half_of_what_the_process_may_open():
    probe = """
import resource, tempfile
from guest_runs import assembled, ended, executor, guest
from spear._core.filetable import Directory
from wasi_script import CREATE, Script, play
with tempfile.TemporaryDirectory() as folder, executor() as node:
    resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))
    directory = Directory(folder, writable=True)
    script = Script()
    files = [script.open(3, "f", CREATE) for _ in range(60)]
    script.call("fd_close", files[0])
    script.readdir(3)
    script.open(3, "f")
    for _ in range(3):
        answers = play(node, script, directory)
        print([answers.count(answer) for answer in (0, 41)], answers[-3:])
    open(folder + "/g", "w").close()
"""
    done = python(probe)
    assert (done.returncode, done.stdout) == (0, "[42, 21] [0, 0, 41]\n" * 3), done.stderr


def test_moving_and_closing_touch_no_descriptor_of_the_process():
    """Number 0 above all, which is what an empty place in a table looks like."""
    probe = """
import os, tempfile
from guest_runs import executor
from spear._core.filetable import Directory
from wasi_script import CREATE, Script, play
with tempfile.TemporaryDirectory() as folder, executor() as node:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    script = Script()
    one, two = script.open(3, "a", CREATE), script.open(3, "b", CREATE)
    for source, target in ((0, 2), (one, two), (3, two), (two, 2)):
        script.call("fd_renumber", source, target)
    script.call("fd_close", 2)
    script.call("fd_close", 0)
    directory = Directory(folder, writable=True)
    before = {name: os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
              if os.path.exists(f"/proc/self/fd/{name}")}
    for _ in range(50):
        answers = play(node, script, directory)
    after = {name: os.readlink(f"/proc/self/fd/{name}") for name in before}
    print(answers, before == after, os.fstat(0).st_rdev == os.fstat(null).st_rdev)
"""
    done = python(probe)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{[0] * 7 + [8]} True True\n"


@pytest.mark.parametrize("errno", [1, 38], ids=["EPERM", "ENOSYS"])
def test_without_openat2_no_directory_is_granted(errno: int):
    """As on an old kernel, or in a container whose filter does not know the call."""
    probe = f"""
import ctypes, struct
from spear._core.filetable import Directory, refusal
from spear.cli.verbs.machine.doctor_machine import _directories
from spear.errors import InvalidArgument
class Program(ctypes.Structure):
    _fields_ = [("count", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
code = b"".join(struct.pack("<HBBI", *step) for step in (
    (0x20, 0, 0, 0), (0x15, 0, 1, 437), (0x06, 0, 0, 0x50000 | {errno}), (0x06, 0, 0, 0x7FFF0000),
))
libc = ctypes.CDLL(None)
assert refusal() == "" and _directories().verdict == "ok"
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(4, code)), 0, 0) == 0
try:
    Directory("/tmp")
except InvalidArgument as error:
    print(error)
print(_directories().verdict, _directories().found)
"""
    done = python(probe)
    why = "the kernel offers no openat2 (Linux 5.8 or later, not refused by a container's filter)"
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"cannot grant '/tmp': {why}\n"
        f"note none can be granted, all else works: cannot grant '/': {why}\n"
    )


def test_one_guest_s_numbers_are_no_other_s(node: Executor, tmp_path: Path):
    """Descriptors are each guest's own: what one opened is no number of the next."""
    tree(tmp_path, ["file"])
    first, second = Script(), Script()
    first.open(3, "file")
    second.call("fd_tell", 4, SCRATCH)
    directory = Directory(tmp_path)
    assert play(node, first, directory) == [0]
    assert play(node, second, directory) == [8]

"""Plays WASI calls through a guest: a list of calls in, each call's answer and results out.

Rule: the guest is assembled from the list, so the calls are a real guest's; what an argument is
(a number, a text in memory, room for a result, what an earlier call gave) is said by its type.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import wasm_asm as asm
from guest_runs import assembled, ended

from spear._core.engine import host_imports
from spear._core.executor import Executor
from spear._core.filetable import Directory
from spear._core.run import Run

PAGE = 65536
SCRATCH, BEHIND_SCRATCH = 64, 160  # where results go that nobody looks at
ALL = 0x1FFFFFFF  # every right there is
READ, WRITE = 1 << 1, 1 << 6
READING = ALL & ~(WRITE | 1 << 8 | 1 << 22)
CREATE, DIRECTORY, EXCLUSIVE, TRUNCATE = 1, 2, 4, 8
APPEND = 1
FOLLOW = 1

SUCCESS, ACCES, BADF, EXIST, FAULT, FBIG, ILSEQ, INVAL = 0, 2, 8, 20, 21, 22, 25, 28
ISDIR, LOOP, MFILE, NAMETOOLONG, NFILE, NOENT, NOSPC = 31, 32, 33, 37, 41, 44, 51
NOTDIR, NOTEMPTY, NOTSUP, PERM, ROFS, SPIPE, NOTCAPABLE = 54, 55, 58, 63, 69, 70, 76


def _signatures() -> dict[str, str]:
    """The parameters of each WASI call, one letter a value."""
    found = {}
    for (module, name), (signature, _) in host_imports().items():
        if module == asm.WASI:
            params = signature.partition(" -> ")[0].strip("()")
            found[name] = params.replace("i32", "i").replace("i64", "I").replace(", ", "")
    return found


SIGNATURES = _signatures()


class Room:
    """So many bytes for a result; `bytes` once the script was played."""

    def __init__(self, size: int) -> None:
        self.size, self.at, self.bytes = size, 0, b""

    @property
    def number(self) -> int:
        return int.from_bytes(self.bytes[:8], "little")


class Opened(Room):
    """Room for a descriptor; as an argument later it is that descriptor."""

    def __init__(self) -> None:
        super().__init__(4)


class Script:
    """Calls in their order; `play` gives their answers."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.rooms: list[Room] = []
        self.data: list[tuple[int, bytes]] = []
        self.end = BEHIND_SCRATCH

    def place(self, content: bytes) -> int:
        """The address of these bytes in the guest's memory."""
        at = self.end
        self.data.append((at, content))
        self.end += (len(content) + 15) & ~7
        return at

    def room(self, size: int) -> Room:
        room = Room(size)
        self.add_room(room)
        return room

    def add_room(self, room: Room) -> None:
        room.at, self.end = self.end, self.end + ((room.size + 15) & ~7)
        self.rooms.append(room)

    def call(self, name: str, *args: Any) -> None:
        """A text or bytes argument is two: its address and its length."""
        flat: list[Any] = []
        for value in args:
            if isinstance(value, (str, bytes)):
                content = value.encode() if isinstance(value, str) else value
                flat += [self.place(content), len(content)]
            else:
                flat.append(value)
        assert len(flat) == len(SIGNATURES[name]), (name, flat)
        self.calls.append((name, tuple(flat)))

    # ---- what is often needed

    def open(
        self, fd: Any, path: str | bytes, oflags: int = 0, rights: int = READING, flags: int = 0,
        *, inheriting: int = ALL, lookup: int = FOLLOW,
    ) -> Opened:  # fmt: skip
        opened = Opened()
        self.add_room(opened)
        self.call("path_open", fd, lookup, path, oflags, rights, inheriting, flags, opened.at)
        return opened

    def write(self, fd: Any, content: bytes) -> None:
        vector = self.place(struct.pack("<II", self.place(content), len(content)))
        self.call("fd_write", fd, vector, 1, self.room(4).at)

    def pwrite(self, fd: Any, content: bytes, at: int) -> None:
        vector = self.place(struct.pack("<II", self.place(content), len(content)))
        self.call("fd_pwrite", fd, vector, 1, at, self.room(4).at)

    def read(self, fd: Any, size: int) -> Room:
        room = self.room(size)
        vector = self.place(struct.pack("<II", room.at, size))
        self.call("fd_read", fd, vector, 1, self.room(4).at)
        return room

    def stat(self, fd: Any, path: str, lookup: int = FOLLOW) -> Room:
        room = self.room(64)
        self.call("path_filestat_get", fd, lookup, path, room.at)
        return room

    def readdir(self, fd: Any, size: int = 4096, cookie: int = 0) -> tuple[Room, Room]:
        room, used = self.room(size), self.room(4)
        self.call("fd_readdir", fd, room.at, size, cookie, used.at)
        return room, used

    # ---- the guest

    def wasm(self, *, forever: bool = False) -> bytes:
        """Plays the calls, then writes their answers and all rooms to stdout and exits with 0;
        with `forever` it plays them again and again."""
        names = sorted({name for name, _ in self.calls})
        rows = [(asm.WASI, name, SIGNATURES[name], "i") for name in names]
        body = b""
        answers = (self.end + 7) & ~7
        for number, (name, args) in enumerate(self.calls):
            body += asm.i32_const(answers + 4 * number)
            for letter, value in zip(SIGNATURES[name], args, strict=True):
                body += _pushed(letter, value)
            body += asm.call(names.index(name)) + b"\x36\x02\x00"
        if forever:
            body = asm.LOOP + body + asm.BR_0 + asm.END
        return _with_report(rows, body, [(answers, 4 * len(self.calls)), *(
            (room.at, room.size) for room in self.rooms)], self.data)  # fmt: skip

    def take(self, output: bytes) -> list[int]:
        """The answers, from the guest's stdout; fills the rooms."""
        count = len(self.calls)
        at = 4 * count
        for room in self.rooms:
            room.bytes, at = output[at : at + room.size], at + room.size
        return list(struct.unpack_from(f"<{count}I", output))


def _pushed(letter: str, value: Any) -> bytes:
    if isinstance(value, Opened):
        return asm.i32_load(value.at)
    return asm.i64_const(value) if letter == "I" else asm.i32_const(value)


def _with_report(
    rows: list[tuple[str, str, str, str]], body: bytes, parts: Sequence[tuple[int, int]],
    data: list[tuple[int, bytes]],
) -> bytes:  # fmt: skip
    """Writes the parts one after another to a stdout that the calls may have closed: then by
    descriptor 1 nothing comes, and the test sees no output."""
    rows = [*rows, (asm.WASI, "fd_write", "iiii", "i"), (asm.WASI, "proc_exit", "i", "")]
    at = max((at + size for at, size in parts), default=64)
    vectors = at = (max(at, *(where + len(piece) for where, piece in data or [(0, b"")])) + 7) & ~7
    code = b""
    pieces = list(data)
    for number, part in enumerate(parts):
        pieces.append((vectors + 8 * number, struct.pack("<II", *part)))
        code += b"".join(map(asm.i32_const, (1, vectors + 8 * number, 1, 0)))
        code += asm.call(len(rows) - 2) + asm.DROP
        at += 8
    code += asm.i32_const(0) + asm.call(len(rows) - 1)
    return asm.module(rows, body + code, data=pieces, pages=at // PAGE + 1)


def play(node: Executor, script: Script, *dirs: Directory, **more: Any) -> list[int]:
    """Answers of all calls, as many as the script has."""
    run: Run = node.start(assembled(script.wasm()), dirs=dirs, log_stdout=False, **more)
    outcome = ended(run)
    assert (outcome.cause, outcome.exit_code) == ("exit", 0), outcome
    return script.take(run.output)


def entries(room: Room, used: Room) -> list[tuple[str, int, int]]:
    """(name, type, next cookie) of whole entries."""
    found, at, end = [], 0, used.number
    while at + 24 <= end:
        following, _, size, kind = struct.unpack_from("<QQIB", room.bytes, at)
        if at + 24 + size > end:
            break
        name = room.bytes[at + 24 : at + 24 + size]
        found.append((name.decode("utf-8", "surrogateescape"), kind, following))
        at += 24 + size
    return found


def tree(folder: Path, names: Iterable[str]) -> None:
    """Files with their own name as content, and directories (a slash behind), beneath `folder`."""
    for name in names:
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(path.name)

"""Guests go from their beginning to their end while one Python thread holds the GIL throughout.

Rule: nothing is measured. The holder lets go only when everybody has ended, and a witness that asks
for the GIL a thousand times a second meanwhile tells whether it ever did.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from guest_runs import HANG_S, MS, executor
from text_guests import FILE, GO, SHORT, again, calls_of_everything, text_guest, times

from spear._core.executor import Executor
from spear._core.filetable import Directory
from spear._core.objstore import ObjectStore
from spear._core.run import Run

EACH = 4
BATCH = 200
LIBC = ctypes.PyDLL(None)  # its functions are called with the GIL held
IMPORTS, EVERYTHING = calls_of_everything()
# A guest waits for the file and makes the object, for which all the others wait.
CONDUCTOR = f"""(loop $closed (call $sleep (i32.const 1))
  (br_if $closed (call $path_open (i32.const 3) (i32.const 0) (i32.const 25) (i32.const 4)
    (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 8))))
  (if (call $put {GO} (i32.const 1) (i64.const -1) (i32.const 0) (i32.const 0))
    (then unreachable))"""
GATE = """(loop $closed (call $sleep (i32.const 1))
  (br_if $closed (i32.lt_s (call $go_length) (i32.const 0))))"""


def turns(length: int, next_length: int) -> str:
    """One of two that play: when the object is as long as `length`, makes it `next_length`."""
    key = "(i32.const 16) (i32.const 8)"
    got = f"(call $get {key} (i32.const 8192) (i32.const 0) (i32.const 0))"
    given = f"(i32.const 4096) (i32.const {next_length}) (i64.const -1) (i32.const 0) (i32.const 0)"
    return times(
        50,
        f"""
      (loop $not_mine (call $sleep (i32.const 1)) (call $room)
        (br_if $not_mine (i32.ne {got} (i32.const {length}))))
      (drop (call $put {key} {given}))""",
    )


# kind -> (what it does, how that ends)
KINDS = {
    "returns": ("", "exit"),
    "sleeps": (times(20, "(call $sleep (i32.const 1))"), "exit"),
    "polls": (times(20, f"(drop (call $poll {SHORT}))"), "exit"),
    "waits": ("(local.set $fd (call $epoll))" + times(
        20, "(call $room) (drop (call $wait (local.get $fd) (i32.const 8192) (i32.const 0) "
        "(i32.const 1)))"), "exit"),
    "yields": (times(1000, "(drop (call $yield))"), "exit"),
    "logs": (times(5000, "(drop (call $log (i32.const 1) (i32.const 16) (i32.const 9)))"), "exit"),
    "calls everything": (EVERYTHING, "exit"),
    "traps": ("unreachable", "trap"),
    "writes": (again(f"(drop (call $write (i32.const 1) {FILE}))"), "output_limit"),
    "loops": (again(""), "deadline"),
    "sleeps for ever": ("(call $sleep (i32.const -1))", "deadline"),
}  # fmt: skip
PLAYERS = (turns(1, 2), turns(2, 1))


class Witness:
    """A thread that counts how often it had the GIL."""

    def __init__(self) -> None:
        self.count = 0
        self.over = False
        self.thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        while not self.over:
            time.sleep(0.001)
            self.count += 1


@contextmanager
def gil_held() -> Iterator[Witness]:
    """Inside, only what asks for it lets go: the interpreter would after a thousand seconds."""
    witness, interval = Witness(), sys.getswitchinterval()
    witness.thread.start()
    sys.setswitchinterval(1000)
    try:
        seen = witness.count
        while witness.count < seen + 2:  # whoever asked before the interval was set has had it
            time.sleep(0)
        yield witness
    finally:
        sys.setswitchinterval(interval)
        witness.over = True
        witness.thread.join()


def started(node: Executor, store: ObjectStore, folder: Path, deadline_ns: int) -> list[Run]:
    options = {"objects": store, "task": "gil", "dirs": [Directory(folder, "/")]}
    bodies = [CONDUCTOR, *(GATE + body for body in PLAYERS)]
    bodies += [GATE + KINDS[kind][0] for kind in KINDS if KINDS[kind][1] != "deadline"] * EACH
    runs = [node.start(text_guest(body, more=IMPORTS), **options) for body in bodies]
    runs += [
        node.start(text_guest(GATE + body, more=IMPORTS), timeout_ns=deadline_ns, **options)
        for body, cause in KINDS.values() if cause == "deadline" for _ in range(EACH)
    ]  # fmt: skip
    return runs


def all_at_once(folder: Path, deadline_ns: int) -> bool:
    """False if a deadline came before the GIL was held."""
    store = ObjectStore(1 << 20)
    store.put(b"shared/g", b"x")
    gated = text_guest(GATE + KINDS["sleeps"][0], more=IMPORTS)
    expected = Counter(cause for _, cause in KINDS.values() for _ in range(EACH))
    expected["exit"] += 1 + len(PLAYERS) + BATCH
    with executor(workers=2, guests_max=100) as node:
        options = {"objects": store, "task": "gil", "output_bytes_max": 100_000}
        batch = threading.Thread(target=node.run_many, args=(gated, BATCH), kwargs=options)
        runs = started(node, store, folder, deadline_ns)
        batch.start()
        while node.stats()["live"] < 100:  # the batch has begun what there is room for
            time.sleep(0.001)
        with gil_held() as witness:
            before, seen = node.stats(), witness.count
            LIBC.close(LIBC.creat(bytes(folder / "file"), 0o600))  # os.close would let it go
            until = time.monotonic() + HANG_S
            while node.stats()["ended"] < expected.total() and time.monotonic() < until:
                LIBC.usleep(1000)
            after, had = node.stats(), witness.count - seen
        batch.join()
        assert had == 0, "the GIL was let go"
        assert after["ended"] == expected.total()
        assert {cause: after[f"ended_{cause}"] for cause in expected} == expected
        assert all(run.done for run in runs)
    (folder / "file").unlink()
    return before["ended"] == 0


def test_everything_goes_on_while_the_gil_is_held(tmp_path: Path):
    """Timers, parking, deadlines, batches, every native call, guests that answer each other."""
    assert any(all_at_once(tmp_path, deadline_s * 1000 * MS) for deadline_s in (1, 10, 50))

"""Executors that are closed while guests are inside every kind of hostcall and wait.

Rule: a guest logs before it begins, so that it is known to be there; then every one of them ends
cancelled, and threads, descriptors and memories are where they were.
"""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from guest_runs import HANG_S, ended, executor
from held import held_again, held_at_rest
from text_guests import FILE, GO, LONG, SHORT, again, text_engine, text_guest

from spear._core import trial
from spear._core.door import Call
from spear._core.filetable import Directory
from spear._core.objstore import ObjectStore
from spear._core.run import Run
from spear.errors import NodeClosed

ROUNDS = 50
INSIDE = "(drop (call $log (i32.const 1) (i32.const 16) (i32.const 9)))"
KINDS = {
    "sleeps for ever": "(call $sleep (i32.const -1))",
    "sleeps again and again": again("(call $sleep (i32.const 1))"),
    "polls for ever": f"(drop (call $poll {LONG}))",
    "polls again and again": again(f"(drop (call $poll {SHORT}))"),
    "waits for descriptors": "(call $room) (drop (call $wait (call $epoll) (i32.const 8192) "
    "(i32.const 0) (i32.const -1)))",
    "waits again and again": "(local.set $fd (call $epoll))" + again(
        "(call $room) (drop (call $wait (local.get $fd) (i32.const 8192) (i32.const 0) "
        "(i32.const 1)))"),
    "yields": again("(drop (call $yield))"),
    "loops": again(""),
    "reads a file": "(local.set $fd (call $open))" + again(
        f"(drop (call $read (local.get $fd) {FILE})) (drop (call $seek (local.get $fd) "
        "(i64.const 0) (i32.const 0) (i32.const 24576)))"),
    "opens and closes": again("(drop (call $close (call $open)))"),
    "logs": again(INSIDE),
    "puts and gets": again(
        f"(drop (call $put {GO} (i32.const 99) (i64.const -1) (i32.const 0) (i32.const 0)))"
        "(drop (call $go_length))"),
    "waits for Python": "(drop (call $pause))",
    "asks Python again and again": again("(drop (call $add (i32.const 1) (i32.const 2)))"),
    "is inside a send": "(drop (call $send (i32.const 1) (i32.const 2)))",
}  # fmt: skip


async def never(call: Call) -> int:
    await asyncio.Event().wait()
    return 0


HANDLERS = {trial.PAUSE: never, trial.SEND: never, trial.ADD: lambda call: sum(call.args)}


def began(run: Run) -> None:
    while not run.read_logs():
        assert not run.wait(HANG_S, events=True), run.outcome


def closed_under_load(rng: random.Random, workers: int, options: dict[str, Any]) -> None:
    """One executor's life; up to two more threads close it at the same moment."""
    bodies = list(KINDS.values())
    rng.shuffle(bodies)
    with executor(workers=workers, handlers=HANDLERS) as node:
        runs = [
            node.start(text_guest(INSIDE + body, trial=True), inline=rng.random() < 0.2, **options)
            for body in bodies
        ]
        for run in runs:
            began(run)
        closers = [threading.Thread(target=node.close) for _ in range(rng.randrange(3))]
        for thread in closers:
            thread.start()
        node.close()
        assert all(run.done for run in runs)
        assert {ended(run).cause for run in runs} == {"cancelled"}
        with pytest.raises(NodeClosed):
            node.start(text_guest(INSIDE + bodies[0], trial=True))
        for thread in closers:
            thread.join()
        assert node.stats()["ended_cancelled"] == node.stats()["started"] == len(runs)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_close_ends_guests_inside_every_kind_of_call(tmp_path: Path, workers: int):
    (tmp_path / "file").write_bytes(b"x" * 1000)
    store = ObjectStore(1 << 20)
    options = {"dirs": [Directory(tmp_path, "/")], "objects": store, "task": "close"}
    closed_under_load(random.Random(0), workers, options)  # warms up
    gc.collect()
    before = held_at_rest()
    for seed in range(ROUNDS):
        closed_under_load(random.Random(seed), workers, options)
    gc.collect()
    assert held_again(before) == before
    stats = text_engine(True).stats()
    assert stats["memories_idle"] == stats["memories_made"]
    assert store.stats().snapshots == 0
    assert [found.key for found in store.list()] == [b"shared/go"]

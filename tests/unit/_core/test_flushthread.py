"""Flushes beside the loop, as the plain thread does them."""

from __future__ import annotations

import errno
import gc
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import flushthread as plain

from spear._core.flushthread import FlushThread

WAIT_MS = 60_000


@pytest.fixture(params=[FlushThread, plain.FlushThread])
def thread(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = request.param()
    yield made
    made.close()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def unsyncable() -> Iterator[int]:
    """A descriptor that takes no sync: EINVAL."""
    ends = socket.socketpair()
    yield ends[0].fileno()
    for end in ends:
        end.close()


def is_heard(thread: Any, wait_ms: int = 0) -> bool:
    """Whether its descriptor is readable, as a loop sees it."""
    poll = select.poll()
    poll.register(thread.descriptor, select.POLLIN)
    return bool(poll.poll(wait_ms))


def flush(thread: Any, files: list[int], folder: int = -1) -> int | None:
    thread.begin(files, folder)
    assert is_heard(thread, WAIT_MS)
    return thread.ended()  # type: ignore[no-any-return]


def test_an_end_is_heard_and_taken_once(thread: Any, file: int, tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    assert thread.ended() is None
    assert not is_heard(thread)
    for _ in range(3):
        assert flush(thread, [file, file], folder) == 0
        assert not is_heard(thread)
        assert thread.ended() is None
    assert flush(thread, []) == 0
    os.close(folder)


def test_the_errno_of_what_fails_is_told(thread: Any, file: int, unsyncable: int) -> None:
    gone = os.dup(file)
    os.close(gone)
    assert flush(thread, [file, unsyncable]) == errno.EINVAL
    assert flush(thread, [file], unsyncable) == errno.EINVAL
    assert flush(thread, [gone, unsyncable]) == errno.EBADF  # the first that fails
    assert flush(thread, [unsyncable, gone]) == errno.EINVAL
    assert flush(thread, [file]) == 0


def test_one_flush_at_a_time_whose_end_is_taken_first(thread: Any, file: int) -> None:
    thread.begin([file])
    with pytest.raises(RuntimeError, match="under way"):
        thread.begin([file])
    assert is_heard(thread, WAIT_MS)
    with pytest.raises(RuntimeError, match="not taken"):
        thread.begin([file])
    assert thread.ended() == 0
    assert flush(thread, [file]) == 0


def test_closing_waits_for_the_flush_under_way_whose_end_can_be_taken(
    thread: Any, file: int
) -> None:
    os.write(file, bytes(1 << 20))
    thread.begin([file])
    for _ in range(2):
        thread.close()
    assert thread.descriptor == -1
    assert thread.ended() == 0
    assert thread.ended() is None
    with pytest.raises(RuntimeError, match="closed"):
        thread.begin([file])


@given(st.lists(st.booleans(), max_size=6), st.sampled_from([None, True, False]))
def test_it_fails_as_the_plain_one_does(good: list[bool], folder: bool | None) -> None:
    ends = socket.socketpair()
    good_fd = os.memfd_create("file")
    of = {True: good_fd, False: ends[0].fileno(), None: -1}
    thread = FlushThread()
    files = [of[each] for each in good]
    assert flush(thread, files, of[folder]) == plain.synced(files, of[folder])
    thread.close()
    os.close(good_fd)
    for end in ends:
        end.close()


def threads() -> list[str]:
    found = []
    for task in os.listdir("/proc/self/task"):
        try:
            found.append(Path(f"/proc/self/task/{task}/comm").read_text().strip())
        except OSError:  # it has ended meanwhile
            continue
    return [name for name in found if name == "spear-kv-flush"]


def comes_true(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + WAIT_MS / 1000
    while not condition() and time.monotonic() < until:
        time.sleep(0.001)
    return condition()


@pytest.mark.parametrize("closed", [False, True])
def test_nothing_of_it_is_left(file: int, closed: bool) -> None:
    gc.collect()
    before, descriptors = len(threads()), len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        thread = FlushThread()
        assert len(threads()) == before  # it has none until the first flush
        thread.begin([file])
        assert comes_true(lambda: len(threads()) == before + 1)
        if closed:
            thread.close()
        del thread
        gc.collect()
        assert comes_true(lambda: len(threads()) == before)
    assert comes_true(lambda: len(os.listdir("/proc/self/fd")) == descriptors)


def test_it_needs_no_gil(file: int) -> None:
    """One that is closed while others hold it: all of a flush is done without it."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(WAIT_MS)  # nobody takes it away
    try:
        thread = FlushThread()
        thread.begin([file])
        until = time.monotonic() + WAIT_MS / 1000
        while (found := thread.ended()) is None and time.monotonic() < until:
            pass  # without giving it up
        assert found == 0
        thread.close()
    finally:
        sys.setswitchinterval(interval)


FORKED = """
import os, sys
from spear._core.flushthread import FlushThread
thread = FlushThread()
file = os.open(sys.argv[1], os.O_RDWR)
thread.begin([file])
child = os.fork()
if child == 0:
    thread.close()  # it has no such thread
    del thread
    os._exit(7)
thread.close()
assert thread.ended() == 0
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_waits_for_no_thread(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, str(tmp_path / "file")],
        capture_output=True, text=True, check=False, timeout=WAIT_MS / 1000,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("7\n", "")

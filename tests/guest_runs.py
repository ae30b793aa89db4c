"""Runs guests in tests: one engine a process, each module loaded once, an end to every wait.

Rule: `HANG_S` only tells a hang from a slow machine; nothing is measured with it.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spear._core.engine import Engine, Module
from spear._core.executor import Executor
from spear._core.outcome import Outcome
from spear._core.run import Run

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = (ROOT / "examples", ROOT / "tests" / "guests")
HANG_S = 60.0
MS = 1_000_000
SLEEP_FOREVER = ("sleeper", "-1")


def guest_bytes(name: str) -> bytes:
    """The committed .wasm of an example or test guest, by its stem."""
    (path,) = [path for folder in FOLDERS for path in folder.glob(f"*/{name}.wasm")]
    return path.read_bytes()


@functools.cache
def engine() -> Engine:
    return Engine(slots=4000)


@functools.cache
def guest(name: str) -> Module:
    return engine().load(guest_bytes(name))


@functools.cache
def assembled(wasm: bytes) -> Module:
    return engine().load(wasm)


@contextmanager
def executor(**settings: Any) -> Iterator[Executor]:
    """Closed at the end, and then without a live guest."""
    made = Executor(**{"workers": 2, **settings})
    try:
        yield made
    finally:
        made.close()
        assert made.stats()["live"] == 0


def ended(run: Run) -> Outcome:
    assert run.wait(HANG_S), "the guest hangs"
    return run.outcome


def finish(node: Executor, name: str, *args: str, **more: Any) -> tuple[Run, Outcome]:
    run = node.start(guest(name), args=(name, *args), **more)
    return run, ended(run)


def parked(node: Executor, **more: Any) -> Run:
    """A guest that sleeps for ever; it logs just before."""
    run = node.start(guest("sleeper"), args=SLEEP_FOREVER, **more)
    while not run.read_logs():
        assert not run.wait(HANG_S, events=True)
    return run


def looping(node: Executor, **more: Any) -> Run:
    run = node.start(guest("loop"), args=("loop",), **more)
    while not run.read_logs():
        assert not run.wait(HANG_S, events=True)
    return run


def drained(node: Executor, live: int = 0) -> None:
    """Until so many guests live; only what runs on another thread may take a while."""
    until = time.monotonic() + 20
    while node.stats()["live"] > live and time.monotonic() < until:
        time.sleep(0.001)
    assert node.stats()["live"] == live


def logged(run: Run, stream: str = "log") -> list[str]:
    return [line.message for line in run.read_logs() if line.stream == stream]


def resident_kib() -> int:
    """Memory of this process; 0 under AddressSanitizer, which keeps what is freed."""
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        return 0
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def python(code: str, *, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs `code` in an interpreter of its own, so that a crash is a result."""
    paths = [str(ROOT / "tests"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    if os.environ.get("PYTHONPATH"):  # the tree under test comes first
        paths.insert(0, paths.pop())
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "error", "-c", code],
        capture_output=True, text=True, timeout=HANG_S, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p), **(env or {})},
    )  # fmt: skip

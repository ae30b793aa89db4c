"""A node as its users call it: a daemon with its data on disk, and a client on its socket.

Rule: the daemon is a process of its own, started as users start it; the guest is a small no-op
command (one page of memory, no imports), fresh for each call. Round trips are measured with both
processes on one vCPU, rates with two. The disk of the temporary folder is what class power waits
for; a bare fdatasync runs beside it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.report import interleaved, record
from spear.client.client import Client
from spear.records.execution import Execution
from spear.records.task import TaskSpec

# (memory 1) (func (export "_start"))
NOOP = bytes.fromhex(
    "0061736d01000000010401600000030201000503010001071302066d656d6f72790200065f737461727400000a040102"
    "000b"
)
CALLS, IN_FLIGHT = 500, 64
RATE_CALLS = 10_000
GROWTH_CALLS = 100_000
WARM_CALLS = 150_000  # by then the history is full and RocksDB has filled and turned its memtables
SPEED = "the limit is for a machine where such a bare call takes about 13 us"


class Daemon:
    """A `spearlet` on a data directory of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        command = [
            sys.executable, "-m", "spear.cli.spearlet", "--storage-path", str(folder / "data"),
            "--grpc-addr", "127.0.0.1:0", "--ports-file", str(folder / "ports.json"),
        ]  # fmt: skip
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        self.environment = environment
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.address = f"unix:{folder / 'data' / 'spearlet.sock'}"

    def highest_kib(self) -> int:
        """Of its resident memory, since it started."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(
            next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]
        )

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def client(daemon: Daemon, runner: asyncio.Runner) -> Iterator[Client]:
    """Connected, with the task `noop` registered and warm."""

    async def begin() -> Client:
        made = Client(daemon.address)
        until = time.monotonic() + 20
        while not os.path.exists(daemon.address.removeprefix("unix:")):
            assert time.monotonic() < until, "the daemon does not answer"
            await asyncio.sleep(0.01)
        artifact = await made.put_artifact(NOOP)
        await made.register(TaskSpec(name="noop", artifact=artifact.digest))
        for _ in range(200):
            check(await made.invoke("noop"))
        return made

    made = runner.run(begin())
    yield made
    runner.run(made.close())


def check(execution: Execution) -> None:
    assert execution.completed, execution


def pin(daemon: Daemon, cpus: set[int]) -> None:
    """The daemon's threads, and this process."""
    for thread in os.listdir(f"/proc/{daemon.process.pid}/task"):
        os.sched_setaffinity(int(thread), cpus)
    os.sched_setaffinity(0, cpus)


def figure(how: str, daemon: Daemon, count: int) -> float:
    """Of `node_caller.py`; on the processors of this process."""
    command = [sys.executable, str(Path(__file__).with_name("node_caller.py")), how]
    done = subprocess.run(
        [*command, daemon.address, str(count)], env=daemon.environment, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    return float(done.stdout)


def bare(kind: str, window: int, count: int, folder: Path) -> float:
    """Calls a second of a protocol by hand, both ends Python, on the processors of this process:
    how quick this machine is today."""
    ends = [sys.executable, str(Path(__file__).with_name("frames_ends.py"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    path = folder / f"{kind}{window}"
    server = subprocess.Popen([*ends, "server", kind, str(path)], env=environment)
    try:
        until = time.monotonic() + 20
        while not path.exists():
            assert time.monotonic() < until, "the bare server does not listen"
            time.sleep(0.01)
        done = subprocess.run(
            [*ends, "client", kind, str(path), "100", str(count), str(window)], env=environment,
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return float(done.stdout)
    finally:
        server.kill()
        server.wait()
        path.unlink(missing_ok=True)


def fdatasync_us(path: Path) -> float:
    """The median of appending 300 bytes and syncing them."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    times = []
    for _ in range(200):
        began = time.perf_counter_ns()
        os.write(fd, b"x" * 300)
        os.fdatasync(fd)
        times.append(time.perf_counter_ns() - began)
    os.close(fd)
    return median(times) / 1e3


def test_invoke_one_at_a_time(
    benchmark: Any, tmp_path: Path, daemon: Daemon, client: Client
) -> None:
    cpus = os.sched_getaffinity(0)
    pin(daemon, {max(cpus)})
    try:
        values = interleaved(
            benchmark,
            {
                "spear": lambda: figure("one", daemon, CALLS),
                "limit": lambda: 150.0,
                "a bare call by hand": lambda: 1e6 / bare("protocol", 1, 10_000, tmp_path),
            },
        )
    finally:
        pin(daemon, cpus)
    record(
        "invoke of a fresh small guest by the socket, class crash, p50, one vCPU",
        values.pop("spear"),
        "us",
        values,
        {"limit": ("<=", 1.0)},
        SPEED,
    )


def test_invoke_64_in_flight(
    benchmark: Any, tmp_path: Path, daemon: Daemon, client: Client
) -> None:
    values = interleaved(
        benchmark,
        {
            "spear": lambda: figure("many", daemon, RATE_CALLS),
            "limit": lambda: 20.0,
            "bare calls by hand": lambda: bare("protocol", IN_FLIGHT, 64_000, tmp_path) / 1e3,
        },
    )
    record(
        "invokes by the socket, class crash, 64 in flight, two vCPUs",
        values.pop("spear"),
        "k/s",
        values,
        {"limit": (">=", 1.0)},
        SPEED,
    )


def test_submit_and_wait_of_class_power(
    benchmark: Any, tmp_path: Path, daemon: Daemon, client: Client, runner: asyncio.Runner
) -> None:
    async def accepted() -> float:
        times = []
        for _ in range(200):
            began = time.perf_counter_ns()
            execution = await client.submit("noop")
            times.append(time.perf_counter_ns() - began)
            check(await client.wait(execution.id))
        return median(times) / 1e3

    floor: list[float] = []

    def limit() -> float:
        floor.append(fdatasync_us(tmp_path / "floor"))
        return floor[-1] + 150

    values = interleaved(benchmark, {"spear": lambda: runner.run(accepted()), "limit": limit})
    record(
        "submit by the socket, class power, p50 until accepted",
        values.pop("spear"),
        "us",
        values,
        {"limit": ("<=", 1.0)},
        f"the limit is a bare write and fdatasync beside it ({median(floor):.0f} us) + 150 us; "
        "where the time goes: ADR 0025",
    )


def test_memory_over_many_invocations(benchmark: Any, daemon: Daemon, client: Client) -> None:
    """Once what is bounded has reached its bounds. The database's memory comes and goes, so what
    is compared is the highest that there was."""

    def growth() -> float:
        before = daemon.highest_kib()
        figure("many", daemon, GROWTH_CALLS // 5)
        return max(1.0, (daemon.highest_kib() - before) / (GROWTH_CALLS / 5 / 1000))

    figure("many", daemon, WARM_CALLS)
    values = interleaved(benchmark, {"spear": growth, "limit": lambda: 20.0})
    record(
        "memory of the daemon, growth a thousand invocations",
        values.pop("spear"),
        "KiB",
        values,
        {"limit": ("<=", 1.0)},
        f"of the highest resident memory, over {GROWTH_CALLS:,} invocations, after {WARM_CALLS:,}",
    )

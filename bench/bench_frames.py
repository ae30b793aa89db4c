"""Framed calls, both ends in Python, against a protocol by hand and bare grpc.aio.

Rule: the processes of a row are pinned to the same vCPU, so the figures are CPU cost; the servers
of a row live through all its rounds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.report import each_us, interleaved, record

HERE = Path(__file__).resolve().parent
KINDS = ("spear", "protocol", "grpc")


def ends(role: str, kind: str, path: str, *numbers: int) -> list[str]:
    return [sys.executable, str(HERE / "frames_ends.py"), role, kind, path, *map(str, numbers)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Starts a server of a kind and gives the path of its socket."""
    running = []

    def server(kind: str) -> str:
        path = str(tmp_path / kind)
        running.append(subprocess.Popen(ends("server", kind, path), env=environment()))
        deadline = time.monotonic() + 20
        while not os.path.exists(path):
            assert running[-1].poll() is None, f"the {kind} server ended"
            assert time.monotonic() < deadline, f"the {kind} server does not listen"
            time.sleep(0.01)
        return path

    yield server
    for process in running:
        process.kill()
        process.wait()


def rate(kind: str, path: str, count: int, window: int) -> float:
    """Calls a second of a client in a process of its own."""
    done = subprocess.run(
        ends("client", kind, path, 100, count, window), env=environment(), check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    return float(done.stdout)


def test_one_call_at_a_time(benchmark, pinned, start):
    paths = {kind: start(kind) for kind in KINDS}
    counts = {"spear": 20_000, "protocol": 20_000, "grpc": 2_000}
    values = interleaved(
        benchmark,
        {
            kind: lambda kind=kind, path=path: 1e6 / rate(kind, path, counts[kind], 1)
            for kind, path in paths.items()
        },
    )
    record(
        "framed call 100 B, one at a time, both ends Python, one vCPU",
        values.pop("spear"),
        "us",
        values,
        {"grpc": ("<=", 0.3), "protocol": ("<=", 2.5)},
        note="the protocol by hand has no request ids, errors, deadlines, cancels or limits",
    )


def test_64_calls_in_flight(benchmark, pinned, start):
    paths = {kind: start(kind) for kind in KINDS}
    counts = {"spear": 64_000, "protocol": 64_000, "grpc": 6_400}
    values = interleaved(
        benchmark,
        {
            kind: lambda kind=kind, path=path: rate(kind, path, counts[kind], 64) / 1e3
            for kind, path in paths.items()
        },
    )
    record(
        "framed calls 100 B, 64 in flight, both ends Python, one vCPU",
        values.pop("spear"),
        "k/s",
        values,
        {"grpc": (">=", 5.0)},
    )


def test_the_record_of_an_execution(benchmark):
    """What every answer costs beside the frame: to bytes at the node, from bytes at the client."""
    from spear.protocol.convert.execution import EXECUTION
    from spear.protocol.pb.spear.v1.execution_pb2 import Execution as Message
    from spear.records.execution import Execution

    made = Execution(
        id="0" * 36, task_id="1" * 36, task_name="greet", task_version=3, artifact="a" * 64,
        node_name="node", status="completed", durability="crash", created_ns=1 << 60,
        started_ns=1 << 60, finished_ns=1 << 60, duration_ns=1000, cpu_ns=900, exit_code=0,
        timeout_ns=10**9, memory_bytes=65536, input_bytes=11, output_bytes=20, output=b"x" * 20,
    )  # fmt: skip
    message = EXECUTION.message(made)
    data = message.SerializeToString()
    values = interleaved(
        benchmark,
        {
            "spear": partial(each_us, lambda: EXECUTION.encode(made), 20_000),
            "field by field": partial(
                each_us, lambda: EXECUTION.slow_message(made).SerializeToString(), 20_000
            ),
            "from bytes": partial(each_us, lambda: EXECUTION.decode(data), 20_000),
            "from bytes field by field": partial(
                each_us, lambda: EXECUTION.slow_record(Message.FromString(data)), 20_000
            ),
            "protobuf alone": partial(
                each_us, lambda: Message.FromString(message.SerializeToString()), 20_000
            ),
        },
    )
    record(
        "an execution's record to bytes", values.pop("spear"), "us", values,
        {"field by field": ("<=", 0.5)},
    )  # fmt: skip

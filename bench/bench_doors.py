"""A call through each door beside a bare gRPC echo, and the daemon's start beside that of Ray.

Rule: all servers are one process, the caller is another; the node behind the doors answers at
once, so what is measured is the door. A start is from the command to the socket's first answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from statistics import median

import grpc
import grpc.aio
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.report import interleaved, record
from spear.protocol.client import FrameChannel
from spear.protocol.pb.spearlet import function_pb2 as pb

ROOT = Path(__file__).resolve().parents[1]
INVOKE = "/spearlet.InvocationService/Invoke"
REQUEST = pb.InvokeRequest(task_id="echo", input=pb.Payload(data=b"x" * 100))
CALLS = 400
TOGETHER, EACH = 64, 100

Call = Callable[[], Awaitable[object]]


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[str, str, int, int]]:
    """Path of the socket, token, port of our door, port of the echo."""
    path = str(tmp_path / "socket")
    command = [sys.executable, str(ROOT / "bench" / "door_servers.py"), path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        token, port, echo_port = process.stdout.readline().split()
        yield path, token, int(port), int(echo_port)
        process.kill()


class Callers:
    """Ways to make one call; the connections are made once."""

    def __init__(self, servers: tuple[str, str, int, int]) -> None:
        self._path, token, self._port, self._echo_port = servers
        self._metadata = (("authorization", f"Bearer {token}"),)

    async def open(self) -> None:
        self._ours = grpc.aio.insecure_channel(f"127.0.0.1:{self._port}")
        self._bare = grpc.aio.insecure_channel(f"127.0.0.1:{self._echo_port}")
        self._frames = await FrameChannel.connect(f"unix:{self._path}")
        self._invoke = self._ours.unary_unary(
            INVOKE,
            request_serializer=pb.InvokeRequest.SerializeToString,
            response_deserializer=pb.InvokeResponse.FromString,
        )
        self._echo = self._bare.unary_unary("/bare/Echo")

    async def close(self) -> None:
        await asyncio.gather(self._ours.close(), self._bare.close(), self._frames.close())

    async def invoke_over_grpc(self) -> None:
        await self._invoke(REQUEST, metadata=self._metadata)

    async def invoke_over_frames(self) -> None:
        pb.InvokeResponse.FromString(await self._frames.call(INVOKE, REQUEST.SerializeToString()))

    async def echo(self) -> None:
        await self._echo(b"x" * 100)


async def p50_us(call: Call) -> float:
    taken = []
    for _ in range(CALLS):
        began = time.perf_counter_ns()
        await call()
        taken.append(time.perf_counter_ns() - began)
    return median(taken) / 1e3


async def thousands_a_second(call: Call) -> float:
    async def many() -> None:
        for _ in range(EACH):
            await call()

    began = time.perf_counter_ns()
    await asyncio.gather(*(many() for _ in range(TOGETHER)))
    return TOGETHER * EACH / (time.perf_counter_ns() - began) * 1e6


@pytest.fixture
def callers(servers: tuple[str, str, int, int], runner: asyncio.Runner) -> Iterator[Callers]:
    made = Callers(servers)
    runner.run(made.open())
    yield made
    runner.run(made.close())


def test_one_call(benchmark, callers, runner):
    ways = {
        "gRPC door": callers.invoke_over_grpc,
        "bare gRPC echo": callers.echo,
        "frame door": callers.invoke_over_frames,
    }
    values = interleaved(
        benchmark, {name: lambda call=call: runner.run(p50_us(call)) for name, call in ways.items()}
    )
    record(
        "Invoke through the gRPC door, 100 bytes, one at a time, p50",
        values.pop("gRPC door"),
        "us",
        values,
        {"bare gRPC echo": ("<=", 1.3)},
        note="a node that answers at once behind the doors; caller and servers are two processes",
    )


def test_many_calls_at_once(benchmark, callers, runner):
    ways = {
        "frame door": callers.invoke_over_frames,
        "gRPC door": callers.invoke_over_grpc,
        "bare gRPC echo": callers.echo,
    }
    values = interleaved(
        benchmark,
        {
            name: lambda call=call: runner.run(thousands_a_second(call))
            for name, call in ways.items()
        },
    )
    record(
        "Invoke through the frame door, 100 bytes, 64 in flight",
        values.pop("frame door"),
        "k/s",
        values,
        {"bare gRPC echo": (">=", 1.0)},
        note="a node that answers at once behind the doors; caller and servers are two processes",
    )


def daemon_start_ms(folder: Path) -> float:
    """From the command to the socket's first answer."""
    data = folder / f"data-{time.monotonic_ns()}"
    command = [sys.executable, "-m", "spear.cli.spearlet", "--storage-path", str(data),
               "--grpc-addr", "127.0.0.1:0", "--log-level", "error"]  # fmt: skip
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    began = time.perf_counter_ns()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        asyncio.run(first_answer(str(data / "spearlet.sock")))
        taken = time.perf_counter_ns() - began
        process.stdout.readline()  # gRPC, so that the end is an orderly one
        process.send_signal(signal.SIGTERM)
    assert line.startswith(b"spearlet ready: socket"), line
    return taken / 1e6


async def first_answer(path: str) -> None:
    channel = await FrameChannel.connect(f"unix:{path}")
    await channel.call("/spear.v1.NodeService/Info", b"")
    await channel.close()


def ray_start_ms() -> float:
    code = (
        "import time; began = time.perf_counter()\n"
        "import ray; ray.init(num_cpus=1, include_dashboard=False, logging_level='ERROR')\n"
        "print((time.perf_counter() - began) * 1e3); ray.shutdown()"
    )
    return float(subprocess.check_output([sys.executable, "-c", code]).split()[-1])


def test_start_of_the_daemon(benchmark, tmp_path):
    ways = {"spearlet": lambda: daemon_start_ms(tmp_path)}
    goals = {}
    with contextlib.suppress(ImportError):
        import ray  # noqa: F401

        ways["ray.init()"] = ray_start_ms
        goals["ray.init()"] = ("<=", 0.1)
    values = interleaved(benchmark, ways)
    record(
        "start of the daemon until its socket answers",
        values.pop("spearlet"),
        "ms",
        values,
        goals,
        note="an empty data directory, RocksDB; the interpreter's own start included",
    )

"""A call through each door beside a bare gRPC echo, and the daemon's start beside that of Ray.

Rule: all servers are one process, the caller is another; the node behind the doors answers at
once, so what is measured is the door. One row is of a daemon, a process of its own, that runs a
guest for each call. A start is from the command to the first answer of a door.
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
from spear.client.client import Client
from spear.protocol.client import FrameChannel
from spear.protocol.pb.spearlet import function_pb2 as pb
from spear.records.task import TaskSpec

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


# The least guest: one page, no imports.
NOOP = ROOT / "tests" / "guests" / "shapes" / "noop.wasm"


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


async def put_noop(socket: str) -> None:
    async with Client(f"unix:{socket}") as client:
        artifact = await client.put_artifact(NOOP.read_bytes())
        await client.register(TaskSpec(name="noop", artifact=artifact.digest))
        for _ in range(200):
            assert (await client.invoke("noop")).completed


def test_one_call_of_a_guest_over_grpc(benchmark, callers, runner, tmp_path):
    request = pb.InvokeRequest(task_id="noop")
    with started_daemon(tmp_path) as (process, data):
        runner.run(put_noop(ready(process, "socket")))
        address, token = ready(process, "grpc"), (data / "token").read_text().strip()
        metadata = (("authorization", f"Bearer {token}"),)

        async def opened() -> tuple[grpc.aio.Channel, FrameChannel]:
            frames = await FrameChannel.connect(f"unix:{data / 'spearlet.sock'}")
            return grpc.aio.insecure_channel(address), frames

        channel, frames = runner.run(opened())
        invoke = channel.unary_unary(
            INVOKE,
            request_serializer=pb.InvokeRequest.SerializeToString,
            response_deserializer=pb.InvokeResponse.FromString,
        )

        async def by_grpc() -> None:
            answer = await invoke(request, metadata=metadata)
            assert answer.status == pb.EXECUTION_STATUS_COMPLETED, answer

        async def by_frames() -> None:
            answer = await frames.call(INVOKE, request.SerializeToString())
            assert pb.InvokeResponse.FromString(answer).status == pb.EXECUTION_STATUS_COMPLETED

        ways = {"spear": by_grpc, "bare gRPC echo": callers.echo, "by the socket": by_frames}
        values = interleaved(
            benchmark,
            {name: lambda call=call: runner.run(p50_us(call)) for name, call in ways.items()},
        )
        runner.run(channel.close())
        runner.run(frames.close())
    record(
        "invoke of a fresh small guest over gRPC, class crash, one at a time, p50",
        values.pop("spear"),
        "us",
        values,
        {"bare gRPC echo": ("<=", 1.3)},
        note="a daemon on its data directory; a guest of one page, compiled before; caller, daemon "
        "and echo are three processes",
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


@contextlib.contextmanager
def started_daemon(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """On a data directory of its own; ended in order, once it is ready."""
    data = folder / f"data-{time.monotonic_ns()}"
    command = [sys.executable, "-m", "spear.cli.spearlet", "--storage-path", str(data),
               "--grpc-addr", "127.0.0.1:0", "--log-level", "error"]  # fmt: skip
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, cwd=ROOT) as process:
        yield process, data
        process.send_signal(signal.SIGTERM)


def ready(process: subprocess.Popen[bytes], door: str) -> str:
    """Where the door is, once the daemon says that it is open."""
    assert process.stdout is not None
    words = process.stdout.readline().decode().split()
    assert words[:3] == ["spearlet", "ready:", door], words
    return words[3]


def daemon_start_ms(folder: Path) -> tuple[float, float]:
    """From the command to the first answer of the socket, and to that of gRPC."""
    began = time.perf_counter_ns()
    with started_daemon(folder) as (process, _):
        asyncio.run(first_answer(ready(process, "socket")))
        by_socket = time.perf_counter_ns() - began
        asyncio.run(first_health(ready(process, "grpc")))
        return by_socket / 1e6, (time.perf_counter_ns() - began) / 1e6


async def first_answer(path: str) -> None:
    channel = await FrameChannel.connect(f"unix:{path}")
    await channel.call("/spear.v1.NodeService/Info", b"")
    await channel.close()


async def first_health(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        await channel.unary_unary("/grpc.health.v1.Health/Check")(b"", wait_for_ready=True)


def ray_start_ms() -> float:
    code = (
        "import time; began = time.perf_counter()\n"
        "import ray; ray.init(num_cpus=1, include_dashboard=False, logging_level='ERROR')\n"
        "print((time.perf_counter() - began) * 1e3); ray.shutdown()"
    )
    return float(subprocess.check_output([sys.executable, "-c", code]).split()[-1])


def test_start_of_the_daemon(benchmark, tmp_path):
    by_grpc: list[float] = []

    def by_socket() -> float:
        first, second = daemon_start_ms(tmp_path)
        by_grpc.append(second)
        return first

    ways: dict[str, Callable[[], float]] = {"spearlet": by_socket}
    goals: dict[str, tuple[str, float]] = {}
    with contextlib.suppress(ImportError):
        import ray  # noqa: F401

        ways["ray.init()"] = ray_start_ms
        goals["ray.init()"] = ("<=", 0.1)
    values = interleaved(benchmark, ways)
    note = "an empty data directory, RocksDB; the interpreter's own start included"
    by_socket_ms = values.pop("spearlet")
    record(
        "start of the daemon until its socket answers", by_socket_ms, "ms", values, goals, note=note
    )
    record(
        "start of the daemon until gRPC answers, all doors open",
        by_grpc[-len(by_socket_ms) :],
        "ms",
        {"its socket": by_socket_ms},
        {},
        note=f"{note}; the same starts, a client of gRPC included; the node has no other exporter",
    )

"""Metadata beside etcd, objects across processes beside Redis: each a read, a write, a write that
depends on what was read.

Rule: one call at a time, caller and servers on one vCPU; the median of a round. Ours is a daemon as
users start it, with its data on disk, and a client on its socket; metadata over gRPC is a record
read through its gRPC door. The peers are asked through their own Python clients, which are
synchronous and so the cheaper ones: redis-py, grpc.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import grpc.aio
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.bench_node import NOOP, Daemon
from bench.peers import Etcd, etcd, pin, redis
from bench.report import interleaved, record
from spear.client.client import Client
from spear.kv.batch import Batch
from spear.kv.rocks import RocksKv, open_rocks
from spear.protocol.pb.spearlet import function_pb2 as pb
from spear.records.task import TaskSpec

CALLS, SHORT, READS, ALONE = 1000, 200, 20_000, 150
WAITERS, EACH = 16, 100
KEY, ROW, VALUE = b"exec/00000001", os.urandom(300), os.urandom(1024)
CAS = (
    "if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('set', KEYS[1], ARGV[2]) return 1 "
    "else return 0 end"
)


def typical_us(call: Callable[[], object], count: int = CALLS) -> float:
    """The median of single calls."""
    times = []
    for _ in range(count):
        began = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - began)
    return median(times) / 1e3


async def awaited_us(call: Callable[[], Awaitable[object]], count: int = CALLS) -> float:
    """As `typical_us`, on a loop."""
    times = []
    for _ in range(count):
        began = time.perf_counter_ns()
        await call()
        times.append(time.perf_counter_ns() - began)
    return median(times) / 1e3


async def rate_k(call: Callable[[], Awaitable[object]]) -> float:
    """Thousand calls a second, WAITERS at once."""

    async def waiter() -> None:
        for _ in range(EACH):
            await call()

    began = time.perf_counter()
    await asyncio.gather(*(waiter() for _ in range(WAITERS)))
    return WAITERS * EACH / (time.perf_counter() - began) / 1e3


def mean_us(call: Callable[[], object], count: int) -> float:
    """For what is shorter than a look at the clock."""
    began = time.perf_counter_ns()
    for _ in range(count):
        call()
    return (time.perf_counter_ns() - began) / count / 1e3


@pytest.fixture
def one_cpu() -> Iterator[set[int]]:
    """The vCPU of this process meanwhile; servers are put there by `pin`."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield {max(before)}
    os.sched_setaffinity(0, before)


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Etcd]:
    with etcd(tmp_path) as server:
        yield server


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server of grpc.aio that gives back the bytes it gets, and its address."""
    command = [sys.executable, str(Path(__file__).with_name("door_servers.py")), tmp_path / "doors"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, f"127.0.0.1:{process.stdout.readline().split()[-1]}"
        process.kill()


@pytest.fixture
def kv(tmp_path: Path, runner: asyncio.Runner) -> Iterator[RocksKv]:
    opened = open_rocks(str(tmp_path / "kv"))
    yield opened
    runner.run(opened.close())


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def client(daemon: Daemon, runner: asyncio.Runner, tmp_path: Path) -> Iterator[Client]:
    """Connected, once both doors of the daemon are open."""
    until = time.monotonic() + 30
    while b'"grpc"' not in (_read(tmp_path / "ports.json")):
        assert time.monotonic() < until, "the daemon does not open its gRPC door"
        time.sleep(0.01)
    made = Client(daemon.address)
    runner.run(made.info())
    yield made
    runner.run(made.close())


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def test_durable_put_alone(
    benchmark: Any, kv: RocksKv, member: Etcd, runner: asyncio.Runner
) -> None:
    batch = Batch()
    batch.put(KEY, ROW)
    request = member.messages.PutRequest(key=KEY, value=ROW)
    with grpc.insecure_channel(member.target) as channel:
        put, _ = member.calls(channel)
        values = interleaved(
            benchmark,
            {
                "spear": lambda: runner.run(awaited_us(lambda: kv.commit(batch), ALONE)),
                "etcd": lambda: typical_us(lambda: put(request), ALONE),
            },
        )
    record(
        "durable put beside etcd, 300 B, alone, p50",
        values.pop("spear"),
        "us",
        values,
        {"etcd": ("<=", 1.0)},
        "ours in process, etcd by gRPC on a Unix socket; both wait for the disk",
    )


def test_durable_puts_at_once(
    benchmark: Any, kv: RocksKv, member: Etcd, runner: asyncio.Runner
) -> None:
    batch = Batch()
    batch.put(KEY, ROW)
    request = member.put_request(KEY, ROW)

    async def theirs() -> float:
        async with grpc.aio.insecure_channel(member.target) as channel:
            put = channel.unary_unary("/etcdserverpb.KV/Put")
            await put(request)
            return await rate_k(lambda: put(request))

    values = interleaved(
        benchmark,
        {
            "spear": lambda: runner.run(rate_k(lambda: kv.commit(batch))),
            "etcd": lambda: runner.run(theirs()),
        },
    )
    record(
        f"durable puts beside etcd, 300 B, {WAITERS} at once",
        values.pop("spear"),
        "k/s",
        values,
        {"etcd": (">=", 2.0)},
        "ours in process, etcd by Python's asynchronous gRPC client, whose own cost is part of it",
    )


def test_metadata_read_in_process(
    benchmark: Any, kv: RocksKv, member: Etcd, one_cpu: set[int]
) -> None:
    batch = Batch()
    batch.put(KEY, ROW)
    kv.write(batch)
    pin(member.process, one_cpu)
    with grpc.insecure_channel(member.target) as channel:
        put, read = member.calls(channel)
        put(member.messages.PutRequest(key=KEY, value=ROW))
        request = member.messages.RangeRequest(key=KEY)
        assert read(request).kvs[0].value == kv.get(KEY) == ROW
        values = interleaved(
            benchmark,
            {
                "spear": lambda: mean_us(lambda: kv.get(KEY), READS),
                "etcd": lambda: typical_us(lambda: read(request)),
            },
        )
    record(
        "metadata read in process beside etcd, 300 B, one vCPU",
        values.pop("spear"),
        "us",
        values,
        {"etcd": ("<=", 0.01)},
        "the read of a row; etcd by gRPC on a Unix socket",
    )


def execution_getter(channel: grpc.Channel) -> Any:
    return channel.unary_unary(
        "/spearlet.ExecutionService/GetExecution",
        request_serializer=pb.GetExecutionRequest.SerializeToString,
        response_deserializer=pb.Execution.FromString,
    )


def test_metadata_read_over_grpc(
    benchmark: Any, tmp_path: Path, daemon: Daemon, client: Client, member: Etcd,
    echo: tuple[subprocess.Popen[str], str], runner: asyncio.Runner, one_cpu: set[int],
) -> None:  # fmt: skip
    """All through the same client library, on Unix socket (etcd) and loopback."""

    async def ended() -> str:
        artifact = await client.put_artifact(NOOP)
        await client.register(TaskSpec(name="noop", artifact=artifact.digest))
        return (await client.invoke("noop")).id

    id = runner.run(ended())
    info = runner.run(client.info())
    token = (tmp_path / "data" / "token").read_text().strip()
    metadata = (("authorization", f"Bearer {token}"),)
    pin(member.process, one_cpu)
    pin(daemon.process, one_cpu)
    pin(echo[0], one_cpu)
    with (
        grpc.insecure_channel(member.target) as theirs,
        grpc.insecure_channel(info["grpc"]) as ours,
        grpc.insecure_channel(echo[1]) as empty,
    ):
        give_back = empty.unary_unary("/bare/Echo")
        put, read = member.calls(theirs)
        put(member.messages.PutRequest(key=KEY, value=ROW))
        request = member.messages.RangeRequest(key=KEY)
        get = execution_getter(ours)
        asked = pb.GetExecutionRequest(execution_id=id)
        assert get(asked, metadata=metadata).execution_id == id
        values = interleaved(
            benchmark,
            {
                "spear": lambda: typical_us(lambda: get(asked, metadata=metadata)),
                "etcd": lambda: typical_us(lambda: read(request)),
                "bare gRPC echo": lambda: typical_us(lambda: give_back(ROW)),
            },
        )
    record(
        "metadata read over gRPC, p50, one vCPU",
        values.pop("spear"),
        "us",
        values,
        {"etcd": ("<=", 1.1)},
        "GetExecution of an ended execution by TCP with its token, beside a Range of one key by a "
        "Unix socket, and 300 bytes given back by TCP by the same library as ours; grpc's "
        "synchronous client for all",
    )


def test_objects_across_processes(
    benchmark: Any, tmp_path: Path, daemon: Daemon, client: Client, runner: asyncio.Runner,
    one_cpu: set[int],
) -> None:  # fmt: skip
    """Three rows from one run: get, put, compare and swap."""
    pin(daemon.process, one_cpu)
    info = runner.run(client.put_object("shared/one", VALUE))
    version = [info.version]

    async def swap() -> None:
        info = await client.put_object("shared/one", VALUE, if_version=version[0])
        version[0] = info.version

    with redis(tmp_path) as (peer, server):
        pin(server, one_cpu)
        peer.set("one", VALUE)
        script = peer.register_script(CAS)
        assert script(keys=["one"], args=[VALUE, VALUE]) == 1
        figures = (
            ("get", lambda: client.get_object("shared/one"), lambda: peer.get("one"), 0.8),
            ("compare and swap", swap, lambda: script(keys=["one"], args=[VALUE, VALUE]), 0.6),
            (
                "put",
                lambda: client.put_object("shared/two", VALUE),
                lambda: peer.set("two", VALUE),
                None,
            ),
        )
        contenders: dict[str, Callable[[], float]] = {}
        for name, ours, theirs, _ in figures:
            contenders[name] = lambda ours=ours: runner.run(awaited_us(ours, SHORT))
            contenders[f"{name}, Redis"] = lambda theirs=theirs: typical_us(theirs, SHORT)
        values = interleaved(benchmark, contenders, turns=5)
    for name, _, _, goal in figures:
        record(
            f"object {name} of 1 KiB across processes, p50, one vCPU",
            values[name],
            "us",
            {"redis-py": values[f"{name}, Redis"]},
            {} if goal is None else {"redis-py": ("<=", goal)},
            "ours with version and record by spear.Client on the node's socket; redis-py on a Unix "
            "socket, without persistence"
            + ("; a Lua script" if name == "compare and swap" else ""),
        )

"""Every port of a real daemon from outside: a scan without credentials, garbage, silent clients.

Rule: whatever was done to a port, the node behind it still runs a guest for others, and holds no
more memory or descriptors than before.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest
from daemon_child import Child, health
from door_node import DoorNode
from listening import listening
from real_daemon import RealDaemon, real_daemon, until

from spear.errors import Unauthenticated
from spear.protocol.client import FrameChannel
from spear.protocol.message import CALL, REQUEST, pack, pack_call
from spear.protocol.pb.spearlet import function_pb2 as pb
from spear.spearlet.rpc.table import method_table

GROWTH_KIB_MAX = 32 << 10
MORE_MAX = 30  # descriptors, that gRPC and the store open as they go; less than what came in
INVOKE = "/spearlet.InvocationService/Invoke"
UNKNOWN = (
    "/spearlet.InvocationService/Nope", "/nope.Nope/Nope", "/", "/grpc.health.v1.Health/Nope",
    "/grpc.channelz.v1.Channelz/GetServers", "/sms.NodeService/RegisterNode",
)  # fmt: skip
REFLECTIONS = (
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
)
TABLE = method_table(object_bytes_max=1, drain=DoorNode().drain)
PATHS = [*TABLE, *UNKNOWN, *REFLECTIONS]
UNARY = [
    path for path, method in TABLE.items()
    if method.kind == "unary" and not path.endswith(("/Drain", "/Wait"))
]  # fmt: skip


@pytest.fixture
async def child(tmp_path: Path) -> AsyncIterator[RealDaemon]:
    async with real_daemon(tmp_path) as made:
        await made.live(SPEARLET_FRAMES_ADDR="127.0.0.1:0")
        await made.register("echo")
        yield made


def descriptors(child: Child) -> int:
    return len(os.listdir(f"/proc/{child.process.pid}/fd"))


async def as_before(child: RealDaemon, kib: int, count: int) -> None:
    async def closed() -> bool:
        return descriptors(child) < count + MORE_MAX

    await until(closed)
    assert child.resident_kib() - kib < GROWTH_KIB_MAX


async def still_serves(child: Child) -> None:
    channel = await child.channel()
    request = pb.InvokeRequest(task_id="echo", input=pb.Payload(data=b"x")).SerializeToString()
    answer = pb.InvokeResponse.FromString(await channel.call(INVOKE, request))
    assert answer.output.data == b"x"
    await channel.close()
    assert await health(child.doors["grpc"]) == "SERVING"


async def test_it_listens_at_the_doors_that_it_names_and_nowhere_else(child: RealDaemon) -> None:
    named = {f"unix:{child.doors['socket']}", child.doors["grpc"], child.doors["frames"]}
    assert listening(child.process.pid) == named
    await still_serves(child)  # and with callers, of all its doors
    await child.client.test_model("stub")
    channel = await FrameChannel.connect(child.doors["frames"], child.token())
    assert listening(child.process.pid) == named
    await channel.close()


def test_what_listens_is_found_whatever_it_is(tmp_path: Path) -> None:
    before = listening(os.getpid())
    made = [socket.socket(kind, *rest) for kind, *rest in (
        (socket.AF_UNIX,), (socket.AF_INET,), (socket.AF_INET, socket.SOCK_DGRAM),
    )]  # fmt: skip
    names = [str(tmp_path / "s"), ("127.0.0.1", 0), ("127.0.0.1", 0)]
    for sock, name in zip(made, names, strict=True):
        sock.bind(name)
        if sock.type == socket.SOCK_STREAM:
            sock.listen()
    ports = [sock.getsockname()[1] for sock in made[1:]]
    assert listening(os.getpid()) - before == {
        f"unix:{tmp_path}/s", f"127.0.0.1:{ports[0]}", f"udp 127.0.0.1:{ports[1]}",
    }  # fmt: skip
    for sock in made:
        sock.close()
    assert listening(os.getpid()) == before


async def code_of(channel: grpc.aio.Channel, path: str, token: str = "") -> str:
    """One message and no more, so that a refusal cannot meet what this side still sends."""
    metadata = (("authorization", f"Bearer {token}"),) if token else None
    return str((await channel.unary_unary(path)(b"", metadata=metadata, timeout=30).code()).name)


async def test_without_credentials_only_health_answers_over_grpc(child: Child) -> None:
    async with grpc.aio.insecure_channel(child.doors["grpc"]) as channel:
        for token in ("", "0" * 64, child.token()[:-1]):
            found = {path: await code_of(channel, path, token) for path in PATHS}
            assert found.pop("/grpc.health.v1.Health/Nope") == "UNIMPLEMENTED"
            assert set(found.values()) == {"UNAUTHENTICATED"}, found
            assert await code_of(channel, "/grpc.health.v1.Health/Check", token) == "OK"
        found = {path: await code_of(channel, path, child.token()) for path in UNARY}
        assert "UNAUTHENTICATED" not in found.values()
        assert found["/spear.v1.NodeService/Info"] == "OK"


async def frames_of(address: str, sent: bytes) -> bytes:
    """All that the door says to these bytes, until it closes."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    writer.write_eof()
    said = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    return said


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(8, "little") + body


async def test_without_credentials_nothing_answers_over_frames(child: Child) -> None:
    address = child.doors["frames"]
    for token in (None, "", "0" * 64, child.token()[:-1]):
        with pytest.raises(Unauthenticated):
            await FrameChannel.connect(address, token)
    for path in [*PATHS, "/grpc.health.v1.Health/Check"]:  # with no hello at all
        call = pack(REQUEST, 0, CALL, 1, pack_call(path.encode(), 0, b""))
        said = await frames_of(address, framed(call))
        assert b"a frame of type request to a host that is new" in said
    await still_serves(child)


def garbage(seed: int) -> bytes:
    """Noise of many sizes: plain, behind a plausible frame header, behind HTTP/2's preface."""
    chance = random.Random(seed)
    noise = chance.randbytes(chance.choice((1, 7, 8, 9, 24, 100, 5000)))
    head = chance.choice((
        b"", len(noise).to_bytes(8, "little"), (1 << 63).to_bytes(8, "little"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01", framed(b"\x01\x01\x00\x00\x00\x00\x00\x00" + bytes(8)),
    ))  # fmt: skip
    return head + noise


async def throw(connect: socket.socket, noise: bytes) -> None:
    loop = asyncio.get_running_loop()
    with connect:
        try:
            await loop.sock_sendall(connect, noise)
            connect.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(2):
                while await loop.sock_recv(connect, 65536):
                    pass
        except (OSError, TimeoutError):
            return


async def connected(child: Child, door: str) -> socket.socket:
    if door == "socket":
        made, target = socket.socket(socket.AF_UNIX), child.doors[door]
    else:
        host, port = child.doors[door].rsplit(":", 1)
        made, target = socket.socket(), (host, int(port))  # type: ignore[assignment]
    made.setblocking(False)
    await asyncio.get_running_loop().sock_connect(made, target)
    return made


@pytest.mark.parametrize("door", ["socket", "frames", "grpc"])
async def test_garbage_ends_its_own_connection_only(child: RealDaemon, door: str) -> None:
    await still_serves(child)
    kib, count = child.resident_kib(), descriptors(child)
    for first in range(0, 60, 20):
        thrown = [(await connected(child, door), garbage(first + n)) for n in range(20)]
        await asyncio.gather(*(throw(sock, noise) for sock, noise in thrown))
    await still_serves(child)
    await as_before(child, kib, count)


@pytest.mark.parametrize("door", ["socket", "frames", "grpc"])
async def test_clients_that_say_nothing_hold_up_nobody(child: RealDaemon, door: str) -> None:
    await still_serves(child)
    kib, count = child.resident_kib(), descriptors(child)
    silent = [await connected(child, door) for _ in range(100)]
    await still_serves(child)
    for sock in silent:
        sock.close()
    await still_serves(child)
    await as_before(child, kib, count)

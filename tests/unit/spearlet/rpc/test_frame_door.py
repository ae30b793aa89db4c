"""The frame door: who is let in, calls and streams of the table, what reaches a handler."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from door_callers import OBJECT_BYTES_MAX, TOKEN, Faults, access, table_of
from door_node import DoorNode

from spear.errors import (
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    SpearError,
    Unauthenticated,
    Unimplemented,
    Unreachable,
    VersionConflict,
)
from spear.protocol.client import FrameChannel
from spear.protocol.message import Hello
from spear.protocol.pb.spear.v1 import execution_pb2, object_pb2
from spear.protocol.pb.spear.v1.value_pb2 import Chunk
from spear.protocol.pb.spearlet import function_pb2 as pb
from spear.protocol.pb.spearlet import object_pb2 as frozen_object_pb2
from spear.protocol.serving import Caller
from spear.protocol.sockets import Credentials
from spear.spearlet.rpc.frame_door import FrameDoor

INVOKE = "/spearlet.InvocationService/Invoke"
WATCH = "/spear.v1.ExecutionService/Watch"
READ = "/spear.v1.ExecutionService/ReadResult"
PUT = "/spear.v1.ObjectService/Put"


class FrameNode:
    """A node behind a frame door on a Unix socket, and a channel to it."""

    def __init__(
        self, folder: Path, *, uid: int | None = None, loopback_open: bool = False
    ) -> None:
        self.node, self.faults = DoorNode(), Faults()
        rules = access(uid=os.geteuid() if uid is None else uid, loopback_open=loopback_open)
        self.door = FrameDoor(self.node, table_of(self.node), rules, self.faults.hear)
        self.address = self.door.listen(f"unix:{folder}/socket")
        self.channel: FrameChannel

    async def __aenter__(self) -> FrameNode:
        self.channel = await FrameChannel.connect(self.address)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.door.close(0)

    async def invoke(self, task: str = "echo", data: bytes = b"", **options: int) -> bytes:
        request = pb.InvokeRequest(task_id=task, input=pb.Payload(data=data))
        answer = await self.channel.call(INVOKE, request.SerializeToString(), **options)
        return pb.InvokeResponse.FromString(answer).output.data


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[FrameNode]:
    async with FrameNode(tmp_path) as served:
        yield served


async def test_the_socket_is_its_owner_s_alone(served: FrameNode) -> None:
    assert os.stat(served.address.removeprefix("unix:")).st_mode & 0o777 == 0o600


async def test_a_call_is_answered_with_the_same_messages_as_over_grpc(served: FrameNode) -> None:
    assert await served.invoke(data=b"hi") == b"hi"
    assert served.node.calls == ["invoke"]


async def test_many_calls_are_in_flight_and_each_gets_its_own_answer(served: FrameNode) -> None:
    inputs = [b"%d" % number for number in range(500)]
    assert await asyncio.gather(*(served.invoke(data=data) for data in inputs)) == inputs


async def test_errors_are_those_of_the_tree(served: FrameNode) -> None:
    with pytest.raises(NotFound, match="no task 'nope'"):
        await served.invoke("nope")
    put = frozen_object_pb2.PutObjectRequest(key="a", if_version=7)
    with pytest.raises(VersionConflict) as caught:
        await served.channel.call("/spearlet.ObjectService/PutObject", put.SerializeToString())
    assert (caught.value.key, caught.value.expected, caught.value.actual) == (b"a", 7, 0)
    with pytest.raises(InvalidArgument, match=r"is no spearlet.InvokeRequest"):
        await served.channel.call(INVOKE, b"\xff\xff")


async def test_a_write_without_a_head_is_one_of_no_key(served: FrameNode) -> None:
    answers = []
    for head in (None, object_pb2.ObjectHead()):
        request = object_pb2.WriteObjectRequest(head=head, value=b"x").SerializeToString()
        try:
            await served.channel.call("/spear.v1.ObjectService/Write", request)
            answers.append(((await served.node.get_object(""))[1], ""))
        except SpearError as error:
            answers.append((b"", str(error)))
    assert answers[0] == answers[1]


async def test_a_value_too_large_for_one_answer_is_left_out_of_it(served: FrameNode) -> None:
    for size, sent in ((1 << 20, 1 << 20), ((1 << 20) + 1, 0)):
        await served.node.put_object("a", bytes(size))
        request = object_pb2.GetObjectRequest(key="a").SerializeToString()
        data = await served.channel.call("/spear.v1.ObjectService/Read", request)
        found = object_pb2.ReadObjectResponse.FromString(data)
        assert (found.info.size, len(found.value)) == (size, sent)


async def test_a_fault_tells_the_log_and_nothing_to_the_caller(served: FrameNode) -> None:
    with pytest.raises(SpearError) as caught:
        await served.invoke("boom")
    assert caught.value.status == "INTERNAL"
    assert "invariant" not in str(caught.value)
    ((path, fault),) = served.faults
    assert path == INVOKE
    assert isinstance(fault, RuntimeError)


async def test_what_the_table_has_not_is_unimplemented(served: FrameNode) -> None:
    for path in ("/spearlet.InvocationService/Nope", "", "nope", "/grpc.health.v1.Health/Check"):
        with pytest.raises(Unimplemented):
            await served.channel.call(path, b"")
    with pytest.raises(Unimplemented, match="open it with operation 129"):
        await served.channel.call(WATCH, b"")
    stream = await served.channel.stream(INVOKE, b"")
    with pytest.raises(Unimplemented, match="call it with operation 128"):
        await anext(stream)


async def test_a_server_s_stream_comes_whole(served: FrameNode) -> None:
    await served.invoke(data=b"r" * 1_000_000)
    request = execution_pb2.ReadResultRequest(id="execution-0001").SerializeToString()
    stream = await served.channel.stream(READ, request)
    chunks = [Chunk.FromString(message).data async for message in stream]
    assert b"".join(chunks) == b"r" * 1_000_000
    assert max(map(len, chunks)) == 65536


async def put_object(served: FrameNode, *chunks: bytes) -> object_pb2.ObjectInfo:
    head = object_pb2.PutObjectRequest(head=object_pb2.ObjectHead(key="a"))
    async with await served.channel.stream(PUT, head.SerializeToString(), last=False) as stream:
        for number, chunk in enumerate(chunks, 1):
            part = object_pb2.PutObjectRequest(chunk=chunk).SerializeToString()
            await stream.send(part, last=number == len(chunks))
        (answer,) = [message async for message in stream]
    return object_pb2.ObjectInfo.FromString(answer)


async def test_a_client_s_stream_goes_whole(served: FrameNode) -> None:
    info = await put_object(served, *[b"c" * 60_000] * 10)
    assert (info.key, info.size) == ("a", 600_000)
    assert (await served.node.get_object("a"))[1] == b"c" * 600_000


async def test_a_client_s_stream_beyond_the_limit_is_refused(served: FrameNode) -> None:
    with pytest.raises(InvalidArgument, match=f"larger than {OBJECT_BYTES_MAX} bytes"):
        await put_object(served, *[b"c" * 60_000] * (OBJECT_BYTES_MAX // 60_000 + 1))


async def test_a_caller_that_gives_up_ends_what_it_asked_for(served: FrameNode) -> None:
    asked = asyncio.ensure_future(served.invoke("wait"))
    await served.node.started.wait()
    asked.cancel()
    await asyncio.wait_for(served.node.gone.wait(), 20)
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert await served.invoke(data=b"and on") == b"and on"


async def test_a_caller_that_vanishes_ends_what_it_asked_for(served: FrameNode) -> None:
    channel = await FrameChannel.connect(served.address)
    request = pb.InvokeRequest(task_id="wait").SerializeToString()
    asked = asyncio.ensure_future(channel.call(INVOKE, request))
    await served.node.started.wait()
    channel.transport.abort()
    await asyncio.wait_for(served.node.gone.wait(), 20)
    with pytest.raises(Unreachable):
        await asked


async def test_a_deadline_ends_what_was_asked_for(served: FrameNode) -> None:
    with pytest.raises(DeadlineExceeded):
        await served.invoke("wait", deadline_ms=100)
    await asyncio.wait_for(served.node.gone.wait(), 20)


async def test_a_stream_that_is_given_up_is_closed_at_the_node(served: FrameNode) -> None:
    stream = await served.channel.stream(
        WATCH, execution_pb2.WatchExecutionsRequest().SerializeToString()
    )
    while "watch" not in served.node.calls:
        await asyncio.sleep(0)
    stream.cancel()
    await asyncio.wait_for(served.node.gone.wait(), 20)


async def test_a_stream_that_is_not_read_is_closed_between_two_messages(
    served: FrameNode,
) -> None:
    """Its producer waits for credit, in no await of its own, when the caller gives up."""
    await served.invoke()
    produced, closed = 0, asyncio.Event()

    async def endless(id: str) -> AsyncIterator[bytes]:
        nonlocal produced
        try:
            while True:
                produced += 1
                yield b"r" * 65536
        finally:
            closed.set()

    served.node.read_result = endless  # type: ignore[method-assign]
    request = execution_pb2.ReadResultRequest(id="execution-0001").SerializeToString()
    stream = await served.channel.stream(READ, request)
    seen = -1
    while seen != produced or produced < 2:
        seen = produced
        await served.invoke()
    assert produced < 20  # 256 KiB of credit, and one more
    stream.cancel()
    await asyncio.wait_for(closed.wait(), 20)


async def test_another_user_is_refused_at_hello(served: FrameNode) -> None:
    for uid, token in ((os.geteuid() + 1, None), (os.geteuid() + 1, TOKEN)):
        caller = Caller("unix", Credentials(pid=1, uid=uid, gid=0))
        with pytest.raises(PermissionDenied, match=f"user {uid} may not use the socket"):
            served.door._authorize(caller, Hello(token=token))


@pytest.mark.parametrize("token", [None, "", TOKEN[:-1], TOKEN.upper() + "x"])
async def test_over_tcp_hello_shows_the_token(served: FrameNode, token: str | None) -> None:
    address = served.door.listen("127.0.0.1:0")
    with pytest.raises(Unauthenticated, match=r"auth\.token_file"):
        await FrameChannel.connect(address, token)
    channel = await FrameChannel.connect(address, TOKEN)
    assert await channel.call(INVOKE, pb.InvokeRequest(task_id="echo").SerializeToString())
    await channel.close()


async def test_an_open_loopback_needs_no_token(tmp_path: Path) -> None:
    async with FrameNode(tmp_path, loopback_open=True) as served:
        channel = await FrameChannel.connect(served.door.listen("127.0.0.1:0"))
        assert await channel.call(INVOKE, pb.InvokeRequest(task_id="echo").SerializeToString())
        await channel.close()


async def test_closing_waits_for_calls_and_then_cancels_them(served: FrameNode) -> None:
    asked = asyncio.ensure_future(served.invoke("wait"))
    await served.node.started.wait()
    await served.door.close(0.05)
    assert served.node.gone.is_set()
    with pytest.raises((Unreachable, asyncio.CancelledError)):
        await asked
    assert not os.path.exists(served.address.removeprefix("unix:"))

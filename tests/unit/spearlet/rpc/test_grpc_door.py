"""The gRPC door: who is let in, what reaches a handler when its caller goes, how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
import trustme
from door_callers import SHOWN, TOKEN, Faults, GrpcNode, access, table_of
from door_node import DoorNode
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from spear.errors import InvalidArgument
from spear.protocol.pb.spear.v1 import execution_pb2
from spear.protocol.pb.spearlet import function_pb2 as pb
from spear.security.tls import TlsFiles
from spear.spearlet.rpc import grpc_door
from spear.spearlet.rpc.grpc_door import GrpcDoor

INVOKE = "/spearlet.InvocationService/Invoke"
WATCH = "/spear.v1.ExecutionService/Watch"
HEALTH = "/grpc.health.v1.Health/Check"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
WRONG = (
    (),
    (("authorization", f"Bearer {TOKEN[:-1]}"),),
    (("authorization", f"Bearer {TOKEN}x"),),
    (("authorization", f"Basic {TOKEN}"),),
    (("authorization", TOKEN),),
    (("authorization", ""),),
    (("token", TOKEN),),
    (("authorization-bin", f"Bearer {TOKEN}".encode()),),
)


@pytest.fixture
async def served() -> AsyncIterator[GrpcNode]:
    async with GrpcNode() as served:
        yield served


async def health(channel: grpc.aio.Channel, service: str = "") -> str:
    ask = channel.unary_unary(
        HEALTH,
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    answer = await ask(health_pb2.HealthCheckRequest(service=service), timeout=20)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


async def code_of(call: grpc.aio.Call) -> str:
    return (await call.code()).name


def invoke(served: GrpcNode, task: str = "echo", **options: object) -> grpc.aio.UnaryUnaryCall:
    call = served.callable(INVOKE, pb.InvokeResponse)
    return call(pb.InvokeRequest(task_id=task), **{"metadata": SHOWN, "timeout": 20, **options})


@pytest.mark.parametrize("shown", WRONG)
async def test_without_the_token_nothing_reaches_the_node(
    served: GrpcNode, shown: tuple[tuple[str, str], ...]
) -> None:
    assert await code_of(invoke(served, metadata=shown)) == "UNAUTHENTICATED"
    assert served.node.calls == []


async def test_a_refused_stream_is_not_read(served: GrpcNode) -> None:
    """The refusal comes although this side neither sends nor ends."""
    open_end = asyncio.Event()

    async def silent() -> AsyncIterator[bytes]:
        await open_end.wait()
        yield b""

    call = served.channel.stream_unary("/spear.v1.ObjectService/Put")(silent(), timeout=20)
    assert await code_of(call) == "UNAUTHENTICATED"
    open_end.set()


async def test_health_answers_everybody(served: GrpcNode) -> None:
    assert await health(served.channel) == "SERVING"
    assert await health(served.channel, "spearlet.InvocationService") == "SERVING"
    await served.door.tell_health(serving=False)
    assert await health(served.channel) == "NOT_SERVING"
    assert await health(served.channel, "spear.v1.TaskService") == "NOT_SERVING"


async def reflected(served: GrpcNode, metadata: object) -> list[str]:
    call = served.channel.stream_stream(
        REFLECTION,
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    answers = [answer async for answer in call(asked, metadata=metadata, timeout=20)]
    return [service.name for service in answers[0].list_services_response.service]


async def test_reflection_lists_the_services_to_who_shows_the_token(served: GrpcNode) -> None:
    found = await reflected(served, SHOWN)
    assert {"spearlet.InvocationService", "spear.v1.NodeService"} <= set(found)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reflected(served, None)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_an_unknown_method_is_told_only_to_who_shows_the_token(served: GrpcNode) -> None:
    for path in ("/spearlet.InvocationService/Nope", "/nope/Nope", "/grpc.health.v1.HealthX/Check"):
        unknown = served.channel.unary_unary(path)
        assert await code_of(unknown(b"", timeout=20)) == "UNAUTHENTICATED"
        assert await code_of(unknown(b"", metadata=SHOWN, timeout=20)) == "UNIMPLEMENTED"


async def test_an_open_loopback_needs_no_token() -> None:
    async with GrpcNode(loopback_open=True) as served:
        for shown in ((), SHOWN, WRONG[1]):
            assert await code_of(invoke(served, metadata=shown)) == "OK"
        assert "spearlet.ObjectService" in await reflected(served, None)
        watch = served.channel.unary_unary("/spearlet.InvocationService/Nope")
        assert await code_of(watch(b"", timeout=20)) == "UNIMPLEMENTED"
        put = served.channel.stream_unary("/spear.v1.ObjectService/Put")
        assert await code_of(put(iter([b""]), timeout=20)) == "INVALID_ARGUMENT"
        wait = execution_pb2.WatchExecutionsRequest(id="x").SerializeToString()
        call = served.channel.unary_stream(WATCH)(wait, timeout=20)
        assert await code_of(call) == "NOT_FOUND"


async def test_an_open_loopback_is_open_for_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_door, "_origin", lambda peer: "remote")
    async with GrpcNode(loopback_open=True) as served:
        assert await code_of(invoke(served, metadata=())) == "UNAUTHENTICATED"
        assert await code_of(invoke(served)) == "OK"
        for path in (WATCH, "/nope/Nope", REFLECTION):
            call = served.channel.stream_stream(path)(iter([b""]), timeout=20)
            assert await code_of(call) == "UNAUTHENTICATED", path
        assert await health(served.channel) == "SERVING"


@pytest.mark.parametrize(
    ("peer", "origin"),
    [
        ("ipv4:127.0.0.1:5031", "loopback"), ("ipv6:%5B::1%5D:5031", "loopback"),
        ("ipv6:[::1]:5031", "loopback"), ("ipv6:%5B::ffff:127.0.0.1%5D:5031", "loopback"),
        ("ipv4:10.0.0.1:5031", "remote"), ("ipv6:%5B2001:db8::1%5D:5031", "remote"),
        ("unix:", "remote"), ("", "remote"),
    ],
)  # fmt: skip
def test_where_a_peer_of_grpc_comes_from(peer: str, origin: str) -> None:
    assert grpc_door._origin(peer) == origin


async def test_a_caller_that_cancels_ends_what_it_asked_for(served: GrpcNode) -> None:
    call = invoke(served, "wait")
    waiting = asyncio.ensure_future(call.code())
    await served.node.started.wait()
    call.cancel()
    await asyncio.wait_for(served.node.gone.wait(), 20)
    assert (await waiting) == grpc.StatusCode.CANCELLED
    assert served.node.ended == ["execution-0001"]
    assert served.faults == []


async def test_a_deadline_ends_what_was_asked_for(served: GrpcNode) -> None:
    assert await code_of(invoke(served, "wait", timeout=0.2)) == "DEADLINE_EXCEEDED"
    await asyncio.wait_for(served.node.gone.wait(), 20)
    assert served.faults == []


async def test_a_caller_that_vanishes_ends_what_it_asked_for(served: GrpcNode) -> None:
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{served.port}")
    request = pb.InvokeRequest(task_id="wait").SerializeToString()
    call = channel.unary_unary(INVOKE)(request, metadata=SHOWN)
    waiting = asyncio.ensure_future(call.code())
    await served.node.started.wait()
    await channel.close()
    await asyncio.wait_for(served.node.gone.wait(), 20)
    await waiting


async def test_a_stream_that_is_given_up_is_closed_at_the_node(served: GrpcNode) -> None:
    request = execution_pb2.WatchExecutionsRequest()
    call = served.callable(WATCH, execution_pb2.Execution)(request, metadata=SHOWN)
    reading = asyncio.ensure_future(anext(aiter(call)))
    while "watch" not in served.node.calls:
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait_for(served.node.gone.wait(), 20)
    with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
        await reading


async def test_a_slow_reader_holds_up_its_own_stream_only(served: GrpcNode) -> None:
    """64 MiB for a reader that takes one chunk: what it does not take is not produced."""
    answer = await invoke(served)
    produced = 0

    async def endless(id: str) -> AsyncIterator[bytes]:
        nonlocal produced
        for _ in range(1024):
            produced += 1
            yield b"r" * 65536

    served.node.read_result = endless  # type: ignore[method-assign]
    request = execution_pb2.ReadResultRequest(id=answer.execution_id).SerializeToString()
    path = "/spear.v1.ExecutionService/ReadResult"
    call = served.channel.unary_stream(path)(request, metadata=SHOWN)
    await anext(aiter(call))
    seen = -1
    while seen != produced:  # until nothing moves any more
        seen = produced
        for _ in range(20):
            assert await code_of(invoke(served)) == "OK"
    assert produced < 1000
    call.cancel()


async def test_a_port_that_is_taken_is_refused(served: GrpcNode) -> None:
    door = GrpcDoor(DoorNode(), table_of(DoorNode()), access(), Faults().hear)
    with pytest.raises(InvalidArgument, match=r"grpc.addr: cannot listen on 127.0.0.1:"):
        await door.open(f"127.0.0.1:{served.port}")
    await door.close(0)


async def test_closing_waits_for_calls_and_then_cancels_them(served: GrpcNode) -> None:
    call = invoke(served, "wait")
    waiting = asyncio.ensure_future(call.code())
    await served.node.started.wait()
    await served.door.close(0.1)
    await asyncio.wait_for(served.node.gone.wait(), 20)
    assert (await waiting) != grpc.StatusCode.OK
    assert served.node.ended == ["execution-0001"]


async def test_requests_beyond_the_limit_of_a_message_are_refused(served: GrpcNode) -> None:
    raw = served.channel.unary_unary(INVOKE)
    call = raw(b"\0" * ((4 << 20) + 1), metadata=SHOWN, timeout=20)
    assert await code_of(call) == "RESOURCE_EXHAUSTED"
    assert await code_of(invoke(served)) == "OK"


async def test_over_tls_a_client_s_certificate_is_wanted_where_said(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued, client = authority.issue_cert("localhost"), authority.issue_cert("me@example.org")
    chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
    root = authority.cert_pem.bytes()
    for client_ca in (b"", root):
        node = DoorNode()
        door = GrpcDoor(node, table_of(node), access(), Faults().hear)
        tls = TlsFiles(chain, issued.private_key_pem.bytes(), client_ca)
        port = await door.open("localhost:0", tls)
        certificate = b"".join(part.bytes() for part in client.cert_chain_pems)
        for shown in (False, True):
            credentials = grpc.ssl_channel_credentials(
                root, *((client.private_key_pem.bytes(), certificate) if shown else ())
            )
            async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
                request = pb.InvokeRequest(task_id="echo").SerializeToString()
                call = channel.unary_unary(INVOKE)(request, metadata=SHOWN, timeout=20)
                wanted = "OK" if shown or not client_ca else "UNAVAILABLE"
                assert await code_of(call) == wanted
                if wanted == "OK":
                    call = channel.unary_unary(INVOKE)(request, timeout=20)
                    assert await code_of(call) == "UNAUTHENTICATED"
        await door.close(0)

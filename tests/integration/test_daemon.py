"""The daemon as a process: how it gets ready, what it refuses, how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from daemon_child import READY_S, Child, health

from spear.errors import NodeClosed, NotFound, Unreachable
from spear.protocol.client import FrameChannel
from spear.protocol.pb.spear.v1 import execution_pb2, node_pb2
from spear.protocol.pb.spearlet import function_pb2 as pb

INVOKE = "/spearlet.InvocationService/Invoke"


@pytest.fixture
async def child(tmp_path: Path) -> AsyncIterator[Child]:
    async for made in born(tmp_path):
        yield made


@pytest.fixture
async def second(tmp_path: Path) -> AsyncIterator[Child]:
    async for made in born(tmp_path):
        yield made


async def born(folder: Path) -> AsyncIterator[Child]:
    made = Child(folder)
    try:
        yield made
    finally:
        await made.stop()


@pytest.mark.parametrize("words", [(), ("--real",)], ids=["fake", "real"])
async def test_the_socket_answers_before_grpc_is_imported(
    child: Child, words: tuple[str, ...]
) -> None:
    await child.ready(*words)
    pid = child.process.pid
    socket_path = str(child.data / "spearlet.sock")
    assert child.grpc_known == {"socket": False, "grpc": True}
    assert child.held["socket"] == {"pid": pid, "socket": socket_path}
    assert child.held["grpc"] == {"pid": pid, "socket": socket_path, "grpc": child.doors["grpc"]}
    channel = await child.channel()
    answer = await channel.call("/spear.v1.NodeService/Info", b"")
    values = node_pb2.NodeInfo.FromString(answer).values
    assert (values["socket"], values["grpc"]) == (socket_path, child.doors["grpc"])
    await channel.close()
    assert await health(child.doors["grpc"]) == "SERVING"
    child.signal()
    assert await child.end() == 0
    assert not child.ports.exists()
    assert not os.path.exists(socket_path)


async def test_what_it_makes_is_closed_to_others(child: Child) -> None:
    await child.ready("--real")
    made = [child.data, *child.data.rglob("*")]
    assert len(made) > 4
    assert [path for path in made if path.lstat().st_mode & 0o077] == []


async def test_all_doors_are_told_of(child: Child) -> None:
    await child.ready("--auth-loopback", "open", SPEARLET_FRAMES_ADDR="127.0.0.1:0")
    assert list(child.doors) == ["socket", "frames", "grpc"]
    assert child.held["grpc"]["frames"] == child.doors["frames"]
    (note,) = child.notes
    assert "auth.loopback is open: callers on loopback need no token" in note
    channel = await FrameChannel.connect(child.doors["frames"])
    await channel.close()


async def test_a_supervisor_is_told(child: Child, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.settimeout(READY_S)
        await child.ready(NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert supervisor.recv(100) == b"READY=1"
        child.signal()
        assert await child.end() == 0
        assert supervisor.recv(100) == b"STOPPING=1"


async def started(channel: FrameChannel, other: FrameChannel) -> asyncio.Future[bytes]:
    """The call of an execution, `mine`, that runs until it is cancelled."""
    wait = pb.InvokeRequest(task_id="wait", execution_id="mine").SerializeToString()
    running = asyncio.ensure_future(channel.call(INVOKE, wait))
    get = execution_pb2.GetExecutionRequest(id="mine").SerializeToString()
    while True:
        try:
            await other.call("/spear.v1.ExecutionService/Get", get)
            return running
        except NotFound:
            continue


async def refuses_work(channel: FrameChannel) -> None:
    """Returns once the node takes no more."""
    with pytest.raises(NodeClosed):
        while True:
            await channel.call(INVOKE, pb.InvokeRequest(task_id="echo").SerializeToString())


async def cancel_mine(channel: FrameChannel) -> None:
    request = execution_pb2.CancelExecutionRequest(id="mine").SerializeToString()
    await channel.call("/spear.v1.ExecutionService/Cancel", request)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains(child: Child, number: int) -> None:
    """No new work is taken, what runs goes on to its end, results can still be asked for."""
    await child.ready()
    channel, other = await child.channel(), await child.channel()
    running = await started(channel, other)
    child.signal(number)
    await refuses_work(other)
    assert await health(child.doors["grpc"]) == "NOT_SERVING"
    assert not running.done()
    await cancel_mine(other)
    answer = pb.InvokeResponse.FromString(await running)
    assert answer.status == pb.EXECUTION_STATUS_TERMINATED
    code, said = await child.end(), await child.error()
    assert (code, '"event":"draining"' in said) == (0, True), said
    await channel.close()
    await other.close()


async def test_a_terminal_that_closes_drains_however_often_it_says_so(child: Child) -> None:
    await child.ready()
    channel, other = await child.channel(), await child.channel()
    running = await started(channel, other)
    for _ in range(3):
        child.signal(signal.SIGHUP)
        await refuses_work(other)
    assert not running.done()
    await cancel_mine(other)
    answer = pb.InvokeResponse.FromString(await running)
    assert answer.status == pb.EXECUTION_STATUS_TERMINATED
    assert await child.end() == 0
    await channel.close()
    await other.close()


async def test_a_node_under_nohup_outlives_its_terminal(child: Child) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which a child inherits
    try:
        await child.ready()
    finally:
        signal.signal(signal.SIGHUP, before)
    channel = await child.channel()
    child.signal(signal.SIGHUP)
    for _ in range(20):  # turns of a daemon that would have heard of it
        await channel.call("/spear.v1.NodeService/Info", b"")
    await channel.call(INVOKE, pb.InvokeRequest(task_id="echo").SerializeToString())
    child.signal()
    assert await child.end() == 0
    await channel.close()


async def test_it_logs_into_a_file_where_said(child: Child, tmp_path: Path) -> None:
    await child.ready("--log-file", str(tmp_path / "node.log"), "--node-name", "ada")
    child.signal()
    assert (await child.end(), await child.error()) == (0, "")
    line = json.loads((tmp_path / "node.log").read_text().splitlines()[0])
    assert (line["event"], line["level"], line["node"]) == ("draining", "info", "ada")


async def test_a_second_signal_ends_at_once(child: Child) -> None:
    await child.ready()
    channel, other = await child.channel(), await child.channel()
    running = await started(channel, other)
    child.signal()
    await refuses_work(other)
    child.signal()
    assert await child.end() == 1
    with pytest.raises(Unreachable):
        await running
    assert not child.ports.exists()


async def test_a_drain_that_is_asked_for_is_answered_and_ends_the_daemon(child: Child) -> None:
    await child.ready()
    channel = await child.channel()
    request = node_pb2.DrainRequest(grace_ns=5 * 10**9).SerializeToString()
    assert await channel.call("/spear.v1.NodeService/Drain", request) == b""
    assert await child.end() == 0
    await channel.close()


async def test_a_signal_after_a_drain_is_the_first_one(child: Child) -> None:
    """It says again what was asked for already, and ends nothing that runs."""
    await child.ready()
    channel, other, third = [await child.channel() for _ in range(3)]
    running = await started(channel, other)
    request = node_pb2.DrainRequest(grace_ns=60 * 10**9).SerializeToString()
    draining = asyncio.ensure_future(third.call("/spear.v1.NodeService/Drain", request))
    await refuses_work(other)
    child.signal()
    for _ in range(20):  # turns of a daemon that has heard of it
        await other.call("/spear.v1.NodeService/Info", b"")
    assert not running.done()
    await cancel_mine(other)
    answer = pb.InvokeResponse.FromString(await running)
    assert answer.status == pb.EXECUTION_STATUS_TERMINATED
    await draining
    code, said = await child.end(), await child.error()
    assert (code, "asked to end again" in said) == (0, False), said
    for one in (channel, other, third):
        await one.close()


async def test_a_drain_goes_on_when_its_caller_is_gone(child: Child) -> None:
    await child.ready()
    channel, other, third = [await child.channel() for _ in range(3)]
    running = await started(channel, other)
    request = node_pb2.DrainRequest(grace_ns=60 * 10**9).SerializeToString()
    draining = asyncio.ensure_future(third.call("/spear.v1.NodeService/Drain", request))
    await refuses_work(other)
    third.transport.abort()
    with pytest.raises(Unreachable):
        await draining
    for _ in range(20):  # a daemon that ends takes no more callers
        caller = await child.channel()
        await caller.call("/spear.v1.NodeService/Info", b"")
        await caller.close()
    assert not running.done()
    await cancel_mine(other)
    answer = pb.InvokeResponse.FromString(await running)
    assert answer.status == pb.EXECUTION_STATUS_TERMINATED
    code, said = await child.end(), await child.error()
    assert (code, "failed" in said) == (0, False), said
    await channel.close()
    await other.close()


async def test_a_second_daemon_on_the_data_directory_is_refused(
    child: Child, second: Child
) -> None:
    await child.ready()
    second.ports = second.folder / "other.json"
    code, said = await second.refused()
    assert code == 4
    assert f"in use by the daemon with pid {child.process.pid}" in said
    channel = await child.channel()
    assert await channel.call(INVOKE, pb.InvokeRequest(task_id="echo").SerializeToString())
    await channel.close()
    assert child.ports.exists()


async def test_what_a_killed_daemon_left_is_no_hindrance(child: Child, second: Child) -> None:
    await child.ready()
    token = child.token()
    child.signal(signal.SIGKILL)
    await child.end()
    assert (child.data / "spearlet.sock").exists()
    await second.ready()
    assert second.token() == token
    await (await second.channel()).close()


async def test_a_socket_where_somebody_answers_is_not_taken(child: Child, second: Child) -> None:
    await child.ready()
    second.data, second.ports = second.folder / "other", second.folder / "other.json"
    code, said = await second.refused("--socket", child.doors["socket"])
    assert (code, "socket: " in said, "listens" in said) == (4, True, True)
    await (await child.channel()).close()


async def test_a_file_in_the_socket_s_place_is_not_removed(child: Child, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    code, said = await child.refused("--socket", str(tmp_path / "precious"))
    assert code == 4
    assert "precious" in said
    assert (tmp_path / "precious").read_text() == "data"


async def test_a_grpc_port_that_is_taken_is_refused(child: Child) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = await child.refused("--grpc-addr", address)
    assert code == 4
    assert f"grpc.addr: cannot listen at {address}" in said
    assert "set it to another address, with port 0 to any free one" in said
    assert not child.ports.exists()


@pytest.mark.parametrize(
    ("words", "environ", "code", "said"),
    [
        (["--grpc-addr", "0.0.0.0:0"], {}, 2, "grpc.addr: '0.0.0.0' is not loopback"),
        ([], {"SPEARLET_FRAMES_ADDR": "0.0.0.0:0"}, 2, "frames.addr: '0.0.0.0' is not loopback"),
        ([], {"SPEARLET_GRPC_ENABLE_TLS": "true"}, 2, "grpc.enable_tls needs grpc.cert_path"),
        (["--http-addr", "127.0.0.1:0"], {}, 2, "the HTTP surface comes later"),
        (["--sms-grpc-addr", "127.0.0.1:1"], {}, 2, "runs alone, without a cluster"),
        (["--auth-loopback", "closed"], {}, 2, "expected token or open"),
        (["--socket", "/" + "s" * 120], {}, 2, "socket: "),
        (["--storage-path", "/proc/self/environ/x"], {}, 2, "cannot use the data directory"),
        (["--storage-path", "/tmp/\udcff"], {}, 2, "data directory '/tmp/\\udcff' is not UTF-8"),
        (["--socket", "/tmp/\udcff"], {}, 2, "socket: address 'unix:/tmp/\\udcff': the path is"),
        (["--node-name", "\udcff"], {}, 2, "--node-name: expected text in UTF-8"),
        (["--storage-path", "/sys/spear"], {}, 4, "cannot write in the data directory"),
        (["--config", "missing.toml"], {}, 3, "no configuration file"),
    ],
)
async def test_what_cannot_be_served_is_refused_with_the_reason(
    child: Child, words: list[str], environ: dict[str, str], code: int, said: str
) -> None:
    found, sentence = await child.refused(*words, **environ)
    assert (found, said in sentence) == (code, True), sentence
    assert len(sentence.splitlines()) == 1
    assert not child.ports.exists()


@pytest.mark.parametrize(("mode", "refused"), [(0o777, True), (0o770, True), (0o755, False)])
async def test_a_data_directory_where_others_may_write_is_refused(
    child: Child, mode: int, refused: bool
) -> None:
    child.data.mkdir()
    child.data.chmod(mode)
    if not refused:
        await child.ready()
        return
    code, said = await child.refused()
    assert code == 4
    assert f"mode {mode:04o}): chmod 700" in said


async def test_a_data_directory_of_another_user_is_refused(child: Child) -> None:
    if os.geteuid() != 0:
        child.data = Path("/")
    else:
        child.data.mkdir()
        os.chown(child.data, 12345, -1)
    code, said = await child.refused()
    assert code == 4
    assert "belongs to user" in said


async def test_a_token_that_others_can_read_is_refused(child: Child) -> None:
    child.data.mkdir()
    (child.data / "token").write_text("t" * 64)
    (child.data / "token").chmod(0o644)
    code, said = await child.refused()
    assert code == 4
    assert "chmod 600" in said


async def test_a_ports_file_that_cannot_be_written_is_refused(child: Child) -> None:
    child.ports = child.folder / "missing" / "ports.json"
    code, said = await child.refused()
    assert code == 2
    assert "ports file" in said

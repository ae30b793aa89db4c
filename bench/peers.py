"""Programs of others that run beside ours: etcd and Redis, each a server of its own.

The rule: a server's data lie in a folder of the benchmark and it listens on a Unix socket there, as
ours does; it writes as its own defaults say. What is not installed is skipped, and the reason says
how it is got (`make bench-peers`).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import grpc.aio
import pytest

_PROTO = Path(__file__).with_name("etcd_kv.proto")
_SECONDS = 30.0  # until a server answers


def program(name: str) -> str:
    """Its path, or the test is skipped."""
    return shutil.which(name) or pytest.skip(f"{name} is not installed: make bench-peers does it")


class Etcd:
    """One member with its data on disk: every put is synced before it is answered."""

    def __init__(self, folder: Path) -> None:
        self.target = f"unix:{folder}/client:1"  # its word for a socket of its working directory
        self.messages = _messages(folder)
        self.process = subprocess.Popen(
            [
                program("etcd"), "--data-dir", str(folder / "etcd"), "--log-level", "error",
                "--listen-client-urls", "unix://client:1",
                "--advertise-client-urls", "unix://client:1",
                "--listen-peer-urls", "unix://peer:1",
            ],
            cwd=folder,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def put_request(self, key: bytes, value: bytes) -> bytes:
        return self.messages.PutRequest(key=key, value=value).SerializeToString()

    def calls(self, channel: Any) -> tuple[Any, Any]:
        """Put and Range over a channel of either kind, from messages."""
        found = self.messages
        return tuple(
            channel.unary_unary(
                f"/etcdserverpb.KV/{name}",
                request_serializer=getattr(found, f"{name}Request").SerializeToString,
                response_deserializer=getattr(found, f"{name}Response").FromString,
            )
            for name in ("Put", "Range")
        )


def _messages(folder: Path) -> ModuleType:
    """The messages of the proto beside this file, compiled now."""
    from grpc_tools import protoc

    code = protoc.main(["", f"-I{_PROTO.parent}", f"--python_out={folder}", str(_PROTO)])
    assert code == 0, "protoc refused the proto"
    sys.path.insert(0, str(folder))
    try:
        return sys.modules.get("etcd_kv_pb2") or importlib.import_module("etcd_kv_pb2")
    finally:
        sys.path.remove(str(folder))


@contextlib.contextmanager
def etcd(folder: Path) -> Iterator[Etcd]:
    """Answering."""
    program("etcd")
    server = Etcd(folder)
    try:
        with grpc.insecure_channel(server.target) as channel:
            put, _ = server.calls(channel)
            put(server.messages.PutRequest(key=b"first"), wait_for_ready=True, timeout=_SECONDS)
        yield server
    finally:
        server.process.kill()
        server.process.wait()


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[tuple[Any, subprocess.Popen[bytes]]]:
    """A client of redis-py on its socket, answering, and the server."""
    library = pytest.importorskip("redis")
    path = str(folder / "redis.sock")
    words = [program("redis-server"), "--port", "0", "--unixsocket", path, "--save", ""]
    server = subprocess.Popen([*words, "--dir", str(folder)], stdout=subprocess.DEVNULL)
    client = library.Redis(unix_socket_path=path)
    try:
        while not os.path.exists(path):
            assert server.poll() is None, "redis-server ended"
        client.ping()
        yield client, server
    finally:
        client.close()
        server.kill()
        server.wait()


def pin(process: subprocess.Popen[Any], cpus: set[int]) -> None:
    """All threads of a server that there are now."""
    for thread in os.listdir(f"/proc/{process.pid}/task"):
        os.sched_setaffinity(int(thread), cpus)

"""A daemon in a child process, and ways to look at it from outside."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from spear.protocol.client import FrameChannel

PROGRAM = Path(__file__).parent / "door_daemon.py"
LINE = re.compile(r"spearlet ready: (\w+) (\S+) \[(True|False) (.*)\]")
READY_S = 60


class Child:
    """A daemon in a child process, on a data directory beneath `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data, self.ports = folder / "data", folder / "ports.json"
        self.doors: dict[str, str] = {}
        self.grpc_known: dict[str, bool] = {}
        self.held: dict[str, dict[str, Any]] = {}
        self.notes: list[str] = []
        self.process: asyncio.subprocess.Process

    async def start(self, *words: str, **environ: str) -> Child:
        named = ["--storage-path", str(self.data), "--grpc-addr", "127.0.0.1:0"]
        real = ["--real"] if "--real" in words else []
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, str(PROGRAM), *real, *named, "--ports-file", str(self.ports),
            *(word for word in words if word != "--real"),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={"HOME": str(self.folder), "PATH": os.environ["PATH"], **environ},
        )  # fmt: skip
        return self

    async def ready(self, *words: str, **environ: str) -> Child:
        await self.start(*words, **environ)
        while "grpc" not in self.doors:
            await self.read_line()
        return self

    async def read_line(self) -> None:
        assert self.process.stdout is not None
        line = (await asyncio.wait_for(self.process.stdout.readline(), READY_S)).decode()
        found = LINE.match(line)
        if found is None:
            assert line.startswith("spearlet: "), (line, await self.error())
            self.notes.append(line)
            return
        door, address, known, held = found.groups()
        self.doors[door], self.grpc_known[door] = address, known == "True"
        self.held[door] = json.loads(held)

    async def error(self) -> str:
        """All of stderr, once the daemon has ended."""
        assert self.process.stderr is not None
        return (await asyncio.wait_for(self.process.stderr.read(), READY_S)).decode()

    async def refused(self, *words: str, **environ: str) -> tuple[int, str]:
        """Exit code and sentence of a start that is refused."""
        await self.start(*words, **environ)
        said = await self.error()
        return await self.process.wait(), said

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    async def end(self) -> int:
        return await asyncio.wait_for(self.process.wait(), READY_S)

    async def stop(self) -> None:
        """Whatever became of it, nothing of it is left."""
        if hasattr(self, "process"):
            if self.process.returncode is None:
                self.process.kill()
            await self.process.communicate()

    async def channel(self) -> FrameChannel:
        return await FrameChannel.connect(f"unix:{self.doors['socket']}")

    def token(self) -> str:
        return (self.data / "token").read_text().strip()


async def health(address: str) -> str:
    async with grpc.aio.insecure_channel(address) as channel:
        answer = await channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20)
    found = health_pb2.HealthCheckResponse.FromString(answer)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(found.status))

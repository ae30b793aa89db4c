"""Clients that talk to one agent, each over a stream of its own, all at once.

    python examples/stream_echo/stream_echo.py [CLIENTS] [FRAMES]

Rule: uses the public names of `spear` only. Exit code 0 if every frame came back as it was sent.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from pathlib import Path

import spear

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.spearlet.handle import Handle

AGENT = Path(__file__).with_suffix(".wasm")


def frame(stream_id: int, number: int, data: bytes) -> bytes:
    """An SSF v1 frame: a header of 32 bytes, no meta, the data."""
    header = struct.pack("<4sHHHHIQII", b"SPST", 1, 32, 2, 0, stream_id, number, 0, len(data))
    return header + data


async def client(agent: Handle, stream_id: int, frames: int) -> int:
    """How many frames came back as they were sent."""
    stream = agent.stream(stream_id)
    same = 0
    for number in range(frames):
        sent = frame(stream_id, number, f"client {stream_id}, line {number}".encode())
        await stream.send(sent)
        same += await stream.receive() == sent
    return same


async def main(clients: int, frames: int) -> int:
    async with spear.Spearlet() as node:
        agent = await node.start(AGENT)
        told = await asyncio.gather(*(client(agent, number, frames) for number in range(clients)))
        agent.close_streams()
        execution = await agent
    print(f"  {sum(told)} of {clients * frames} frames came back as they were sent")
    print(f"  the agent says: {execution.output.decode().strip()}")
    return 0 if sum(told) == clients * frames and execution.completed else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*(map(int, sys.argv[1:] or ("4", "100"))))))

"""The Python ends of framed echo that `bench_framing.py` starts, one process each.

    python framing_ends.py server KIND PATH
    python framing_ends.py client KIND PATH SIZE COUNT WINDOW    prints frames a second

KIND: `spear` (FrameDecoder in a buffered protocol), `protocol` (what one writes by hand with a
bytearray), `streams` (asyncio streams), `bare` (no framing: echoes what comes) and `zmq.asyncio`,
all on uvloop; `zmq` (blocking). pyzmq is used with PAIR sockets over ipc.
"""

from __future__ import annotations

import asyncio
import importlib
import struct
import sys
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

FRAME_BYTES_MAX = 64 << 20
PREFIX = struct.Struct("<Q")
Handle = Callable[[list[bytes]], None]


def spear_end(handle: Handle | None) -> type:
    """Protocol over FrameDecoder; echoes when there is no `handle`."""
    from spear._core.framing import FrameDecoder, encode_parts

    class Spear(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            decoder = FrameDecoder(FRAME_BYTES_MAX)
            self.get_buffer = decoder.get_buffer
            self.decode = decoder.buffer_updated

        def connection_made(self, transport: asyncio.Transport) -> None:
            self.transport = transport

        def buffer_updated(self, size: int) -> None:
            frames = self.decode(size)
            if frames:
                handle(frames) if handle else self.send(frames)

        def send(self, payloads: list[bytes]) -> None:
            parts = encode_parts(payloads)
            if len(parts) == 1:  # write is 0.3 us cheaper than writelines
                self.transport.write(parts[0])
            else:
                self.transport.writelines(parts)

    return Spear


def plain_end(handle: Handle | None) -> type:
    """What one writes by hand, with care: offsets for deletes, one write for all answers."""

    class Plain(asyncio.Protocol):
        def __init__(self) -> None:
            self.data = bytearray()

        def connection_made(self, transport: asyncio.Transport) -> None:
            self.write = transport.write

        def data_received(self, chunk: bytes) -> None:
            data = self.data
            data += chunk
            at, end = 0, len(data)
            frames = []
            while end - at >= 8:
                stop = at + 8 + PREFIX.unpack_from(data, at)[0]
                if stop > end:
                    break
                frames.append(bytes(data[at + 8 : stop]))
                at = stop
            if frames:
                del data[:at]
                handle(frames) if handle else self.send(frames)

        def send(self, payloads: list[bytes]) -> None:
            out = []
            for payload in payloads:
                out += (PREFIX.pack(len(payload)), payload)
            self.write(b"".join(out))

    return Plain


def bare_end(_handle: Handle | None) -> type:
    """Returns the bytes as they come: uvloop's own cost, no framing."""

    class Bare(asyncio.Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:
            self.write = transport.write

        def data_received(self, chunk: bytes) -> None:
            self.write(chunk)

    return Bare


ENDS = {"spear": spear_end, "protocol": plain_end, "bare": bare_end}


async def serve_protocol(kind: str, path: str) -> None:
    server = await asyncio.get_running_loop().create_unix_server(ENDS[kind](None), path)
    await server.serve_forever()


async def serve_streams(path: str) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                prefix = await reader.readexactly(8)
                payload = await reader.readexactly(PREFIX.unpack(prefix)[0])
                writer.write(prefix + payload)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_unix_server(echo, path)
    await server.serve_forever()


async def pump_protocol(kind: str, path: str, size: int, count: int, window: int) -> float:
    """Half a window goes out whenever half a window has come back."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    half = [b"x" * size] * (window // 2)
    got = sent = 0

    def refill(frames: list[bytes]) -> None:
        nonlocal got, sent
        got += len(frames)
        while sent < count and sent - got <= window - len(half):
            protocol.send(half)
            sent += len(half)
        if got >= count and not done.done():
            done.set_result(None)

    transport, protocol = await loop.create_unix_connection(ENDS[kind](refill), path)
    start = time.perf_counter()
    refill([])
    await done
    rate = got / (time.perf_counter() - start)
    transport.close()
    return rate


async def pump_streams(path: str, size: int, count: int, window: int) -> float:
    reader, writer = await asyncio.open_unix_connection(path)
    frame = PREFIX.pack(size) + b"x" * size
    start = time.perf_counter()
    for _ in range(window):
        writer.write(frame)
    for at in range(count):
        prefix = await reader.readexactly(8)
        await reader.readexactly(PREFIX.unpack(prefix)[0])
        if at + window < count:
            writer.write(frame)
            await writer.drain()
    rate = count / (time.perf_counter() - start)
    writer.close()
    return rate


def zmq_pair(context: str) -> Any:
    """A PAIR socket without high-water marks: with them both ends would wait for each other."""
    zmq = importlib.import_module(context)
    from zmq import PAIR, RCVHWM, SNDHWM

    sock = zmq.Context().socket(PAIR)
    sock.setsockopt(RCVHWM, 0)
    sock.setsockopt(SNDHWM, 0)
    return sock


def serve_zmq(path: str) -> None:
    sock = zmq_pair("zmq")
    sock.bind(f"ipc://{path}")
    while True:
        sock.send(sock.recv())


async def serve_zmq_asyncio(path: str) -> None:
    sock = zmq_pair("zmq.asyncio")
    sock.bind(f"ipc://{path}")
    while True:
        await sock.send(await sock.recv())


def pump_zmq(path: str, size: int, count: int, window: int) -> float:
    sock = zmq_pair("zmq")
    sock.connect(f"ipc://{path}")
    payload = b"x" * size
    start = time.perf_counter()
    for at in range(count + window):
        if at >= window:
            sock.recv()
        if at < count:
            sock.send(payload)
    rate = count / (time.perf_counter() - start)
    sock.close(linger=0)
    return rate


async def pump_zmq_asyncio(path: str, size: int, count: int, window: int) -> float:
    sock = zmq_pair("zmq.asyncio")
    sock.connect(f"ipc://{path}")
    payload = b"x" * size
    start = time.perf_counter()
    for at in range(count + window):
        if at >= window:
            await sock.recv()
        if at < count:
            await sock.send(payload)
    rate = count / (time.perf_counter() - start)
    sock.close(linger=0)
    return rate


SERVERS = {"streams": serve_streams, "zmq.asyncio": serve_zmq_asyncio}
CLIENTS = {"streams": pump_streams, "zmq.asyncio": pump_zmq_asyncio}


def on_uvloop(main: Coroutine[Any, Any, float]) -> float:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def serve(kind: str, path: str) -> None:
    if kind == "zmq":
        serve_zmq(path)
    else:
        on_uvloop(SERVERS.get(kind, partial(serve_protocol, kind))(path))


def pump(kind: str, path: str, *shape: int) -> float:
    if kind == "zmq":
        return pump_zmq(path, *shape)
    return on_uvloop(CLIENTS.get(kind, partial(pump_protocol, kind))(path, *shape))


if __name__ == "__main__":
    role, kind, path, *numbers = sys.argv[1:]
    if role == "server":
        serve(kind, path)
    else:
        print(pump(kind, path, *map(int, numbers)))

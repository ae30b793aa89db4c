"""The Python ends of unary echo calls that `bench_frames.py` starts, one process each.

    python frames_ends.py server KIND PATH
    python frames_ends.py client KIND PATH SIZE COUNT WINDOW    prints calls a second

KIND: `spear` (FrameServer and FrameChannel), `protocol` (length-prefixed messages by hand in an
uvloop protocol: no ids, no errors, no limits) and `grpc` (grpc.aio, bytes in and out), all on
uvloop and a Unix socket.
"""

from __future__ import annotations

import asyncio
import importlib
import struct
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

PATH = "/spearlet.InvocationService/Invoke"
PREFIX = struct.Struct("<Q")
Call = Callable[[bytes], Awaitable[bytes]]


class Echo:
    """A handler that returns what it gets."""

    def call(self, path: str, payload: bytes, deadline_ms: int, call: object) -> bytes:
        return payload


async def serve_spear(path: str) -> None:
    from spear.protocol.server import FrameServer

    server = FrameServer(Echo(), lambda caller, hello: None, lambda path, error: None)
    server.listen(f"unix:{path}")
    await asyncio.Event().wait()


async def connect_spear(path: str) -> Call:
    from spear.protocol.client import FrameChannel

    channel = await FrameChannel.connect(f"unix:{path}")
    return lambda request: channel.call(PATH, request)


class ByHand(asyncio.Protocol):
    """Both ends of the hand-written protocol; answers come in the order of the requests."""

    def __init__(self, serving: bool) -> None:
        self.data, self.serving = bytearray(), serving
        self.waiting: deque[asyncio.Future[bytes]] = deque()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.write = transport.write

    def data_received(self, chunk: bytes) -> None:
        data = self.data
        data += chunk
        at, end, out = 0, len(data), []
        while end - at >= 8:
            stop = at + 8 + PREFIX.unpack_from(data, at)[0]
            if stop > end:
                break
            if self.serving:
                out.append(bytes(data[at:stop]))
            else:
                self.waiting.popleft().set_result(bytes(data[at + 8 : stop]))
            at = stop
        del data[:at]
        if out:
            self.write(b"".join(out))

    def call(self, request: bytes) -> Awaitable[bytes]:
        answer = asyncio.get_running_loop().create_future()
        self.waiting.append(answer)
        self.write(PREFIX.pack(len(request)) + request)
        return answer


async def serve_protocol(path: str) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: ByHand(True), path)
    await server.serve_forever()


async def connect_protocol(path: str) -> Call:
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_unix_connection(lambda: ByHand(False), path)
    return protocol.call


async def serve_grpc(path: str) -> None:
    grpc = importlib.import_module("grpc")

    async def echo(request: bytes, context: Any) -> bytes:
        return request

    class Handler(grpc.GenericRpcHandler):  # type: ignore[name-defined,misc]
        def service(self, details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(echo)

    server = importlib.import_module("grpc.aio").server()
    server.add_generic_rpc_handlers((Handler(),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    await server.wait_for_termination()


async def connect_grpc(path: str) -> Call:
    channel = importlib.import_module("grpc.aio").insecure_channel(f"unix:{path}")
    return channel.unary_unary(PATH)  # type: ignore[no-any-return]


async def pump(call: Call, size: int, count: int, window: int) -> float:
    """Calls a second, `window` at once; a tenth of them go ahead, unmeasured."""
    request = b"x" * size

    async def caller(calls: int) -> None:
        for _ in range(calls):
            await call(request)

    async def all_of(calls: int) -> None:
        await asyncio.gather(*(caller(calls // window) for _ in range(window)))

    await all_of(count // 10)
    began = time.perf_counter()
    await all_of(count)
    return count / (time.perf_counter() - began)


async def client(kind: str, path: str, size: int, count: int, window: int) -> None:
    call = await globals()[f"connect_{kind}"](path)
    print(await pump(call, size, count, window))


def main() -> None:
    uvloop = importlib.import_module("uvloop")
    role, kind, path, *numbers = sys.argv[1:]
    if role == "server":
        uvloop.run(globals()[f"serve_{kind}"](path))
    else:
        uvloop.run(client(kind, path, *map(int, numbers)))


if __name__ == "__main__":
    main()

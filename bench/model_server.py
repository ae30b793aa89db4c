"""A model server for measurements, which costs next to nothing and speaks when it is told to.

    python bench/model_server.py CHUNKS INTERVAL_MS STREAMS

Rule: a whole answer comes at once. Streams wait until there are STREAMS of them: then `ready` is
printed, and with the next line on stdin each gets a chunk every INTERVAL_MS, CHUNKS times, each at
its own moment, as streams do that began apart. With STREAMS 0 nothing is ever answered, and `asked
N` is printed for each request. The first line printed is the base URL.
"""

from __future__ import annotations

import asyncio
import json
import sys

import uvloop

GROUPS = 50  # moments within an interval
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n%s\r\n"
WHOLE = json.dumps(
    {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Hello to you too."},
             "logprobs": None, "finish_reason": "stop"},
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14},
    }
).encode()  # fmt: skip
ANSWER = HEAD % (b"application/json", b"content-length: %d\r\n" % len(WHOLE)) + WHOLE
STREAMED = HEAD % (b"text/event-stream", b"transfer-encoding: chunked\r\n")


def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    """As a server sends it: one event of OpenAI's in one chunk of HTTP."""
    document = {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000,
        "model": "m", "system_fingerprint": "fp_1", "usage": None,
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
    }  # fmt: skip
    return framed(b"data: " + json.dumps(document).encode() + b"\n\n")


def framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


FIRST = STREAMED + chunk({"role": "assistant", "content": ""})
PIECE = chunk({"content": " something"})
LAST = chunk({}, "stop") + framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Streams:
    """Those that wait, and then get their chunks."""

    def __init__(self, chunks: int, interval_s: float, expected: int) -> None:
        self._chunks, self._interval_s, self._expected = chunks, interval_s, expected
        self._waiting: list[asyncio.WriteTransport] = []
        self._released = asyncio.Event()
        self._asked = 0

    def answer(self, request: bytes, transport: asyncio.WriteTransport) -> None:
        if not self._expected:
            self._asked += 1
            print("asked", self._asked, flush=True)
        elif b'"stream":true' not in request:
            transport.write(ANSWER)
        else:
            self._waiting.append(transport)
            if len(self._waiting) == self._expected:
                print("ready", flush=True)

    def release(self) -> None:
        if not sys.stdin.readline():
            raise SystemExit
        self._released.set()

    async def run(self) -> None:
        asyncio.get_running_loop().add_reader(sys.stdin, self.release)
        while True:
            await self._released.wait()
            self._released.clear()
            streams, self._waiting = self._waiting, []
            groups = [streams[at::GROUPS] for at in range(GROUPS)]
            for part in (FIRST, *[PIECE] * self._chunks, LAST):
                for group in groups:
                    for transport in group:
                        transport.write(part)
                    await asyncio.sleep(self._interval_s / GROUPS)


class Server(asyncio.Protocol):
    def __init__(self, streams: Streams) -> None:
        self._streams, self._request = streams, b""
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._request += data
        head, end, body = self._request.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().partition(b"content-length: ")[2].split()[0]):
            request, self._request = self._request, b""
            self._streams.answer(request, self._transport)


async def main() -> None:
    chunks, interval_ms, expected = map(int, sys.argv[1:])
    streams, loop = Streams(chunks, interval_ms / 1000, expected), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Server(streams), "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await streams.run()


if __name__ == "__main__":
    uvloop.run(main())

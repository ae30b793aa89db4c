"""Seeded streams of OpenAI's chunks, by the short way and without it: a guest sees no difference.

    python tests/fuzz/fuzz_plain_streams.py --runs 10000 --seed 1

Rule: a run depends on its seed alone. A failing run prints the seed that repeats it. Both ways get
the same reads of the socket and the same reads of the guest, and give the same events, the same
answer or error, and leave the connection alike.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]

from spear._core.endpoints import Channel  # noqa: E402
from spear.hostcalls.llm.backends import assembly  # noqa: E402
from spear.hostcalls.llm.backends.http_backend import _Pieces  # noqa: E402
from spear.hostcalls.llm.backends.openai import OpenAiReader  # noqa: E402
from spear.hostcalls.llm.chat.streaming import HELD_MAX, _Events  # noqa: E402
from spear.hostcalls.llm.http.connection import Connection  # noqa: E402
from tests.fuzz import seeded  # noqa: E402

TEXTS = (
    "", " a", "word", "Grüße", "世界", "😀", '"', "\\", "/", "\n", "\t\r", "\x00\x1f", "\x7f",
    "\u2028", "\x85", "data: x", "\ufeff", "</script>", "é" * 5000, "x" * 8192, "x" * 8193,
)  # fmt: skip
ODD_JSON = (
    b"1.5", b"-1", b"1e5", b"01", b"1e999", b"123456789012345678901234567890", b"NaN", b"tru",
    b"true", b"[]", b"{}", b'[1,{"a":[null]}]', b'{"a":}', b"[" * 40 + b"]" * 40, b'"\\ud800"',
    b'"\\x"', b'"\xff"', b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xe2\x82"',
    b'"\x01"', b"'a'", b"", b"null", b'"a"', b'"\\u00e9\\/"', b" null", b"0", b"[0]", b"[,]",
    b'{"a" : 1 , "b":"\\n"}', b"00", b"-0", b"0.0", b'"\xf0\x9f\x98\x80"', b'"\\uD83D\\uDE00"',
)  # fmt: skip
DELTA = ("role", "refusal", "tool_calls", "reasoning_content", "content", "annotations")
CHOICE = ("index", "finish_reason", "logprobs", "delta", "stop_reason")
CHUNK = ("id", "object", "created", "model", "usage", "error", "choices", "x_groq", "choicez")


class Odds(random.Random):
    """How often what is odd comes, as a share of its usual frequency."""

    wild = 1.0

    def odd(self, share: float) -> bool:
        return self.random() < share * self.wild


def text_of(rng: Odds, text: str) -> bytes:
    """The JSON string, its characters written in any of the ways there are."""
    if rng.random() < 0.6:
        return json.dumps(text, ensure_ascii=rng.random() < 0.3).encode(errors="surrogatepass")
    parts = []
    for char in text:
        if ord(char) < 0x20 or char in '"\\' or rng.random() < 0.3:
            code = json.dumps(char)[1:-1] if rng.random() < 0.5 else utf16(char)
            upper = code.startswith("\\u") and rng.random() < 0.2
            parts.append(code.upper().replace("U", "u") if upper else code)
        else:
            parts.append(char)
    return b'"' + "".join(parts).encode() + b'"'


def utf16(char: str) -> str:
    data = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{data[at]:02x}{data[at + 1]:02x}" for at in range(0, len(data), 2))


def members(rng: Odds, known: dict[bytes, bytes], odd: tuple[str, ...]) -> bytes:
    """An object, in any order, with odd members now and then."""
    pairs = list(known.items())
    while rng.odd(0.04):
        pairs.append((rng.choice(odd).encode(), rng.choice(ODD_JSON)))
    if rng.random() < 0.1:
        rng.shuffle(pairs)
    if rng.odd(0.02) and pairs:
        del pairs[rng.randrange(len(pairs))]
    space = rng.choice((b"", b"", b"", b" ", b"  ", b"\t"))
    names = [b"".join(escaped(rng, key)) for key, _ in pairs]
    body = (b"," + space).join(
        b'"%s"%s:%s%s' % (name, space, space, value)
        for name, (_, value) in zip(names, pairs, strict=True)
    )
    return b"{" + space + body + space + b"}"


def escaped(rng: Odds, key: bytes) -> list[bytes]:
    if not rng.odd(0.005):
        return [key]
    return [b"\\u%04x" % byte if rng.random() < 0.3 else bytes([byte]) for byte in key]


def chunk(rng: Odds) -> bytes:
    text = rng.choice(TEXTS if rng.odd(0.05) else TEXTS[:-3])
    delta = {b"content": text_of(rng, text)}
    if rng.random() < 0.3:
        delta[b"role"] = rng.choice((b'"assistant"', b"null"))
    if rng.random() < 0.2:
        delta.setdefault(rng.choice(DELTA).encode(), b"null")
    choice = {b"index": b"0", b"delta": members(rng, delta, DELTA), b"logprobs": b"null"}
    if rng.random() < 0.7:
        choice[b"finish_reason"] = b'"stop"' if rng.odd(0.03) else b"null"
    choices = members(rng, choice, CHOICE)
    if rng.odd(0.02):
        choices = rng.choice((b"", choices + b"," + choices, b"null", b"1"))
    known = {
        b"id": b'"c1"',
        b"object": b'"chat.completion.chunk"',
        b"created": b"17",
        b"model": b'"m"',
    }
    known[b"choices"] = b"[" + choices + b"]"
    if rng.random() < 0.3:
        known[b"usage"] = b'{"prompt_tokens":1}' if rng.odd(0.05) else b"null"
    return members(rng, known, CHUNK)


def event(rng: Odds) -> bytes:
    """Of the stream, nearly always one plain chunk."""
    end = b"\n"
    if rng.random() < 0.2:
        end = b"\r" if rng.odd(0.3) else b"\r\n"
    odd = rng.random() / rng.wild
    if odd < 0.01:
        return (
            rng.choice((b": note", b"id: 1", b"retry: 5", b"event: x", b"\xef\xbb\xbf", b""))
            + end * 2
        )
    if odd < 0.02:
        return b"data: [DONE]" + end * 2
    if odd < 0.03:
        return b"data: " + chunk(rng) + end
    if odd < 0.04:
        return b"data:" + chunk(rng) + end + rng.choice((b"", b"data: x" + end)) + end
    if odd < 0.05:
        return b'data: {"error":{"message":"no more","type":"t"}}' + end * 2
    return b"data: " + rng.choice((b"", b"", b" ")) + chunk(rng) + end * 2


def spoiled(rng: Odds, data: bytes, share: float) -> bytes:
    """With one bit of it the other way, now and then."""
    if not data or not rng.odd(share):
        return data
    copy = bytearray(data)
    copy[rng.randrange(len(copy))] ^= 1 << rng.randrange(8)
    return bytes(copy)


def framed(rng: Odds, data: bytes) -> bytes:
    size = rng.choice((b"%X", b"0%x", b"%x;a=b")) if rng.odd(0.1) else b"%x"
    return (size % len(data)) + b"\r\n" + data + b"\r\n" if data else b""


def reads_of(rng: Odds) -> list[bytes]:
    """What the socket brings: the head and the first chunk, then chunks, whole as a rule."""
    name = b"" if rng.odd(0.05) else b"c1"
    choice = b'{"index":0,"delta":{"content":"a"}}'
    first = b'data: {"id":"%s","model":"m","choices":[%s]}\n\n' % (name, choice)
    chunked = not rng.odd(0.1)
    head = b"HTTP/1.1 200 OK\r\n" + (b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"\r\n")
    pieces = [spoiled(rng, event(rng), 0.01) for _ in range(rng.randrange(60))]
    pieces.append(b"data: [DONE]\n\n" if rng.random() < 0.7 else b"")
    body = [first]
    while pieces:
        together = rng.choice((1,) * 8 + (2, 3, 20))
        body.append(b"".join(pieces[:together]))
        del pieces[:together]
    if rng.odd(0.15):  # chunks that know nothing of events
        whole, body = b"".join(body), []
        while whole:
            size = rng.randrange(1, 400)
            body.append(whole[:size])
            whole = whole[size:]
    parts = [framed(rng, one) if chunked else one for one in body]
    parts = [head, *(spoiled(rng, one, 0.005) for one in parts), b"0\r\n\r\n" if chunked else b""]
    reads: list[bytes] = []
    while parts:
        together = rng.choice((1,) * 8 + (2, 5))
        reads.append(b"".join(parts[:together]))
        del parts[:together]
    if rng.odd(0.2):  # cut anywhere
        whole, reads = b"".join(reads), []
        while whole:
            size = rng.choice((1, 7, 100, 1000))
            reads.append(whole[:size])
            whole = whole[size:]
    return [read for read in reads if read]


class Wire:
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        self.gone = False

    def write(self, data: bytes) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def abort(self) -> None:
        self.gone = True

    def is_closing(self) -> bool:
        return self.gone


@dataclass
class Seen:
    """By one of the two ways."""

    events: list[bytes] = field(default_factory=list)
    told: list[int] = field(default_factory=list)  # events that are out after each read
    result: Any = None
    left: tuple[Any, ...] = ()


@dataclass
class Course:
    """What both ways are given; `guest` says how many events are read after each read."""

    reads: list[bytes]
    guest: list[int]
    items_max: int
    bytes_max: int
    characters_max: int
    lost: bool


async def seen_by(course: Course, *, short: bool) -> tuple[Seen, int]:
    """And how many reads went the short way."""
    channel, due, seen, taken = (
        Channel(items_max=course.items_max, bytes_max=1 << 24),
        [],
        Seen(),
        0,
    )
    events = _Events(channel, due, due.append, HELD_MAX)
    reader, wire = OpenAiReader(), Wire()
    connection = Connection(lambda _: None)
    connection.connection_made(wire)  # type: ignore[arg-type]
    response = connection.begin(b"", course.bytes_max)
    deliver = events if short else (lambda piece: events(piece))
    task = asyncio.create_task(connection.pour(_Pieces(reader, deliver)))
    await asyncio.sleep(0)

    async def turn(count: int) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        due.clear()
        events.go()
        for _ in range(count):
            one = channel.get_nowait()
            if one is not None:
                seen.events.append(one)
        for _ in range(3):
            await asyncio.sleep(0)

    for read, count in zip(course.reads, course.guest, strict=True):
        if wire.gone or task.done():
            break
        before = response.received
        connection.data_received(read)
        taken += connection._straight is not None and response.received == before
        await turn(count)
        seen.told.append(len(seen.events) + len(channel) + len(events.held))
    if course.lost:
        connection.connection_lost(None)
    for _ in range(2000):
        await turn(100)
        if task.done() and not (events.held or len(channel)):
            break
    task.cancel()
    (failure,) = await asyncio.gather(task, return_exceptions=True)
    try:
        seen.result = (type(failure), str(failure)) if failure is not None else reader.body()
    except Exception as error:
        seen.result = type(error), str(error)
    if failure is not None:
        reader._catch_up()
    seen.left = (
        response.received, response.complete, response.reusable, reader.done, wire.gone,
        reader._answer._size, "".join(reader._answer._texts["content"]),
    )  # fmt: skip
    events.close()
    return seen, taken


def run(seed: int) -> int:
    """One stream, both ways; how many of its reads went the short one."""
    rng = Odds(seed)
    rng.wild = rng.choice((0.02, 0.1, 1))
    reads = reads_of(rng)
    eager = rng.random() < 0.8
    course = Course(
        reads=reads,
        guest=[100 if eager else rng.choice((0, 0, 1, 3, 30)) for _ in reads],
        items_max=rng.choice((64, 64, 64, 3, 17)),
        bytes_max=rng.randrange(1, 20_000) if rng.odd(0.2) else 1 << 28,
        characters_max=rng.randrange(1, 300) if rng.odd(0.2) else 1 << 24,
        lost=rng.random() < 0.5,
    )

    async def both() -> tuple[Seen, Seen, int]:
        short, taken = await seen_by(course, short=True)
        plain, _ = await seen_by(course, short=False)
        return short, plain, taken

    with patch.object(assembly, "ANSWER_CHARS_MAX", course.characters_max):
        short, plain, taken = asyncio.run(both())
    assert short == plain, (reads, short, plain)
    return taken


def fuzz(runs: int, seed: int) -> int:
    """How many reads went the short way; raises with the seed of the stream that fails."""
    return seeded.total(run, runs, seed)


def main() -> None:
    arguments = seeded.asked(__doc__)
    total = fuzz(arguments.runs, arguments.seed)
    print(f"{arguments.runs} streams from seed {arguments.seed}: {total} short reads, all alike")


if __name__ == "__main__":
    main()

"""Seeded answers of models, cut and damaged, against the parsers and the readers of all dialects.

    python tests/fuzz/fuzz_model_streams.py --runs 10000 --seed 1

Rule: a run depends on its seed alone. A failing run prints the seed that repeats it. Parsers give
what the plain reference gives; readers raise ModelError or give an answer, and nothing else.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]

import msgspec  # noqa: E402

from spear.errors import ModelError  # noqa: E402
from spear.hostcalls.llm.backends.anthropic import AnthropicReader  # noqa: E402
from spear.hostcalls.llm.backends.ollama import OllamaReader  # noqa: E402
from spear.hostcalls.llm.backends.openai import OpenAiReader  # noqa: E402
from spear.hostcalls.llm.http.lines import Lines  # noqa: E402
from spear.hostcalls.llm.http.response import Response  # noqa: E402
from spear.hostcalls.llm.http.sse import SseParser  # noqa: E402
from tests.fakes.anthropic import AnthropicFake  # noqa: E402
from tests.fakes.ollama import OllamaFake  # noqa: E402
from tests.fakes.openai import OpenAiFake  # noqa: E402
from tests.fakes.step import Call, Step  # noqa: E402
from tests.fuzz import seeded  # noqa: E402
from tests.reference import sse as reference  # noqa: E402

PIECES = (
    b"data: a", b"data:", b"data", b": note", b"event: x", b"id: 1", b"retry: 5", b"data:  two",
    b"\r", b"\n", b"\r\n", b"\n\n", b"\r\r", b"\xef\xbb\xbf", b"\xe2\x82", b"\xac", b"\x00", b"x:y",
    b'data: {"a":1}\n\n', b"\x0b\x0c\x1c\x85",
)  # fmt: skip
DIALECTS = (
    (OpenAiFake, lambda: OpenAiReader()),
    (OllamaFake, lambda: OllamaReader("call_", 0)),
    (AnthropicFake, lambda: AnthropicReader(0)),
)
WRONG = (
    None,
    True,
    -1,
    1e300,
    10**30,
    "",
    "x",
    [],
    {},
    [[]],
    [None],
    {"type": 1},
    [{"index": "a"}],
)


def cut(rng: random.Random, data: bytes) -> list[bytes]:
    """In chunks of any size, some of them empty."""
    chunks, most = [], rng.choice((1, 2, 5, 40, 400))
    while data:
        size = rng.randrange(most + 1)
        chunks.append(data[:size])
        data = data[size:]
    return chunks


def parsers(rng: random.Random) -> int:
    stream = b"".join(rng.choice(PIECES) for _ in range(rng.randrange(40)))
    chunks = cut(rng, stream)
    parser = SseParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    assert events == reference.events(stream), (stream, chunks)
    lines = Lines(any_end=False)
    whole = [line for chunk in chunks for line in lines.feed(chunk)]
    assert (whole, lines.rest()) == reference.lines(stream), (stream, chunks)
    return len(stream)


def spoil(rng: random.Random, value: object) -> object:
    """The JSON value with one place in it replaced by what does not belong there."""
    if rng.random() < 0.2 or not isinstance(value, dict | list) or not value:
        return rng.choice(WRONG)
    copy = dict(value) if isinstance(value, dict) else list(value)
    at = rng.choice(list(copy)) if isinstance(copy, dict) else rng.randrange(len(copy))
    if isinstance(copy, dict) and rng.random() < 0.2:
        del copy[at]
    else:
        copy[at] = spoil(rng, copy[at])
    return copy


def spoil_event(rng: random.Random, piece: bytes) -> bytes:
    start = piece.find(b"{")
    if start < 0:
        return rng.choice((piece, b"", b"data: [DO"))
    value = spoil(rng, msgspec.json.decode(piece[start:]))
    return piece[:start] + msgspec.json.encode(value) + b"\n\n"[: 1 + (start > 0)]


def readers(rng: random.Random) -> int:
    fake, make = rng.choice(DIALECTS)
    calls = (
        Call("sum", {"a": 1, "b": [2, "drei"]}),
        Call("sum", {}, id="same"),
        Call("f", {}, id="same"),
    )
    step = Step(text="Grüße, 世界, und mehr", calls=calls[: rng.randrange(4)])
    pieces = fake().pieces(step, {"model": "m", "messages": []})
    damage = rng.randrange(4)
    if damage == 0:
        at = rng.randrange(len(pieces))
        pieces[at] = spoil_event(rng, pieces[at])
    elif damage == 1:
        pieces = pieces[: rng.randrange(len(pieces))]
    stream = bytearray(b"".join(pieces))
    if damage == 2 and stream:
        stream[rng.randrange(len(stream))] ^= 1 << rng.randrange(8)
    reader = make()
    try:
        deltas = [delta for chunk in cut(rng, bytes(stream)) for delta in reader.feed(chunk)]
        message = reader.body()["choices"][0]["message"]
    except ModelError:
        assert damage < 3, "a whole stream was refused"
        return len(stream)
    assert (message["content"] or "") == "".join(delta.content for delta in deltas)
    msgspec.json.encode(message)
    if damage == 3:
        assert message["content"] == step.text
        assert [c["function"]["name"] for c in message.get("tool_calls", [])] == [
            call.name for call in step.calls or ()
        ]
    return len(stream)


def responses(rng: random.Random) -> int:
    """HTTP: cuts change nothing; damage raises ModelError or gives some other answer."""
    body = rng.randbytes(rng.randrange(200))
    if rng.random() < 0.5:
        stream = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    else:
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in cut(rng, body) if c)
        stream = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    if rng.random() < 0.3:
        stream = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + stream
    damaged = bytearray(stream)
    if rng.random() < 0.5:
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    response, found = Response(5000), b""
    try:
        for chunk in cut(rng, bytes(damaged)):
            response.feed(chunk)
            found += response.take()
    except ModelError:
        assert damaged != stream
        return len(stream)
    if damaged == stream:
        assert (response.complete, response.reusable, found) == (True, True, body)
    return len(stream)


def run(seed: int) -> int:
    """One stream; how many bytes it had."""
    rng = random.Random(seed)
    return rng.choice((parsers, readers, responses))(rng)


def fuzz(runs: int, seed: int) -> int:
    """Bytes read in `runs` streams; raises with the seed of the stream that fails."""
    return seeded.total(run, runs, seed)


def main() -> None:
    arguments = seeded.asked(__doc__)
    total = fuzz(arguments.runs, arguments.seed)
    print(
        f"{arguments.runs} streams from seed {arguments.seed}, {total} bytes: all as they must be"
    )


if __name__ == "__main__":
    main()

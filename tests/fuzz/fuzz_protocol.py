"""Seeded random bodies against sessions: legal ones, damaged ones and noise, in any order.

    python tests/fuzz/fuzz_protocol.py --runs 10000 --seed 1

Rule: a run depends on its seed alone. A failing run prints the seed that repeats it.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]

from spear.errors import FrameError, NotFound  # noqa: E402
from spear.protocol import message as wire  # noqa: E402
from spear.protocol.session import CLOSED, HOST, OPEN, PEER, Call, Greeted, Session  # noqa: E402
from spear.protocol.streams import MESSAGE_BYTES_MAX  # noqa: E402
from tests.fuzz import seeded  # noqa: E402

EDGES = (0, 1, 2, 3, 7, 128, 129, 130, 255, 256, 65_535, 2**31, 2**32 - 1)


def header(rng: random.Random) -> bytes:
    """Fields that are near to what is legal."""
    return wire.HEADER.pack(
        1 if rng.random() < 0.97 else rng.randrange(256),
        rng.randrange(1, 10) if rng.random() < 0.97 else rng.randrange(256),
        rng.choice((0, 0, 0, 2, 2, 4, 8, 1, 0xFFFF)),
        rng.choice((*EDGES, rng.randrange(2**32))),
        rng.choice((*range(12), *EDGES, 2**64 - 1, rng.randrange(2**64))),
    )


def body(rng: random.Random) -> bytes:
    kind = rng.randrange(8)
    if kind == 0:
        return rng.randbytes(rng.randrange(40))
    if kind == 1:
        return wire.pack_map(wire.HELLO, wire.Hello(client="fuzz", token="t"))
    if kind == 2:
        return wire.pack_map(wire.WELCOME, wire.Welcome(window=rng.choice((0, 1, 64))))
    if kind == 3:
        return wire.pack_cancel(rng.choice(EDGES))
    if kind == 4:
        call = wire.pack_call(b"/a/B", rng.choice(EDGES), rng.randbytes(rng.randrange(30)))
        return header(rng) + call[: rng.randrange(len(call) + 1)]
    if kind == 5:
        call = wire.pack_call(b"/a/B", 0, b"message")
        operation = rng.choice((wire.CALL, wire.STREAM))
        return wire.pack(wire.REQUEST, rng.choice((0, 2)), operation, rng.randrange(30), call)
    if kind == 6:
        size = rng.choice((0, 1, 1000, 300_000, MESSAGE_BYTES_MAX + 1))
        return wire.pack(wire.DATA, rng.choice((0, 0, 2)), 0, rng.randrange(30), bytes(size))
    return header(rng) + rng.randbytes(rng.randrange(30))


def legal(rng: random.Random, session: Session, streams: list, ids: list[int]) -> bytes:
    """What a peer that keeps to the rules might say next; a stream's frame may be late."""
    kind = rng.randrange(5)
    if kind == 0:
        return wire.pack(wire.HEARTBEAT, 0, 0, 0)
    if kind == 1 and ids:
        return wire.pack_cancel(rng.choice(ids))
    if kind <= 3 and streams:
        stream = rng.choice(streams)
        if rng.random() < 0.3:
            return wire.pack(wire.CREDIT, 0, rng.randrange(1000), stream.request_id)
        if not stream.received_last and stream.allowance > 0:
            flags = wire.LAST if rng.random() < 0.05 else 0
            return wire.pack(wire.DATA, flags, 0, stream.request_id, bytes(rng.randrange(3000)))
    # A strange body may have used up ids, even nearly all.
    last = max(session.last_answered, 1 if session.role == HOST else 2)
    if last >= 1 << 63:
        return wire.pack(wire.HEARTBEAT, 0, 0, 0)
    ids.append(last + 2 * rng.randrange(1, 4))
    operation = rng.choice((wire.CALL, wire.STREAM, 17))
    return wire.pack(wire.REQUEST, 0, operation, ids[-1], wire.pack_call(b"/a/B", 0, b"m"))


def answer(rng: random.Random, session: Session, event: object, streams: list) -> None:
    """What a driver might do then."""
    if isinstance(event, Greeted):
        session.welcome(wire.Welcome())
    elif isinstance(event, Call):
        if event.stream is not None:
            streams.append(event.stream)
        if rng.random() < 0.5:
            session.respond(event.request_id, b"answer")
        elif rng.random() < 0.3:
            session.respond_error(event.request_id, NotFound("nothing"))
    if streams and rng.random() < 0.3:
        stream = rng.choice(streams)
        session.consumed(stream, bytes(rng.choice((0, 1000, 70_000))))
        if stream.writable:
            session.send_data(stream, b"data", last=rng.random() < 0.1)
    if session.state == OPEN and rng.random() < 0.1:
        streams.append(session.open_stream(b"/c/D", 0, b"", last=False))
    if rng.random() < 0.02:
        session.tick()


def run(seed: int) -> int:
    garbled_calls(seed)
    return talk(seed)


def talk(seed: int) -> int:
    """One session, until it ends; how many bodies it took."""
    rng = random.Random(seed)
    session = Session(rng.choice((HOST, PEER)))
    streams: list = []
    ids: list[int] = []
    if session.role == HOST:
        session.receive(wire.pack_map(wire.HELLO, wire.Hello()))
        session.welcome(wire.Welcome())
    else:
        session.receive(wire.pack_map(wire.WELCOME, wire.Welcome()))
    for taken in range(200):
        try:
            strange = rng.random() < 0.02
            sent = body(rng) if strange else legal(rng, session, streams, ids)
            event = session.receive(sent)
        except FrameError:
            assert strange, "what is legal was refused"
            assert session.state == CLOSED
            assert session.outgoing[-1] == b"", "it must say why, and close"
            assert session.outgoing[-2][1] == wire.ERROR
            return taken
        answer(rng, session, event, streams)
        # Whatever was said can be read by the other side.
        assert all(not b or wire.HEADER.unpack_from(b)[0] == 1 for b in session.outgoing)
        if session.state == CLOSED:
            return taken
    return 200


def garbled_calls(seed: int) -> None:
    """Readers of payloads: a value or FrameError, nothing else."""
    rng = random.Random(seed)
    data = bytes(16) + rng.randbytes(rng.randrange(80))
    for read in (wire.unpack_call, wire.unpack_cancel, wire.is_request,
                 lambda d: wire.greeting(wire.Hello, d),
                 lambda d: wire.greeting(wire.Refusal, d)):  # fmt: skip
        try:
            read(data)
        except FrameError:
            continue


def fuzz(runs: int, seed: int) -> int:
    """Bodies taken in `runs` sessions; raises with the seed of the one that fails."""
    return seeded.total(run, runs, seed)


def main() -> None:
    arguments = seeded.asked(__doc__)
    total = fuzz(arguments.runs, arguments.seed)
    print(f"{arguments.runs} sessions from seed {arguments.seed}, {total} bodies: none went astray")


if __name__ == "__main__":
    main()

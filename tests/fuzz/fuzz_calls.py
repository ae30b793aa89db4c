"""Seeded calls at both ends of a connection, which take plain frames natively, against sessions
that take every frame by their steps.

    python tests/fuzz/fuzz_calls.py --runs 1000 --seed 1

Rule: a run depends on its seed alone. What an end sends and gives must be what the plain session
says, whatever comes: calls, answers, odd frames, damaged ones and noise. A failing run prints the
seed that repeats it.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]

from spear._core.servedcalls import Route  # noqa: E402
from spear.errors import FrameError, NotFound, SpearError, Unimplemented  # noqa: E402
from spear.protocol import message as wire  # noqa: E402
from spear.protocol.client import FrameChannel  # noqa: E402
from spear.protocol.server import FrameServer  # noqa: E402
from spear.protocol.serving import Caller  # noqa: E402
from spear.protocol.session import (  # noqa: E402
    HOST,
    PEER,
    Aborted,
    Call,
    Cancelled,
    Greeted,
    Request,
    Response,
    Session,
)
from spear.protocol.status import error_of_code  # noqa: E402
from tests.fuzz import seeded  # noqa: E402
from tests.fuzz.fuzz_protocol import body  # noqa: E402
from tests.wires import Wire  # noqa: E402

HELLO = wire.pack_map(wire.HELLO, wire.Hello(client="fuzz"))
WELCOME = wire.pack_map(wire.WELCOME, wire.Welcome())
PATHS = ("/t/Now", "/t/Wait", "/t/Fail", "/t/Yield", "/t/None")
WAITING_MAX = 40  # below the window
STEPS = 30
STRANGE = 0.03


async def turns() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


class Node:
    """The methods, natively served."""

    def __init__(self) -> None:
        self.waits: dict[bytes, asyncio.Future[None]] = {}  # payloads are unique
        self.faults: list[object] = []
        self.methods = dict(zip(PATHS, (self.now, self.wait, self.fail, self.yields), strict=False))
        self.routes = {
            path: Route(path, method, bytes, bytes) for path, method in self.methods.items()
        }

    async def now(self, payload: bytes) -> bytes:
        return payload[::-1]

    async def yields(self, payload: bytes) -> bytes:
        await asyncio.sleep(0)
        return payload

    async def fail(self, payload: bytes) -> bytes:
        raise NotFound(payload.hex())

    async def wait(self, payload: bytes) -> bytes:
        self.waits[payload] = asyncio.get_running_loop().create_future()
        await self.waits[payload]
        return payload

    def call(self, path: str, payload: bytes, *_: object) -> Awaitable[bytes]:
        if path not in self.methods:
            raise Unimplemented("there is no such method")
        return self.methods[path](payload)

    def stream(self, *_: object) -> bytes:
        raise Unimplemented("there is no such method")


class Model:
    """The same node, by the session's steps alone."""

    def __init__(self) -> None:
        self.session = Session(HOST)
        self.waits: dict[int, bytes] = {}
        self.later: dict[int, Callable[[], None]] = {}  # answers, for when the turn is over

    def take_all(self, frames: list[bytes]) -> bool:
        """Whether more may come."""
        going = all(map(self.take, frames))  # up to the one that ends the connection
        for answer in self.later.values():
            answer()
        self.later.clear()
        return going

    def take(self, frame: bytes) -> bool:
        session = self.session
        try:
            event = session.receive(frame)
        except FrameError:
            return False
        if isinstance(event, Greeted):
            session.welcome(wire.Welcome(window=session.window))
        elif isinstance(event, Call):
            served = event.stream is None and event.path in PATHS[:4]
            if served and (frame[2] or event.path == "/t/Yield"):  # by a task, or with a pause
                self.later[event.request_id] = self.called(event)
            elif served:
                self.called(event)()
            else:
                session.respond_error(event.request_id, Unimplemented("there is no such method"))
        elif isinstance(event, Request):
            error = Unimplemented(f"operation {event.operation} is not for clients")
            session.respond_error(event.request_id, error)
        elif isinstance(event, Cancelled | Aborted):
            gone = partial(session.respond_error, event.request_id, asyncio.CancelledError())
            if event.request_id in self.later or self.waits.pop(event.request_id, None):
                self.later[event.request_id] = gone
        return session.open

    def called(self, call: Call) -> Callable[[], None]:
        """The answer of a call, or what makes it wait."""
        session, request_id, payload = self.session, call.request_id, call.payload
        if call.path == "/t/Wait":
            return partial(self.waits.__setitem__, request_id, payload)
        if call.path == "/t/Fail":
            return partial(session.respond_error, request_id, NotFound(payload.hex()))
        return partial(session.respond, request_id, payload[:: 1 if "Yield" in call.path else -1])

    def taken(self) -> list[bytes]:
        sent, self.session.outgoing = self.session.outgoing, []
        return sent


def request(rng: random.Random, ids: list[int], count: int) -> bytes:
    """A call, mostly plain, a cancel, or anything."""
    if rng.random() < STRANGE:
        return body(rng)
    if ids and rng.random() < 0.2:
        return wire.pack_cancel(rng.choice(ids))
    ids.append(ids[-1] + 2 * rng.randrange(1, 3) if ids else 1)
    payload = b"%d " % count + rng.randbytes(rng.randrange(40))
    operation = wire.CALL if rng.random() < 0.9 else rng.choice((wire.STREAM, 17))
    flags = wire.DESCRIPTOR if rng.random() < 0.02 else 0
    deadline_ms = rng.choice((0, 0, 0, 10**6))
    call = wire.pack_call(rng.choice(PATHS).encode(), deadline_ms, payload)
    return wire.pack(wire.REQUEST, flags, operation, ids[-1], call)


async def serve(seed: int) -> int:
    """A node's end, against its model; how many frames it took."""
    rng, model, node, line = random.Random(seed), Model(), Node(), Wire()
    server = FrameServer(
        node, lambda caller, hello: None, lambda path, error: node.faults.append(error),
        routes=node.routes,
    )  # fmt: skip
    server.serve(line, Caller("fuzz"))
    ids: list[int] = []
    going, count, frames = True, 0, [HELLO]
    while going and count < STEPS * 4:
        count += len(frames)
        line.receiver.frames_received(frames)
        going = model.take_all(frames)
        await turns()
        assert sorted(line.taken()) == sorted(model.taken())
        if model.waits and (len(model.waits) > WAITING_MAX or rng.random() < 0.5):
            request_id = rng.choice(list(model.waits))
            payload = model.waits.pop(request_id)
            model.session.respond(request_id, payload)
            if going:
                node.waits[payload].set_result(None)
                await turns()
        frames = [request(rng, ids, count + n) for n in range(rng.randrange(1, 6))]
    await server.close()
    assert server.stats()["calls"] == 0
    assert node.faults == []
    return count


def answer(rng: random.Random, open_ids: list[int]) -> bytes:
    """An answer, mostly to what was asked, or anything."""
    if not open_ids or rng.random() < STRANGE:
        return body(rng) if rng.random() < 0.5 else wire.pack(wire.HEARTBEAT, 0, 0, 0)
    request_id = open_ids.pop(rng.randrange(len(open_ids)))
    kind = wire.ERROR if rng.random() < 0.05 else wire.RESPONSE
    code = rng.choice((0, 0, 0, 5))
    flags = wire.LAST if rng.random() < 0.05 else 0
    return wire.pack(kind, flags, code, request_id, rng.randbytes(rng.randrange(40)))


async def ask(seed: int) -> int:
    """A client's end, against a session; how many frames it took."""
    rng, line, session = random.Random(seed), Wire(), Session(PEER)
    connecting = asyncio.ensure_future(FrameChannel.over(line))
    await turns()
    line.receiver.frames_received([WELCOME])
    channel = await connecting
    session.receive(WELCOME)
    line.taken()
    asked: dict[int, asyncio.Task[bytes]] = {}
    expected: dict[int, object] = {}
    open_ids: list[int] = []
    count, going = 0, True
    while going and count < STEPS:
        for _ in range(rng.randrange(4)):
            path, payload = rng.choice(PATHS), rng.randbytes(rng.randrange(40))
            request_id = session.call(path.encode(), 0, payload)
            asked[request_id] = asyncio.ensure_future(channel.call(path, payload))
            open_ids.append(request_id)
        await turns()
        assert line.taken() == session.outgoing
        session.outgoing = []
        frames = [answer(rng, open_ids) for _ in range(rng.randrange(1, 5))]
        count += len(frames)
        line.receiver.frames_received(frames)
        going = hear(session, frames, expected)
        await turns()
        assert line.taken() == session.outgoing
        session.outgoing = []
    for request_id, call in asked.items():
        if request_id in expected:
            (found,) = await asyncio.gather(call, return_exceptions=True)
            assert outcome(found) == outcome(expected[request_id])
        else:
            assert call.done() == (not going), "what has no answer waits for it"
    await channel.close()
    await asyncio.gather(*asked.values(), return_exceptions=True)
    return count


def hear(session: Session, frames: list[bytes], expected: dict[int, object]) -> bool:
    """What each call is answered, by the session's steps; whether more may come."""
    for frame in frames:
        try:
            event = session.receive(frame)
        except FrameError:
            return False
        if isinstance(event, Response):
            failed = event.status != 0
            expected[event.request_id] = (
                error_of_code(event.status, event.payload) if failed else event.payload
            )
        elif isinstance(event, Aborted) and event.request_id & 1:
            expected[event.request_id] = error_of_code(event.code or 13, event.payload)
        if not session.open:
            return False
    return True


def outcome(found: object) -> object:
    if isinstance(found, SpearError):
        return type(found), found.status, str(found)
    return found


def run(seed: int) -> int:
    async def both() -> int:
        return await serve(seed) + await ask(seed)

    return asyncio.run(both())


def fuzz(runs: int, seed: int) -> int:
    """Frames taken in `runs` runs; raises with the seed of the one that fails."""
    return seeded.total(run, runs, seed)


def main() -> None:
    arguments = seeded.asked(__doc__)
    total = fuzz(arguments.runs, arguments.seed)
    print(f"{arguments.runs} runs from seed {arguments.seed}, {total} frames: all as the steps say")


if __name__ == "__main__":
    main()

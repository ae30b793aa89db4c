"""Streams that are read past their transports, on both event loops: all ends are as without it."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
import uvloop

from spear._core.endpoints import Channel
from spear._core.outlets import Outlet
from spear._core.pump import Pump
from spear.clock import Clock
from spear.errors import ModelError, ModelGarbled, ModelTimeout, ModelUnavailable
from spear.hostcalls.llm.backends.http_backend import HttpBackend
from spear.hostcalls.llm.backends.openai import OpenAiDialect
from spear.hostcalls.llm.http.client import HttpClient
from spear.hostcalls.llm.request import ChatRequest, Delta, Reply
from spear.records.models import LOCAL, OPENAI, BackendSpec

HEAD = (b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        b"transfer-encoding: chunked\r\n\r\n")  # fmt: skip
MESSAGES = [{"role": "user", "content": "hello"}]


def chunk(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    event = b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(event), event)


LAST = chunk("", "stop") + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


class Teller:
    """A model that says what it is told to, when it is told; `None` closes the connection, and an
    empty text resets it."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.asked: asyncio.Queue[bytes] = asyncio.Queue()
        self.connections = 0
        self.gone = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        telling = asyncio.create_task(self._tell(writer))
        try:
            while asked := await reader.read(1 << 16):
                self.asked.put_nowait(asked)
        except ConnectionError:
            pass
        finally:
            telling.cancel()
            writer.close()
            self.gone.set()

    async def _tell(self, writer: asyncio.StreamWriter) -> None:
        while said := await self.said.get():
            writer.write(said)
        if said is not None:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()


class Asker:
    """Takes pieces as an agent's stream does, with an outlet for those of plain text."""

    def __init__(self) -> None:
        self.outlet: Outlet | None = None
        self.made = Outlet(Channel(), [], lambda _: None, 1000)
        self.pieces = list[str]()
        self.came = asyncio.Event()

    def __call__(self, piece: Delta) -> Awaitable[None] | None:
        self.pieces.append(piece.content)
        self.outlet = self.made
        self.came.set()
        return self.wait(piece)

    def wait(self, piece: Delta) -> Awaitable[None] | None:
        return None

    async def held(self, count: int) -> list[str]:
        """By the short way, once there are so many."""
        while len(self.made.held) < count:
            await asyncio.sleep(0.001)
        return [json.loads(event)["content"] for event in self.made.held]


class Scene:
    def __init__(self, url: str, teller: Teller) -> None:
        spec = BackendSpec(name="t", kind=OPENAI, hosting=LOCAL, base_url=url)
        self.http = HttpClient(url, Clock(), {})
        self.backend = HttpBackend(spec, Clock(), OpenAiDialect(url), self.http, "")
        self.teller = teller

    async def begin(
        self, deadline_ns: int = 0, asker: Asker | None = None
    ) -> tuple[Asker, asyncio.Task[Reply]]:
        """The first piece is there, and the socket is the pump's."""
        asker = asker or Asker()
        request = ChatRequest(messages=MESSAGES, deadline_ns=deadline_ns)
        task = asyncio.create_task(self.backend.stream(request, "m", asker))
        await self.teller.asked.get()
        self.teller.said.put_nowait(HEAD + chunk("one"))
        await asker.came.wait()
        assert self.pumped == 1
        return asker, task

    @property
    def pumped(self) -> int:
        pump = self.http._pumping._pump
        return 0 if pump is None else len(pump)


Act = Callable[[Scene], Coroutine[Any, Any, None]]


@pytest.fixture(params=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Callable[[Act], None]:
    async def played(act: Act) -> None:
        teller = Teller()
        server = await asyncio.start_server(teller.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        scene = Scene(f"http://127.0.0.1:{port}/v1", teller)
        try:
            await act(scene)
        finally:
            await scene.backend.close()
            await teller.gone.wait()
            server.close()

    run = asyncio.run if request.param == "asyncio" else uvloop.run
    return lambda act: run(played(act))


def content(reply: Reply) -> str:
    return str(reply.body["choices"][0]["message"]["content"])


def test_pieces_come_in_order_by_both_ways_and_the_connection_is_kept(
    play: Callable[[Act], None],
) -> None:
    async def act(scene: Scene) -> None:
        for _ in range(2):
            asker, task = await scene.begin()
            scene.teller.said.put_nowait(chunk(" two") + chunk(" three"))
            assert await asker.held(2) == [" two", " three"]
            odd = chunk(" four").replace(b'"finish_reason": null', b'"finish_reason": ""  ')
            scene.teller.said.put_nowait(odd)
            while len(asker.pieces) < 2:
                await asyncio.sleep(0.001)
            assert scene.pumped == 1  # one odd piece does not end the short way
            scene.teller.said.put_nowait(chunk(" five"))
            assert await asker.held(3) == [" two", " three", " five"]
            scene.teller.said.put_nowait(LAST)
            assert content(await task) == "one two three four five"
            assert asker.pieces == ["one", " four"]
            assert scene.pumped == 0
        assert scene.teller.connections == 1

    play(act)


def test_a_stream_that_breaks_off_is_no_answer(play: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        asker, task = await scene.begin()
        scene.teller.said.put_nowait(chunk(" two"))
        assert await asker.held(1) == [" two"]
        scene.teller.said.put_nowait(None)
        with pytest.raises(ModelGarbled, match="broke off"):
            await task
        assert (scene.pumped, scene.http.connections) == (0, 0)

    play(act)


def test_a_stream_that_is_reset_says_so(play: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        asker, task = await scene.begin()
        scene.teller.said.put_nowait(chunk(" two"))
        assert await asker.held(1) == [" two"]
        scene.teller.said.put_nowait(b"")
        with pytest.raises(ModelGarbled, match=r"broke off: .*reset by peer"):
            await task
        assert (scene.pumped, scene.http.connections) == (0, 0)

    play(act)


def test_a_caller_that_leaves_closes_the_connection(play: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        _, task = await scene.begin()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert scene.pumped == 0
        await scene.teller.gone.wait()

    play(act)


@pytest.mark.parametrize("how", ["deadline", "close"])
def test_what_ends_a_request_ends_it_here_too(how: str, play: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        soon_ns = Clock().monotonic_ns() + 300_000_000 if how == "deadline" else 0
        _, task = await scene.begin(soon_ns)
        if how == "close":
            await scene.backend.close()
        error: type[ModelError] = ModelTimeout if how == "deadline" else ModelUnavailable
        with pytest.raises(error):
            await task
        assert scene.pumped == 0
        await scene.teller.gone.wait()

    play(act)


def test_an_asker_without_room_is_waited_for_with_the_transport_at_rest(
    play: Callable[[Act], None],
) -> None:
    async def act(scene: Scene) -> None:
        loop = asyncio.get_running_loop()
        full, room = loop.create_future(), loop.create_future()

        class Full(Asker):
            def wait(self, piece: Delta) -> Awaitable[None] | None:
                if piece.content != " two":
                    return None
                full.set_result(None)
                return room

        asker, task = await scene.begin(asker=Full())
        asker.made.moving = room  # so that nothing goes by the short way
        scene.teller.said.put_nowait(chunk(" two"))
        await full
        await asyncio.sleep(0)
        assert scene.pumped == 0
        scene.teller.said.put_nowait(chunk(" three") + LAST)
        room.set_result(None)
        assert content(await task) == "one two three"
        assert asker.pieces == ["one", " two", " three"]

    play(act)


def test_without_a_descriptor_for_the_pump_a_stream_goes_its_usual_way(
    play: Callable[[Act], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left() -> Pump:
        raise OSError(errno.EMFILE, "too many open files")

    async def act(scene: Scene) -> None:
        monkeypatch.setattr("spear.hostcalls.llm.http.pumping.Pump", none_left)
        asker = Asker()
        request = ChatRequest(messages=MESSAGES, deadline_ns=0)
        task = asyncio.create_task(scene.backend.stream(request, "m", asker))
        await scene.teller.asked.get()
        scene.teller.said.put_nowait(HEAD + chunk("one"))
        await asker.came.wait()
        scene.teller.said.put_nowait(chunk(" two") + LAST)
        assert content(await task) == "one two"
        assert scene.pumped == 0

    play(act)

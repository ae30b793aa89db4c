"""What a request held is let go when it ends, failed or not, without a collection of cycles: a
request may hold many megabytes, which a collector that counts objects does not see."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from chat_stand_ins import agent
from scripted_backends import Stage, answer, chat, fail
from virtual_time import VirtualClock, run

from spear._core.drafts import Room
from spear.clock import Clock
from spear.errors import ModelError, ModelRefused, ModelUnavailable
from spear.hostcalls.llm.backends.interface import Backend
from spear.hostcalls.llm.backends.make import make_backend
from spear.hostcalls.llm.chat.asking import Asking
from spear.hostcalls.llm.chat.params import Setting
from spear.hostcalls.llm.chat.session import Session
from spear.hostcalls.llm.models import Models
from spear.hostcalls.llm.request import ChatRequest, Delta
from spear.records.models import LOCAL, OPENAI, BackendSpec
from tests.fakes.raw import CLOSE, RawServer

SCRIPTS = {
    "refused": fail(lambda: ModelRefused("upstream status: 400", http_status=400)),
    "unavailable": fail(lambda: ModelUnavailable("upstream status: 503", http_status=503)),
    "no answer": answer(3600),
    "an answer": answer(),
}
JSON = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
ANSWERS = {
    "an answer": JSON % (200, 2, b"{}"),
    "a status": JSON % (503, 2, b"{}"),
    "garbage": JSON % (200, 1, b"{"),
    "half": JSON % (200, 99, b"{") + CLOSE,
    "nothing": CLOSE,
    "no time": b"",
}


@contextmanager
def let_go() -> Iterator[None]:
    """No request that is made within is there at its end."""

    def held() -> set[int]:
        return {id(one) for one in gc.get_objects() if isinstance(one, ChatRequest)}

    gc.collect()
    gc.disable()
    try:
        before = held()
        yield
        assert held() <= before
    finally:
        gc.enable()


async def ask(models: Models, streamed: bool) -> None:
    async def drop(_: Delta) -> None:
        return

    session = Session(Room())
    session.write("user", "hello")
    session.set(Setting("timeout_ms", 900))
    asking = Asking(models, VirtualClock())
    try:
        if streamed:
            await asking.stream(agent(), session, drop)
        else:
            await asking.chat(agent(), session)
    except ModelError:
        pass


async def ask_backend(backend: Backend, streamed: bool, in_ns: int) -> None:
    request = chat(deadline_ns=Clock().monotonic_ns() + in_ns)
    try:
        if streamed:
            await backend.stream(request, "m", lambda _: None)
        else:
            await backend.chat(request, "m")
    except ModelError:
        pass


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_request_of_models(script: str, streamed: bool) -> None:
    async def main() -> None:
        stage = Stage(VirtualClock(), {"a": [SCRIPTS[script]], "b": [SCRIPTS[script]]})
        with let_go():
            await ask(stage.models, streamed)
            await asyncio.sleep(0)  # asyncio itself keeps what was cancelled until its next turn

    run(main())


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", ANSWERS)
async def test_a_request_of_a_backend(name: str, streamed: bool) -> None:
    async with RawServer(ANSWERS[name]) as server:
        spec = BackendSpec(name="a", kind=OPENAI, hosting=LOCAL, base_url=server.url)
        backend = make_backend(spec, Clock())
        with let_go():
            await ask_backend(backend, streamed, 10**8 if name == "no time" else 60 * 10**9)
            await asyncio.sleep(0)  # what the loop was called for
        await backend.close()

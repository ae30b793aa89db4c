"""Models that an Ollama server offers: which become backends, when it is asked, what it may say."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_backends import Stage, chat
from virtual_time import VirtualClock, run

from spear.clock import Clock
from spear.config_llm import STUB_BACKEND, BackendSettings, LlmSettings, OllamaSettings
from spear.errors import ModelGarbled, ModelUnavailable, NoBackend
from spear.hostcalls.llm.building import models_of
from spear.hostcalls.llm.choice.discovery import backends_of
from spear.records.models import BackendSpec
from spear.telemetry.redact import Redactor
from tests.fakes.ollama import OllamaFake

CLOCK = VirtualClock()
ON = OllamaSettings(enabled=True)


def listing(*names: str, **fields: Any) -> bytes:
    return msgspec.json.encode({"models": [{"name": name, **fields} for name in names]})


def names_of(settings: OllamaSettings, body: bytes) -> list[str]:
    return [found.spec.name for found in backends_of(settings, body)]


def test_models_become_backends_by_the_rules() -> None:
    body = listing("llama3:latest", "qwen:7b", "llama3:70b", "qwen:7b")
    assert names_of(ON, body) == ["ollama/llama3:latest", "ollama/qwen:7b", "ollama/llama3:70b"]
    chosen = OllamaSettings(allow_models=("llama3*",), deny_models=("*:70b",), name_prefix="x-")
    assert names_of(chosen, body) == ["x-llama3:latest"]
    assert names_of(OllamaSettings(allow_models=("llama3",)), body) == ["ollama/llama3:latest"]
    assert len(names_of(OllamaSettings(models_max=2), body)) == 2
    (backend,) = backends_of(ON, listing("m"))
    assert backend.spec == BackendSpec(
        name="ollama/m", kind="ollama_chat", hosting="local", model="m",
        base_url="http://127.0.0.1:11434", ops=("chat_completions", "embeddings"),
        features=("supports_tools", "supports_json_schema"),
    )  # fmt: skip


def test_a_server_that_does_not_answer_is_told_where_its_models_are_missed() -> None:
    async def main() -> None:
        answers: list[Any] = [ModelUnavailable("no connection"), listing("m")]

        async def fetch(*_: object) -> bytes:
            found = answers[0]
            if isinstance(found, Exception):
                raise found
            return bytes(found)

        llm = LlmSettings(backends=(), ollama=ON)
        stage = Stage(CLOCK, {}, llm=llm, fetch=fetch)
        said = "the Ollama server at http://127.0.0.1:11434 did not answer: no connection"
        with pytest.raises(NoBackend, match=f"chat_completions: {said}$"):
            await stage.models.chat(chat())
        (row,) = stage.models.list()
        assert (row.name, row.available, row.reason) == ("ollama/*", False, said)
        assert (row.kind, row.hosting, row.source) == ("ollama_chat", "local", "ollama")
        answers.pop(0)
        await asyncio.sleep(60)
        await stage.models.refresh()
        assert [one.name for one in stage.models.list()] == ["ollama/m"]

    run(main())


def test_a_name_that_may_still_be_discovered_is_not_called_unknown() -> None:
    async def main() -> None:
        allowed = ("a", "ollama/later", "ollama/*", "olla*", "b", "stub?")
        backends = (BackendSettings(spec=BackendSpec(name="a", kind="stub", hosting="local")),)
        for settings, unknown in (
            (ON, ["b", "stub?"]),
            (OllamaSettings(enabled=True, name_prefix=""), []),
            (OllamaSettings(), [*allowed[1:]]),
        ):
            stage = Stage(CLOCK, {}, llm=LlmSettings(backends=backends, ollama=settings))
            told = stage.models.unknown(allowed)
            assert [sentence.split("'")[2] for sentence in told] == unknown

    run(main())


def test_a_model_that_the_server_passes_on_needs_leave() -> None:
    body = listing("cloud", remote_host="https://elsewhere")
    assert names_of(ON, body) == []
    assert names_of(OllamaSettings(allow_remote=True), body) == ["ollama/cloud"]
    away = OllamaSettings(allow_remote=True, base_url="http://10.0.0.1:1")
    assert backends_of(away, listing("m"))[0].spec.hosting == "remote"


@given(st.binary(max_size=80) | st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["models", "name", "remote_host"]), inner, max_size=3),
    max_leaves=10,
).map(msgspec.json.encode))  # fmt: skip
def test_whatever_the_server_says_is_models_or_garbled(body: bytes) -> None:
    try:
        found = backends_of(ON, body)
    except ModelGarbled:
        return
    assert all(one.spec.model for one in found)


class Server:
    def __init__(self, *answers: bytes | Exception, seconds: float = 0.0) -> None:
        self.answers, self.seconds, self.asked = list(answers), seconds, 0

    async def fetch(self, base_url: str, path: str, timeout_ms: int, bytes_max: int) -> bytes:
        assert (base_url, path) == ("http://127.0.0.1:11434", "/api/ps")
        self.asked += 1
        await asyncio.sleep(self.seconds)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        return found


def staged(server: Server, backends: tuple[BackendSettings, ...] = ()) -> Stage:
    llm = LlmSettings(backends=backends, ollama=ON, retries=0)
    return Stage(CLOCK, {}, llm=llm, fetch=server.fetch)


def test_the_first_request_waits_for_the_look_and_later_ones_do_not() -> None:
    async def main() -> None:
        server = Server(listing("m"), listing("n"), seconds=1)
        stage = staged(server)
        replies = await asyncio.gather(*(stage.models.chat(chat(model="m")) for _ in range(3)))
        assert {reply.backend for reply in replies} == {"ollama/m"}
        assert server.asked == 1
        await asyncio.sleep(31)
        before_ns = CLOCK.monotonic_ns()
        await stage.models.chat(chat(model="m"))  # what was known is used, the look goes on
        assert CLOCK.monotonic_ns() - before_ns == 10**8
        await asyncio.sleep(1)
        assert [info.name for info in stage.models.list()] == ["ollama/n"]
        assert server.asked == 2
        await stage.models.close()

    run(main())


def test_where_nobody_fits_it_is_asked_anew_but_not_all_the_time() -> None:
    async def main() -> None:
        server = Server(listing("m"), listing("m"), listing("m", "new"))
        stage = staged(server)
        for model in ("m", "new"):
            with pytest.raises(NoBackend) if model == "new" else _nothing():
                await stage.models.chat(chat(model=model))
        assert server.asked == 1  # a moment ago
        await asyncio.sleep(3)
        with pytest.raises(NoBackend):
            await stage.models.chat(chat(model="new"))
        await asyncio.sleep(3)
        assert (await stage.models.chat(chat(model="new"))).backend == "ollama/new"
        assert server.asked == 3

    run(main())


def _nothing() -> Any:
    import contextlib

    return contextlib.nullcontext()


def test_a_server_that_is_not_there_is_no_error() -> None:
    async def main() -> None:
        server = Server(ModelUnavailable("connection refused"))
        stage = staged(server, (STUB_BACKEND,))
        assert (await stage.models.chat(chat())).backend == "stub"
        await stage.models.refresh()
        stage.log.flush()
        assert stage.lines.text.count("no models were discovered") == 1

    run(main())


def test_one_that_stays_keeps_its_health_and_one_that_goes_is_closed_when_idle() -> None:
    async def main() -> None:
        server = Server(listing("m", "n"), listing("n"))
        stage = staged(server)
        await stage.models.refresh()
        gone, kept = stage["ollama/m"], stage["ollama/n"]
        slow = asyncio.create_task(stage.models.chat(chat(model="m")))
        await stage.models.chat(chat(model="n"))
        gone.script = [lambda: 50.0]
        slow2 = asyncio.create_task(stage.models.chat(chat(model="m")))
        await asyncio.sleep(3)
        await stage.models.refresh()
        assert stage["ollama/n"] is kept
        assert stage.models.list()[0].latency_ns
        assert not gone.closed
        assert (await slow2).backend == "ollama/m"
        await slow
        await asyncio.sleep(60)
        await stage.models.refresh()
        assert gone.closed
        assert not kept.closed
        await stage.models.close()
        assert kept.closed

    run(main())


async def test_a_real_server_is_asked_over_http() -> None:
    async with OllamaFake(models=("tiny:latest", "big:latest"), running=("big:latest",)) as fake:
        for scope, names in (("serving", ["big"]), ("installed", ["tiny", "big"])):
            ollama = OllamaSettings(enabled=True, scope=scope, base_url=fake.url)
            stage_log = Stage(Clock(), {}, llm=LlmSettings()).log
            models = models_of(
                LlmSettings(ollama=ollama), environ={}, clock=Clock(), log=stage_log,
                redactor=Redactor(),
            )  # fmt: skip
            await models.refresh()
            found = models.list()
            assert [one.name for one in found] == [f"ollama/{name}:latest" for name in names]
            assert all(one.source == "ollama" for one in found)
            reply = await models.chat(chat(model="big:latest"))
            assert reply.usage.tokens == 18
            await models.close()

"""A key in the environment, echoed by upstreams in every disguise, is searched in all that leaves.

The rule: the canary is looked for as it is and in each usual encoding, in errors with all that led
to them, in the logs, in what a node lists and keeps, and in what the command prints.
"""

from __future__ import annotations

import json
import os
import traceback
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from guest_runs import guest_bytes
from scripted_backends import Lines, chat

import spear
from spear import config as configuration
from spear import config_llm
from spear.cli import run, tree
from spear.clock import Clock
from spear.errors import ModelError, Unreachable
from spear.hostcalls.llm.building import models_of
from spear.hostcalls.llm.models import Models
from spear.hostcalls.llm.request import EmbedRequest
from spear.protocol.status import status_of
from spear.records.task import TaskSpec
from spear.telemetry.jsonlog import open_log
from spear.telemetry.redact import Redactor
from tests.fakes.anthropic import AnthropicFake
from tests.fakes.ollama import OllamaFake
from tests.fakes.openai import OpenAiFake
from tests.fakes.server import Fake
from tests.fakes.step import Step

CANARY = 'sk-canary+/"%7kd93jf0s-q2'
KINDS = {"openai_chat_completion": OpenAiFake, "ollama_chat": OllamaFake,
         "anthropic_messages": AnthropicFake}  # fmt: skip


def disguises() -> dict[str, str]:
    raw = CANARY.encode()
    return {
        "plain": CANARY,
        "base64": b64encode(raw).decode(),
        "base64 in more": b64encode(b"Bearer " + raw + b" x").decode(),
        "base64 for URLs": urlsafe_b64encode(raw).decode().rstrip("="),
        "hex": raw.hex(),
        "HEX": raw.hex().upper(),
        "percent": quote(CANARY, safe=""),
        "JSON": json.dumps(CANARY)[1:-1],
        "JSON twice": json.dumps({"in": CANARY}),
    }


FORMS = disguises()
# What must not be found: of the base64 in more, the part that the key alone determines.
SOUGHT = [
    form.encode() for name, form in FORMS.items() if name not in ("base64 in more", "JSON twice")
] + [FORMS["base64 in more"][10:-4].encode()]


def assert_hidden(data: bytes | str, where: str) -> None:
    data = data.encode(errors="surrogateescape") if isinstance(data, str) else data
    for form in SOUGHT:
        assert form not in data, f"{form!r} in {where}"


def text_of(error: BaseException) -> str:
    """All that a traceback and a debugger show of it."""
    seen, links = [], [error]
    while links:
        link = links.pop()
        seen.append(f"{link} {link!r} {link.args} {vars(link)}")
        links += [one for one in (link.__cause__, link.__context__) if one is not None]
    return "\n".join([*traceback.format_exception(error), *seen])


def settings_of(kind: str, url: str, **more: Any) -> dict[str, Any]:
    backend = {
        "name": "b", "kind": kind, "hosting": "remote", "base_url": url, "model": "m",
        "credential_ref": "canary", "ops": ["chat_completions", "embeddings"],
    }  # fmt: skip
    return {
        "credentials": [{"name": "canary", "api_key_env": "CANARY_KEY"}],
        "backends": [backend],
        "retries": 0,
        **more,
    }


class Rig:
    """Models over a fake, with all that they may write to."""

    def __init__(self, kind: str, url: str) -> None:
        self.lines, self.redactor = Lines(), Redactor()
        self.log = open_log(self.lines, Clock(), self.redactor, level="trace")
        self.models: Models = models_of(
            config_llm.parse(settings_of(kind, url), "x"), environ={"CANARY_KEY": CANARY},
            clock=Clock(), log=self.log, redactor=self.redactor,
        )  # fmt: skip

    async def failed(self, ask: str) -> ModelError:
        with pytest.raises(ModelError) as caught:
            if ask == "chat":
                await self.models.chat(chat())
            elif ask == "embed":
                await self.models.embed(EmbedRequest(texts=["x"]))
            elif ask == "test":
                await self.models.test("b")
            else:
                await self.models.stream(chat(), lambda _: None)
        return caught.value


@asynccontextmanager
async def rig(kind: str) -> AsyncIterator[tuple[Rig, Fake]]:
    async with KINDS[kind]() as fake:
        made = Rig(kind, fake.url)
        yield made, fake
        await made.models.close()


def echo(form: str) -> list[Step]:
    """Upstreams that say it: in error documents, broken bodies, and around where texts are cut."""
    cut = "x" * (1000 - len(form) // 2 - 20) + " " + form
    document = json.dumps({"error": {"message": form, "type": form, "code": form}}).encode()
    return [
        *(Step(status=status, error=form) for status in (400, 401, 429, 500)),
        Step(status=503, error=cut),
        Step(status=500, body=document, content_type="application/json"),
        Step(body=b"{" + form.encode(), content_type="application/json"),
        Step(
            body=b"{" + form.encode(),
            content_type=f"text/{form[:40]}" if form.isalnum() else "text/x",
        ),
        Step(status=302, headers={"Location": f"http://127.0.0.1:1/{quote(form)}"}),
    ]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("kind", KINDS)
async def test_what_an_upstream_echoes_is_in_no_error_log_or_list(kind: str, name: str) -> None:
    async with rig(kind) as (made, fake):
        for ask in ("chat", "stream", "test"):
            for number, step in enumerate(echo(FORMS[name])):
                fake.script(step)
                error = await made.failed(ask)
                where = f"{ask} {number}"
                assert_hidden(text_of(error), f"error of {where}")
                assert_hidden(error.code, f"code of {where}")
                assert_hidden(status_of(error).SerializeToString(), f"status of {where}")
                made.models._roster.get("b").health.__init__()  # type: ignore[union-attr,misc]
        assert_hidden(repr(made.models.list()), "list")
        made.log.flush()
        assert made.lines.data.count(b"model failed") == 3 * len(echo(""))
        assert_hidden(made.lines.data, "system log")
        assert b"redacted" in made.lines.data


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("kind", ["openai_chat_completion", "ollama_chat"])
async def test_what_an_upstream_echoes_is_in_no_error_of_embeddings(kind: str, name: str) -> None:
    async with rig(kind) as (made, fake):
        for status in (400, 401, 429, 500):
            fake.script(Step(status=status, error=FORMS[name]))
            error = await made.failed("embed")
            assert f"upstream status: {status}" in str(error)
            assert "[redacted:" in str(error)
            assert_hidden(text_of(error), f"embed {status}")


@pytest.mark.parametrize("name", ["plain", "base64", "hex"])
async def test_where_a_long_error_is_cut_no_part_of_a_key_is_left(name: str) -> None:
    form = FORMS[name]
    async with rig("openai_chat_completion") as (made, fake):
        for ahead in range(930, 1000, 7):
            fake.script(Step(status=500, error=f"{'x' * ahead} {form}"))
            assert form[:10] not in text_of(await made.failed("chat"))


async def test_an_error_in_the_midst_of_a_stream_is_cleaned_too() -> None:
    async with rig("openai_chat_completion") as (made, fake):
        for form in FORMS.values():
            fake.script(Step(error=form, text="one two"))
            assert_hidden(text_of(await made.failed("stream")), form)


async def test_what_a_model_says_is_not_altered() -> None:
    """Documented: the answer is the upstream's; who gives a model its own key gets it back."""
    async with rig("openai_chat_completion") as (made, fake):
        fake.script(Step(text=f"said {CANARY}"))
        reply = await made.models.chat(chat())
        assert reply.body["choices"][0]["message"]["content"] == f"said {CANARY}"


async def test_the_search_finds_what_it_looks_for() -> None:
    for name, form in FORMS.items():
        with pytest.raises(AssertionError):
            assert_hidden(f"x {form} y", name)
    error = ModelError("outer")
    error.__context__ = ValueError(FORMS["hex"])
    with pytest.raises(AssertionError):
        assert_hidden(text_of(error), "chain")


async def test_a_node_keeps_and_shows_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY_KEY", CANARY)
    data = tmp_path / "data"
    async with OpenAiFake() as fake:
        settings = {
            "llm": settings_of("openai_chat_completion", fake.url), "cache_dir": "off",
            "logging.level": "trace", "logging.file": str(tmp_path / "node.log"),
        }  # fmt: skip
        shown = []
        async with spear.Spearlet.open(str(data), settings) as node:
            for form in FORMS.values():
                fake.script(Step(status=500, error=form))
                with pytest.raises(ModelError) as caught:
                    await node.test_model("b")
                shown.append(text_of(caught.value))
            shown += [repr(await node.models()), repr(await node.stats()), repr(await node.info())]
            assert fake.requests[-1].headers["authorization"].removeprefix("Bearer ") == CANARY
        assert_hidden("\n".join(shown), "the node's answers")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"model failed" in path.read_bytes() for path in files)
    for path in files:
        assert_hidden(path.read_bytes(), str(path))


async def test_an_agent_sees_and_leaves_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its documents, its log, its record, and all files of the node."""
    monkeypatch.setenv("CANARY_KEY", CANARY)
    data, talk = tmp_path / "data", ("m=hello", "s=0", "s=3", "r=0", 'e={"input":"x"}')
    async with OpenAiFake() as fake:
        settings = {
            "llm": settings_of("openai_chat_completion", fake.url), "cache_dir": "off",
            "logging.level": "trace", "logging.file": str(tmp_path / "node.log"),
        }  # fmt: skip
        async with spear.Spearlet.open(str(data), settings) as node:
            artifact = await node.put_artifact(guest_bytes("talker"))
            task = TaskSpec(name="talker", artifact=artifact.digest, args=talk)
            for name, form in FORMS.items():
                fake.script(*(Step(status=400, error=form) for _ in talk[1:]))
                run = await node.invoke(task)
                lines = [line async for batch in node.logs(run.id) for line in batch]
                assert run.completed, run.error
                assert run.output.count(b"[redacted:") >= len(talk) - 1
                assert sum("[redacted:" in line.message for line in lines) >= len(talk) - 1
                assert_hidden(run.output, f"documents, {name}")
                assert_hidden(repr(lines), f"log, {name}")
                assert_hidden(repr(run), f"record, {name}")
                assert_hidden(repr(await node.execution(run.id)), f"kept record, {name}")
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert_hidden(path.read_bytes(), str(path))


async def test_an_answer_that_repeats_the_key_leaves_none_in_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest has it as it came, and prints it; its result and all files have asterisks."""
    monkeypatch.setenv("CANARY_KEY", CANARY)
    async with OpenAiFake() as fake:
        settings = {"llm": settings_of("openai_chat_completion", fake.url), "cache_dir": "off"}
        async with spear.Spearlet.open(str(tmp_path), settings) as node:
            artifact = await node.put_artifact(guest_bytes("talker"))
            task = TaskSpec(name="talker", artifact=artifact.digest, args=("m=hello", "s=0"))
            for name, form in FORMS.items():
                fake.script(Step(text=f"my key is {form}"))
                run = await node.invoke(task)
                assert run.completed, run.error
                assert name != "plain" or b"my key is ********" in run.output
                assert_hidden(run.output, f"result, {name}")
                assert_hidden(repr(await node.execution(run.id)), f"kept record, {name}")
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert_hidden(path.read_bytes(), str(path))


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_a_guest_logs_is_shown_without_the_key(
    streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that says the key has it in the output, as it came, and in no line of the log."""
    monkeypatch.setenv("CANARY_KEY", CANARY)
    async with OpenAiFake(Step(text=f"my key is {CANARY}")) as fake:
        settings = {"llm": settings_of("openai_chat_completion", fake.url), "cache_dir": "off"}
        async with spear.Spearlet(settings) as node:
            words = ["m=hello", "r=0" if streamed else "s=0", "s=0"]
            handle = await node.start(guest_bytes("talker"), args=words)
            lines = [line async for progress in handle.follow() for line in progress.logs]
            run = await handle
    assert run.completed, run.error
    assert json.dumps(CANARY)[1:-1].encode() in run.output
    assert len(lines) == run.output.count(b"\n")
    assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
    assert sum("[redacted:CANARY_KEY]" in line.message for line in lines) >= 2
    assert {(line.stream, line.level) for line in lines} == {("stdout", 2)}
    assert_hidden(repr([line.message for line in lines]), "log")


@asynccontextmanager
async def nobody(*_: object) -> AsyncIterator[Any]:
    class Absent:
        def __getattr__(self, _: str) -> Callable[..., Any]:
            async def call(*_: object, **__: object) -> None:
                raise Unreachable("none runs here")

            return call

    yield Absent()


@pytest.mark.parametrize("output", ["table", "json"])
def test_the_command_prints_no_key(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:  # fmt: skip
    for setting in configuration.SETTINGS:
        monkeypatch.delenv(setting.environment, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CANARY_KEY", CANARY)
    monkeypatch.chdir(tmp_path)
    with _FakeElsewhere() as fake:
        add = ("model", "add", "b", "--kind", "openai_chat_completion", "--base-url", fake.url,
               "--model", "m", "--key-env", "CANARY_KEY")  # fmt: skip
        assert tree.invoke(add, dial=nobody) == 0  # type: ignore[arg-type]
        codes = []
        for words in (["config", "show"], ["doctor"], ["model", "ls"], ["model", "test", "b"]):
            dial: Any = nobody
            codes.append(tree.invoke([*words, "--output", output], dial=dial))
        agent = tmp_path / "talker.wasm"
        agent.write_bytes(guest_bytes("talker"))
        shown = ["--output", "json"] if output == "json" else []
        codes.append(run.main([str(agent), *shown, "--", "m=hello", "s=0", "r=0"]))
    out, err = capfdbinary.readouterr()
    assert codes[0] == codes[2] == 0
    assert codes[3] == 1
    assert codes[4] == 0
    assert (out + err).count(b"upstream status: 500: server_error: [redacted:") >= 4
    assert b"upstream status: 500" in out + err
    assert_hidden(out, "stdout")
    assert_hidden(err, "stderr")
    assert_hidden((tmp_path / ".spear" / "config.toml").read_bytes(), "the file")
    assert os.environ["CANARY_KEY"] == CANARY


class _FakeElsewhere:
    """An upstream on a loop in a thread, which echoes the key in all disguises at once."""

    def __enter__(self) -> _FakeElsewhere:
        import asyncio
        import threading

        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._fake = OpenAiFake(Step(status=500, error=" ".join(FORMS.values())))
        asyncio.run_coroutine_threadsafe(self._fake.start(), self._loop).result(30)
        self.url = self._fake.url
        return self

    def __exit__(self, *_: object) -> None:
        import asyncio

        asyncio.run_coroutine_threadsafe(self._fake.stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

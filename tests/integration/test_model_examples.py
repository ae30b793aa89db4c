"""The examples that use models do what their READMEs say: by the stub, and over HTTP by fakes of
each API, with their faults.

The rule: each runs as it is committed; what the backend was asked is looked at as well.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from chat_node import ChatNode, chat_node, openai, stub
from fakes.openai import OpenAiFake
from fakes.server import Fake
from fakes.step import HANG_BEFORE, HANG_WITHIN, Call, Step
from model_apis import APIS, every_api
from scripted_backends import Lines

from spear.clock import Clock
from spear.config_llm import BackendSettings, LlmSettings
from spear.errors import ModelTimeout, NoBackend
from spear.hostcalls.llm.building import models_of
from spear.hostcalls.llm.models import Models
from spear.telemetry.jsonlog import open_log
from spear.telemetry.redact import Redactor

QUESTION = "What do 3 pieces of article 2 cost?"


async def shown(node: ChatNode, name: str, *args: str) -> tuple[int, str, str]:
    """Exit code, output, and the log with stderr."""
    run = node.start(name, *args)
    outcome = await run
    assert outcome.cause == "exit"
    log = "\n".join(line.message for line in run.read_logs() if line.stream != "stdout")
    return outcome.exit_code, run.output.decode(), log


def texts(fake: Fake, at: int = -1) -> list[str]:
    return [str(message["content"]) for message in fake.requests[at].document["messages"]]


async def test_without_a_backend_of_ones_own_the_stub_answers() -> None:
    async with chat_node(stub()) as node:
        assert await shown(node, "chat", "What is a fiber?") == (
            0, "stub chat completion\n", "answered by stub, model stub"
        )  # fmt: skip
        code, output, log = await shown(node, "tool_calling")
        assert (code, output) == (0, "stub chat completion after tool\n")
        assert log == (
            'tool price({"pieces":3,"article":2}) gives {"article":"notebook","usd":"10.50"}'
        )
        code, output, _ = await shown(node, "streaming", "one question")
        assert (code, output) == (0, "stub chat completion\n")


@every_api
async def test_one_question_is_asked_over_each_api(api: str) -> None:
    async with APIS[api].fake() as fake, chat_node(APIS[api].settings(fake.url)) as node:
        code, output, log = await shown(node, "chat", 'Say "\u00e9\n".')
        assert (code, output) == (0, 'You said: Say "\u00e9\n".\n')
        assert log == "answered by fake, model m"
        assert texts(fake) == ['Say "\u00e9\n".']


@every_api
async def test_the_tool_runs_in_the_agent_over_each_api(api: str) -> None:
    async with APIS[api].fake() as fake, chat_node(APIS[api].settings(fake.url)) as node:
        fake.script(
            Step(calls=(Call("price", {"pieces": 3, "article": 2}),)), Step(text="It is $10.50.")
        )
        code, output, log = await shown(node, "tool_calling", QUESTION)
        assert (code, output) == (0, "It is $10.50.\n")
        assert '"usd":"10.50"' in log
        assert "10.50" in json.dumps(fake.requests[-1].document["messages"][-1])


async def test_a_tool_refuses_what_a_model_makes_up() -> None:
    async with OpenAiFake() as fake, chat_node(openai(fake.url)) as node:
        for pieces, article in ((0, 1), (1001, 1), (1, 0), (1, 4), ("3", 2), (2**63, 1)):
            arguments = {"pieces": pieces, "article": article}
            fake.script(Step(calls=(Call("price", arguments),)), Step(text="Sorry."))
            assert (await shown(node, "tool_calling", QUESTION))[:2] == (0, "Sorry.\n")
            assert '{"error":"pieces are 1 to 1000' in texts(fake)[-1]


@every_api
async def test_pieces_are_printed_as_they_come_over_each_api(api: str) -> None:
    async with APIS[api].fake() as fake, chat_node(APIS[api].settings(fake.url)) as node:
        code, output, _ = await shown(node, "streaming", "one two three")
        assert (code, output) == (0, "You said: one two three\n")
        code, output, log = await shown(node, "streaming", "left", "right")
        assert code == 0
        said = {"1": "", "2": ""}
        for line in output.splitlines():
            said[line[1]] += line[4:]
        assert said == {"1": "You said: left", "2": "You said: right"}
        assert sorted(log.splitlines()) == ["answer 1 is whole", "answer 2 is whole"]


async def test_streaming_without_a_question_says_how_it_is_used() -> None:
    async with chat_node(stub()) as node:
        code, output, log = await shown(node, "streaming")
        assert (code, output) == (2, "")
        assert log.startswith("usage: streaming QUESTION ...")


@every_api
async def test_what_fails_is_said_and_ends_with_1(api: str) -> None:
    async with APIS[api].fake() as fake, chat_node(APIS[api].settings(fake.url)) as node:
        fake.default = Step(status=401, error="no such key")
        for name in ("chat", "tool_calling", "streaming"):
            code, output, log = await shown(node, name, QUESTION)
            assert (code, output) == (1, "")
            assert "upstream status: 401" in log
        fake.default = Step(text="a b c d e f", drop=True)
        code, output, log = await shown(node, "streaming", "cut off")
        assert code == 1
        assert "a b c d e f".startswith(output.strip())
        assert '"type":"error"' in log


async def test_other_questions_go_on_where_one_fails() -> None:
    async with OpenAiFake() as fake, chat_node(openai(fake.url)) as node:
        fake.script(Step(status=401, error="not you"))
        code, output, log = await shown(node, "streaming", "first", "second")
        assert code == 1
        assert output.count("You said: ") == 1
        assert sorted(part[:8] for part in log.splitlines() if "not you" in part) == [
            "cchat_st", "question"
        ]  # fmt: skip


async def test_an_answer_over_64_kib_is_read_whole_by_the_alloc_calls() -> None:
    words = "word " * 40_000
    async with OpenAiFake() as fake, chat_node(openai(fake.url, model="small")) as node:
        fake.script(
            Step(calls=(Call("sum", {"a": 4, "b": 5}),)), Step(text=words), Step(text="short")
        )
        code, output, _ = await shown(node, "chatter", "long")
        assert code == 0
        first, metrics = output.splitlines()
        size, length, start = first.split(" ", 2)
        assert size == length
        assert int(size) > len(words)
        assert start.startswith('{"id":"chatcmpl-fake"')
        assert texts(fake, 1)[-1] == "9"  # the tool's sum of the digits
        assert json.loads(metrics)["total_tokens"] == 18


def models_over(*backends: BackendSettings) -> Models:
    clock, redactor = Clock(), Redactor()
    return models_of(
        LlmSettings(backends=backends), environ={}, clock=clock,
        log=open_log(Lines(), clock, redactor), redactor=redactor,
    )  # fmt: skip


async def test_a_backend_without_a_model_of_its_own_is_tried_with_one() -> None:
    async with OpenAiFake() as fake:
        models = models_over(openai(fake.url, model=""))
        with pytest.raises(NoBackend, match="has no model of its own"):
            await models.test("fake")
        assert (await models.test("fake", "hi", model="small")).answer == "You said: hi"
        assert fake.requests[-1].document["model"] == "small"
        await models.close()


@every_api
@pytest.mark.parametrize("hang", [HANG_BEFORE, HANG_WITHIN])
async def test_a_trial_of_a_backend_that_hangs_ends_in_its_time(api: str, hang: str) -> None:
    """By the backend itself, that says it keeps its time: nothing cuts it off from outside."""
    async with APIS[api].fake() as fake:
        fake.script(Step(hang=hang))
        models = models_over(APIS[api].settings(fake.url))
        async with asyncio.timeout(30):  # of a hang for ever
            with pytest.raises(ModelTimeout):
                await models.test("fake", timeout_ns=200 * 10**6)
            await fake.wait_gone(1)  # its connection is not kept for a reply that may come
        await models.close()


def test_the_readmes_name_only_files_that_are_there() -> None:
    root = Path(__file__).resolve().parents[2]
    for name in ("chat", "tool_calling", "streaming", "team", "retrieval"):
        words = (root / "examples" / name / "README.md").read_text().split()
        named = [word for word in words if word.startswith("examples/")]
        assert named
        assert all((root / word).is_file() for word in named), named

"""Router filters: a Python function and a gRPC service, by one interface, through Models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import msgspec
import pytest
from scripted_backends import Stage, answer, chat
from virtual_time import VirtualClock, run

from spear.clock import Clock, Ids
from spear.config_llm import BackendSettings, FilterSettings, LlmSettings
from spear.errors import ModelRefused, ModelUnavailable, NoBackend
from spear.hostcalls.llm.choice.filter.decider import Question
from spear.hostcalls.llm.choice.filter.messages import request_of
from spear.hostcalls.llm.choice.filter.service import PATH, FilterService
from spear.hostcalls.llm.choice.routing import Decision, Need, Verdict
from spear.hostcalls.llm.request import EmbedRequest
from spear.protocol.pb.spearlet import router_filter_pb2 as pb
from spear.records.models import BackendSpec

CLOCK = VirtualClock()
PROMPT = "a prompt that is nobody's business"


def settings(names: str, **filter: Any) -> LlmSettings:
    return LlmSettings(
        backends=tuple(
            BackendSettings(
                spec=BackendSpec(name=name, kind="stub", hosting="remote", model="m", priority=9,
                                 features=("supports_tools",),
                                 ops=("chat_completions", "embeddings"))
            )
            for name in names
        ),
        filter=FilterSettings(**filter),
        retries=0,
    )  # fmt: skip


def staged(hook: Callable[[Question], Any], clock: Clock = CLOCK, **filter: Any) -> Stage:
    return Stage(clock, {}, llm=settings("ab", **filter), filter=hook)


def test_a_function_says_who_answers() -> None:
    async def main() -> None:
        asked = []

        def hook(question: Question) -> Verdict:
            asked.append(question)
            return Verdict(decisions={"a": Decision(keep=False)})

        stage = staged(hook)
        assert (await stage.models.chat(chat(request_id="r1"))).backend == "b"
        (question,) = asked
        assert (question.request_id, question.message_count, question.text_bytes) == ("r1", 1, 5)
        assert [one.spec.name for one in question.candidates] == ["a", "b"]
        assert (question.payload, question.timeout_ms) == (b"", 500)
        await stage.models.embed(EmbedRequest(texts=["x"]))
        assert asked[-1].need.operation == "embeddings"

    run(main())


def test_an_async_function_may_move_priorities_and_force_a_backend() -> None:
    async def main() -> None:
        verdict = Verdict(decisions={"b": Decision(priority=10)})

        async def hook(_: Question) -> Verdict:
            await asyncio.sleep(0.1)
            return verdict

        stage = staged(hook)
        for _ in range(5):
            assert (await stage.models.chat(chat())).backend == "b"
        verdict = Verdict(backend="a")
        assert (await stage.models.chat(chat())).backend == "a"
        verdict = Verdict(backend="zz")
        with pytest.raises(NoBackend, match="'a' is not 'zz', which the router filter wants"):
            await stage.models.chat(chat())
        verdict = Verdict(rejected=True, code="policy", message="not this")
        with pytest.raises(ModelRefused, match="not this") as caught:
            await stage.models.chat(chat())
        assert caught.value.code == "policy"

    run(main())


async def slow(_: Question) -> Verdict:
    await asyncio.sleep(5)
    return Verdict()


def broken(_: Question) -> Verdict:
    raise ZeroDivisionError("a bug")


def wrong(_: Question) -> Any:
    return True


@pytest.mark.parametrize("hook", [slow, broken, wrong])
def test_a_filter_that_fails_refuses_unless_it_is_told_otherwise(hook: Any) -> None:
    async def main() -> None:
        stage = staged(hook)
        for _ in range(3):
            with pytest.raises(ModelUnavailable, match=r"on_failure is refuse") as caught:
                await stage.models.chat(chat(deadline_ns=CLOCK.monotonic_ns() + 60 * 10**9))
            assert caught.value.code == "filter_failed"
        assert stage.asked == []
        stage.log.flush()
        assert stage.lines.text.count("the router filter fails") == 1
        stage = staged(hook, on_failure="allow")
        assert (await stage.models.chat(chat())).backend in "ab"

    run(main())


def test_messages_are_shown_only_where_configured() -> None:
    async def main() -> None:
        seen = []

        def hook(question: Question) -> Verdict:
            seen.append(msgspec.json.encode(question))
            return Verdict()

        for content in (False, True):
            stage = staged(hook, content=content)
            request = msgspec.structs.replace(
                chat(), messages=[{"role": "user", "content": PROMPT}]
            )
            await stage.models.chat(request)
        assert PROMPT.encode() not in seen[0]
        payload = msgspec.json.decode(seen[1], type=Question).payload
        assert msgspec.json.decode(payload)["messages"][0]["content"] == PROMPT

    run(main())


class Service:
    """A filter as another process would serve it."""

    def __init__(self) -> None:
        self.requests: list[pb.FilterRequest] = []
        self.response = pb.FilterResponse()
        self.delay_s = 0.0
        self.echoes = True

    async def answer(self, request: pb.FilterRequest, _: Any) -> pb.FilterResponse:
        self.requests.append(request)
        await asyncio.sleep(self.delay_s)
        response = pb.FilterResponse()
        response.CopyFrom(self.response)
        if self.echoes:
            response.correlation_id = request.correlation_id
        return response


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[str]:
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    handler = grpc.unary_unary_rpc_method_handler(
        service.answer,
        request_deserializer=pb.FilterRequest.FromString,
        response_serializer=pb.FilterResponse.SerializeToString,
    )
    name, method = PATH[1:].split("/")
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, {method: handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


def over(address: str, **filter: Any) -> Stage:
    clock = Clock()
    filter = {"timeout_ns": 30 * 10**9, **filter}
    return Stage(clock, {"a": [answer(0)], "b": [answer(0)]}, llm=settings("ab", **filter),
                 service=FilterService(address, Ids(clock)))  # fmt: skip


async def test_a_service_gets_the_candidates_and_its_verdict_holds() -> None:
    service = Service()
    service.response = pb.FilterResponse(
        decisions=[
            pb.CandidateDecision(name="a", action=pb.DECISION_ACTION_DROP, reason_codes=["cost"]),
            pb.CandidateDecision(name="b", action=pb.DECISION_ACTION_KEEP, weight_override=3),
        ]
    )
    async with serving(service) as address:
        stage = over(address)
        tools = [{"type": "function", "function": {"name": "f"}}]
        assert (
            await stage.models.chat(chat(tools=tools, model="m", request_id="r"))
        ).backend == "b"
        (request,) = service.requests
        assert request.operation == pb.OPERATION_CHAT_COMPLETIONS
        assert (request.request_id, request.decision_timeout_ms) == ("r", 30_000)
        assert request.routing.requested_model == "m"
        assert list(request.requirements.required_features) == ["supports_tools"]
        assert request.signals.uses_tools
        assert [one.name for one in request.candidates] == ["a", "b"]
        assert request.candidates[0].priority == 9
        assert not request.candidates[0].is_local
        assert request.candidates[0].runtime.healthy
        service.response = pb.FilterResponse(
            final_action=pb.FinalAction(reject_request=True, reject_code="no", reject_message="m")
        )
        with pytest.raises(ModelRefused, match="refused the request: m") as caught:
            await stage.models.chat(chat())
        assert caught.value.code == "no"
        await stage.models.close()


async def test_what_a_service_says_wrongly_is_a_filter_that_failed() -> None:
    service = Service()
    async with serving(service) as address:
        stage = over(address)
        service.echoes = False
        service.response = pb.FilterResponse(correlation_id="of another")
        with pytest.raises(ModelUnavailable):
            await stage.models.chat(chat())
        service.echoes = True
        decision = pb.CandidateDecision(name="a", score=float("nan"))
        service.response = pb.FilterResponse(decisions=[decision])
        with pytest.raises(ModelUnavailable):
            await stage.models.chat(chat())
        service.response = pb.FilterResponse()
        await stage.models.chat(chat())
        await stage.models.close()


async def test_a_service_that_is_slow_or_gone_is_a_filter_that_failed() -> None:
    service = Service()
    service.delay_s = 3600
    async with serving(service) as address:
        stage = over(address, timeout_ns=50 * 10**6)
        with pytest.raises(ModelUnavailable, match="on_failure"):
            await stage.models.chat(chat())
        await stage.models.close()
    stage = over(address, on_failure="allow", timeout_ns=2 * 10**9)
    assert (await stage.models.chat(chat())).backend in "ab"
    await stage.models.close()


def test_every_operation_has_its_number() -> None:
    for name, number in pb.Operation.items():
        if number:
            operation = name.removeprefix("OPERATION_").lower()
            need = Need(operation=operation)
            made = request_of(Question(request_id="", need=need, candidates=()), "c")
            assert made.operation == number

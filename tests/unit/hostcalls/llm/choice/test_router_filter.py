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
from spear.hostcalls.llm.choice.filter.decider import Question, Running
from spear.hostcalls.llm.choice.filter.messages import request_of, verdict_of
from spear.hostcalls.llm.choice.filter.service import PATH, FilterService
from spear.hostcalls.llm.choice.routing import Candidate, Decision, Need, Verdict
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


def saying(**said: Any) -> Callable[[Question], Verdict]:
    return lambda _: Verdict(decisions={"a": Decision(**said)})


@pytest.mark.parametrize(
    "hook",
    [
        slow, broken, wrong, saying(weight=-5), saying(weight="5"), saying(score=float("nan")),
        saying(priority=0.5), saying(reasons=7), lambda _: Verdict(rejected=True, code=5),
    ],
)  # fmt: skip
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


def test_a_service_is_told_all_of_the_question_and_nothing_that_is_not_so() -> None:
    spec = BackendSpec(
        name="a", kind="ollama_chat", hosting="local", base_url="http://h:1/v1", model="m",
        priority=-3, weight=7, ops=("chat_completions",), features=("supports_tools",),
        transports=("http",), credential_ref="SECRET",
    )  # fmt: skip
    need = Need(
        operation="chat_completions", features=("supports_tools", "supports_json_schema"),
        transports=("http", "in_process"), allowed=("a", "b*"), backend="a", model="m",
    )  # fmt: skip
    question = Question(
        request_id="r", need=need, candidates=(Candidate(spec=spec, healthy=False),),
        running={"a": Running(latency_ms=1.5, error_rate=0.25, in_flight=3)}, timeout_ms=500,
        message_count=2, text_bytes=1 << 33, uses_tools=True, uses_json_schema=True,
        payload=b"{}",
    )  # fmt: skip
    assert request_of(question, "c") == pb.FilterRequest(
        correlation_id="c",
        request_id="r",
        operation=pb.OPERATION_CHAT_COMPLETIONS,
        decision_timeout_ms=500,
        routing=pb.RoutingHints(backend="a", allowlist=["a", "b*"], requested_model="m"),
        requirements=pb.Requirements(
            required_features=["supports_tools", "supports_json_schema"], required_transports=[]
        ),
        signals=pb.RequestSignals(
            model="m", message_count=2, approx_text_bytes=(1 << 32) - 1, uses_tools=True,
            uses_json_schema=True,
        ),
        candidates=[
            pb.Candidate(
                name="a", kind="ollama_chat", base_url="http://h:1/v1", model="m", weight=7,
                priority=-3, ops=["chat_completions"], features=["supports_tools"],
                transports=["http"], is_local=True,
                runtime=pb.CandidateRuntimeHints(
                    ewma_latency_ms=1.5, recent_error_rate=0.25, inflight=3, healthy=False
                ),
            )
        ],
        request_content_type="application/json",
        request_payload=b"{}",
    )  # fmt: skip


def test_without_content_a_service_is_told_of_no_payload() -> None:
    need = Need(operation="embeddings")
    made = request_of(Question(request_id="r", need=need, candidates=()), "c")
    assert (made.request_content_type, made.request_payload) == ("", b"")


KEEP = pb.DECISION_ACTION_KEEP
DROP_B = pb.CandidateDecision(name="b", action=pb.DECISION_ACTION_DROP)
RESPONSES = {  # each has "a" answer, every time; of "a" and "b" all else is equal
    "drop": pb.FilterResponse(decisions=[DROP_B]),
    "force_backend": pb.FilterResponse(final_action=pb.FinalAction(force_backend="a")),
    "priority_override": pb.FilterResponse(
        decisions=[pb.CandidateDecision(name="a", action=KEEP, priority_override=10)]
    ),
    "a lower priority_override": pb.FilterResponse(
        decisions=[pb.CandidateDecision(name="b", action=KEEP, priority_override=0)]
    ),
    "weight_override of 0": pb.FilterResponse(
        decisions=[pb.CandidateDecision(name="b", action=KEEP, weight_override=0)]
    ),
    "score": pb.FilterResponse(
        decisions=[
            pb.CandidateDecision(name="a", action=KEEP, score=0.5),
            pb.CandidateDecision(name="b", action=KEEP, score=-0.5),
        ]
    ),
    "a score goes first": pb.FilterResponse(
        decisions=[pb.CandidateDecision(name="a", action=KEEP, score=0.001)]
    ),
    "the priority counts more than the score": pb.FilterResponse(
        decisions=[
            pb.CandidateDecision(name="a", action=KEEP, priority_override=10),
            pb.CandidateDecision(name="b", action=KEEP, score=99),
        ]
    ),
}


@pytest.mark.parametrize("field", RESPONSES)
def test_each_field_of_a_verdict_has_its_effect(field: str) -> None:
    verdict = verdict_of(RESPONSES[field], "c")

    async def main() -> list[str]:
        stage = staged(lambda _: verdict)
        return [(await stage.models.chat(chat())).backend for _ in range(20)]

    assert run(main()) == ["a"] * 20


def test_a_verdict_has_all_that_the_response_says() -> None:
    response = pb.FilterResponse(
        decisions=[
            pb.CandidateDecision(name="a", action=KEEP, weight_override=3, priority_override=-1,
                                 score=0.5, reason_codes=["near"]),
            DROP_B,
        ],
        final_action=pb.FinalAction(
            force_backend="a", reject_request=True, reject_code="c", reject_message="m"
        ),
    )  # fmt: skip
    assert verdict_of(response, "c") == Verdict(
        decisions={
            "a": Decision(weight=3, priority=-1, score=0.5, reasons=("near",)),
            "b": Decision(keep=False),
        },
        backend="a", rejected=True, code="c", message="m",
    )  # fmt: skip


def test_a_filter_is_told_what_the_request_says_and_how_each_backend_does() -> None:
    async def main() -> None:
        asked: list[Question] = []

        def hook(question: Question) -> Verdict:
            asked.append(question)
            return Verdict()

        stage = Stage(CLOCK, {"a": [answer(5)], "b": [answer(5)]}, llm=settings("ab"), filter=hook)
        first = asyncio.create_task(stage.models.chat(chat(backend="a")))
        await asyncio.sleep(1)
        await stage.models.chat(chat(backend="a", allowed=("a", "b"), model="m"))
        await first
        assert asked[1].need.backend == "a"
        assert asked[1].need.allowed == ("a", "b")
        assert asked[1].running["a"].in_flight == 1
        made = request_of(asked[1], "c")
        assert made.candidates[0].runtime.inflight == 1
        assert (made.routing.backend, list(made.routing.allowlist)) == ("a", ["a", "b"])

    run(main())


def test_every_operation_has_its_number() -> None:
    for name, number in pb.Operation.items():
        if number:
            operation = name.removeprefix("OPERATION_").lower()
            need = Need(operation=operation)
            made = request_of(Question(request_id="", need=need, candidates=()), "c")
            assert made.operation == number

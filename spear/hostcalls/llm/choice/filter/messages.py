"""Questions to a router filter and its verdicts, as the messages of `RouterFilterService`.

The rule: what a filter answers is data from outside: bounded, and what makes no sense (another
correlation, a score that is no number) is a filter that failed.
"""

from __future__ import annotations

import math

from spear.errors import ModelGarbled
from spear.hostcalls.llm.choice.filter.decider import Question, Running
from spear.hostcalls.llm.choice.routing import Candidate, Decision, Verdict
from spear.protocol.pb.spearlet import router_filter_pb2 as pb
from spear.records.models import LOCAL

_OPERATIONS = {
    name: number
    for number, name in enumerate(
        ("chat_completions", "embeddings", "image_generation", "speech_to_text", "text_to_speech",
         "realtime_voice"), start=1,
    )
}  # fmt: skip
_UINT32_MAX = (1 << 32) - 1
_TEXT_MAX = 500


def request_of(question: Question, correlation_id: str) -> pb.FilterRequest:
    need = question.need
    return pb.FilterRequest(
        correlation_id=correlation_id,
        request_id=question.request_id,
        operation=pb.Operation.Name(_OPERATIONS.get(need.operation, 0)),
        decision_timeout_ms=question.timeout_ms,
        routing=pb.RoutingHints(
            backend=need.backend, allowlist=need.allowed, requested_model=need.model
        ),
        # No transport is required: any one that a request may take does, and all in that list would
        # have to be there.
        requirements=pb.Requirements(required_features=need.features),
        signals=pb.RequestSignals(
            model=need.model,
            message_count=question.message_count,
            approx_text_bytes=min(question.text_bytes, _UINT32_MAX),
            uses_tools=question.uses_tools,
            uses_json_schema=question.uses_json_schema,
        ),
        candidates=[_candidate(one, question.running) for one in question.candidates],
        request_content_type="application/json" if question.payload else "",
        request_payload=question.payload,
    )


def verdict_of(response: pb.FilterResponse, correlation_id: str) -> Verdict:
    """Raises ModelGarbled."""
    if response.correlation_id not in ("", correlation_id):
        raise ModelGarbled("the router filter answered another question")
    final = response.final_action
    return Verdict(
        decisions={one.name: _decision(one) for one in response.decisions},
        backend=final.force_backend,
        rejected=final.reject_request,
        code=final.reject_code[:_TEXT_MAX],
        message=final.reject_message[:_TEXT_MAX],
    )


def _candidate(one: Candidate, running: dict[str, Running]) -> pb.Candidate:
    spec = one.spec
    does = running.get(spec.name, Running())
    return pb.Candidate(
        name=spec.name,
        kind=spec.kind,
        base_url=spec.base_url,
        model=spec.model,
        weight=spec.weight,
        priority=spec.priority,
        ops=spec.ops,
        features=spec.features,
        transports=spec.transports,
        is_local=spec.hosting == LOCAL,
        runtime=pb.CandidateRuntimeHints(
            ewma_latency_ms=does.latency_ms,
            recent_error_rate=does.error_rate,
            inflight=does.in_flight,
            healthy=one.healthy,
        ),
    )


def _decision(one: pb.CandidateDecision) -> Decision:
    if not math.isfinite(one.score):
        raise ModelGarbled("the router filter gave a score that is no number")
    return Decision(
        keep=one.action != pb.DECISION_ACTION_DROP,
        weight=one.weight_override if one.HasField("weight_override") else None,
        priority=one.priority_override if one.HasField("priority_override") else None,
        score=one.score,
        reasons=tuple(reason[:_TEXT_MAX] for reason in one.reason_codes[:8]),
    )

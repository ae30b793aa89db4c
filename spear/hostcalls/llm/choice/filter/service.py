"""A router filter that is a gRPC service: one call a request, on one channel.

The rule: gRPC is imported with the first question, so that who has no filter never waits for it.
Whatever goes wrong is raised: what then happens is the Decider's to say.
"""

from __future__ import annotations

from spear.hostcalls.llm.choice.filter.messages import request_of, verdict_of
from spear.protocol.pb.spearlet import router_filter_pb2 as pb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spear.clock import Ids
    from spear.hostcalls.llm.choice.filter.decider import Question
    from spear.hostcalls.llm.choice.routing import Verdict

PATH = "/spearlet.RouterFilterService/Filter"
_ANSWER_BYTES_MAX = 1 << 20
_OPTIONS = (
    ("grpc.max_receive_message_length", _ANSWER_BYTES_MAX),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
)


class FilterService:
    """At HOST:PORT. Call it with a Question."""

    def __init__(self, address: str, ids: Ids) -> None:
        self._address, self._ids = address, ids
        self._channel: Any = None
        self._call: Any = None

    async def __call__(self, question: Question) -> Verdict:
        if self._call is None:
            self._connect()
        correlation_id = self._ids.next()
        timeout_s = question.timeout_ms / 1e3 or None
        response = await self._call(request_of(question, correlation_id), timeout=timeout_s)
        return verdict_of(response, correlation_id)

    def _connect(self) -> None:
        import grpc.aio

        self._channel = grpc.aio.insecure_channel(self._address, options=_OPTIONS)
        self._call = self._channel.unary_unary(
            PATH,
            request_serializer=pb.FilterRequest.SerializeToString,
            response_deserializer=pb.FilterResponse.FromString,
        )

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()

"""A backend that is reached over HTTP, in whichever dialect.

The rule: one POST a call; every failure leaves as a ModelError kind with the backend's name, and
what an upstream says of its error is told in one bounded line, without the credential should it
repeat it.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec

from spear.errors import ModelError, ModelGarbled, ModelRefused, ModelTimeout
from spear.hostcalls.llm.backends.answers import (
    at,
    count_at,
    decode,
    error_of,
    failure,
    objects_at,
    text_at,
)
from spear.hostcalls.llm.http.client import ANSWER_BYTES_MAX
from spear.hostcalls.llm.request import Delta, Reply
from spear.records.usage import Usage
from spear.telemetry.redact import Redactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from contextlib import AbstractAsyncContextManager

    from spear.clock import Clock
    from spear.hostcalls.llm.backends.dialect import Dialect
    from spear.hostcalls.llm.http.client import Exchange, HttpClient
    from spear.hostcalls.llm.request import ChatRequest, EmbedRequest
    from spear.records.models import BackendSpec

PROBE_NS = 5 * 10**9
STREAM_BYTES_MAX = 16 * ANSWER_BYTES_MAX  # of what carries an answer of ANSWER_BYTES_MAX in pieces
SAID_MAX = 1000  # characters of an error
_ALIVE = frozenset((404, 405))  # a server that answers, and has not what was looked for


class HttpBackend:
    """`credential` is the secret in the client's headers."""

    def __init__(
        self, spec: BackendSpec, clock: Clock, dialect: Dialect, http: HttpClient, credential: str
    ) -> None:
        self.spec, self._clock, self._dialect = spec, clock, dialect
        self._http, self._redactor = http, Redactor()
        self._redactor.learn(f"key of {spec.name}", credential)

    async def chat(self, request: ChatRequest, model: str) -> Reply:
        began_ns = self._clock.monotonic_ns()
        with self._blamed():
            document = self._document(request, model)
            async with self._post(self._dialect.chat_path, document, request) as exchange:
                answer = decode(await exchange.body())
            body = self._dialect.completion(answer, request, self._now_s())
        return self._reply(request, model, body, began_ns)

    async def stream(self, request: ChatRequest, model: str) -> AsyncGenerator[Delta | Reply, None]:
        began_ns = self._clock.monotonic_ns()
        dialect = self._dialect
        with self._blamed():
            document = dialect.streamed(self._document(request, model))
            answer = self._post(dialect.chat_path, document, request, STREAM_BYTES_MAX)
            async with answer as exchange:
                if self._in_pieces(exchange):
                    reader = dialect.reader(request, self._now_s())
                    while not reader.done and (data := await exchange.read()):
                        for delta in reader.feed(data):
                            yield delta
                    exchange.enough()
                    body = reader.body()
                else:
                    whole = decode(await exchange.body())
                    body = dialect.completion(whole, request, self._now_s())
                    yield _delta_of(body)
        yield self._reply(request, model, body, began_ns)

    async def embed(self, request: EmbedRequest, model: str) -> Reply:
        began_ns = self._clock.monotonic_ns()
        with self._blamed():
            if not self._dialect.embed_path:
                raise ModelRefused(f"kind {self.spec.kind} has no embeddings")
            if not request.texts:
                raise ModelRefused("empty input")
            document = self._dialect.embed(request, _named(model))
            async with self._post(self._dialect.embed_path, document, request) as exchange:
                body = self._dialect.embeddings(decode(await exchange.body()))
        return self._reply(request, model, body, began_ns)

    async def probe(self) -> None:
        deadline_ns = self._clock.monotonic_ns() + PROBE_NS
        with self._blamed():
            try:
                async with self._exchange(
                    "GET", self._dialect.probe_path, b"", deadline_ns, ANSWER_BYTES_MAX
                ) as exchange:
                    await exchange.body()
            except ModelError as error:
                if error.http_status not in _ALIVE:
                    raise

    async def close(self) -> None:
        await self._http.close()

    def _document(self, request: ChatRequest, model: str) -> dict[str, Any]:
        if not request.messages:
            raise ModelRefused("empty messages")
        return self._dialect.chat(request, _named(model))

    def _post(
        self, path: str, document: dict[str, Any], request: ChatRequest | EmbedRequest,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> AbstractAsyncContextManager[Exchange]:  # fmt: skip
        try:
            body = msgspec.json.encode(document)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise ModelRefused(f"the request is no JSON: {error}") from None
        return self._exchange("POST", path, body, request.deadline_ns, bytes_max)

    @asynccontextmanager
    async def _exchange(
        self, method: str, path: str, body: bytes, deadline_ns: int, bytes_max: int
    ) -> AsyncGenerator[Exchange, None]:
        """Its status is 2xx."""
        request = self._http.request(
            method, path, body, deadline_ns=deadline_ns, bytes_max=bytes_max
        )
        try:
            async with request as exchange:
                if not 200 <= exchange.status < 300:
                    raise await self._failure(exchange)
                yield exchange
        except ModelError as error:
            error.reached = request.begun
            raise

    async def _failure(self, exchange: Exchange) -> ModelError:
        try:
            said = error_of(decode(await exchange.body()))
        except ModelTimeout:
            raise
        except ModelError:  # the status says enough
            said = {}
        return failure(exchange.status, said, exchange.headers, self._clock.now_ns())

    def _in_pieces(self, exchange: Exchange) -> bool:
        """Raises ModelGarbled for what is neither a stream nor JSON."""
        found = exchange.headers.get("content-type", self._dialect.stream_type).lower()
        if found.startswith(self._dialect.stream_type):
            return True
        if found.startswith("application/json"):  # it streams not, or not this model
            return False
        raise ModelGarbled(f"the answer is {found}, not {self._dialect.stream_type}")

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        try:
            yield
        except ModelError as error:
            error.args = (self._shown(str(error)),)
            error.code, error.backend = self._shown(error.code), self.spec.name
            raise

    def _shown(self, text: str) -> str:
        text = self._redactor.text(text)  # before it is cut: half of a secret is not found
        cut = text if len(text) <= SAID_MAX else f"{text[:SAID_MAX]}..."
        return "".join(char if char.isprintable() else " " for char in cut)

    def _reply(
        self, request: ChatRequest | EmbedRequest, model: str, body: Any, began_ns: int
    ) -> Reply:
        used = at(body, "usage")
        usage = Usage(
            calls=1,
            prompt_tokens=count_at(used, "prompt_tokens"),
            completion_tokens=count_at(used, "completion_tokens"),
            model_ns=self._clock.monotonic_ns() - began_ns,
        )
        answered = text_at(body, "model") if isinstance(body, dict) else ""
        return Reply(
            body=body, backend=self.spec.name, model=request.model or answered or model, usage=usage
        )

    def _now_s(self) -> int:
        return self._clock.now_ns() // 10**9


def _named(model: str) -> str:
    if not model:
        raise ModelRefused("missing model")
    return model


def _delta_of(body: Any) -> Delta:
    """All of an answer that came whole."""
    message = at(next(iter(objects_at(body, "choices")), None), "message")
    calls = [{"index": n, **call} for n, call in enumerate(objects_at(message, "tool_calls"))]
    return Delta(content=text_at(message, "content"), tool_calls=calls or ())

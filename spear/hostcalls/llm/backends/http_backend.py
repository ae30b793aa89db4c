"""A backend that is reached over HTTP, in whichever dialect.

The rule: one POST a call; every failure leaves as a ModelError kind with the backend's name, and
what an upstream says of its error is told in one bounded line, without the credential should it
repeat it.
"""

from __future__ import annotations

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
    sound,
    text_at,
)
from spear.hostcalls.llm.http.client import ANSWER_BYTES_MAX
from spear.hostcalls.llm.request import Delta, Reply, outlet_of
from spear.records.usage import Usage
from spear.telemetry.redact import Redactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from spear._core.plainstream import PlainStream
    from spear.clock import Clock
    from spear.hostcalls.llm.backends.dialect import Dialect, StreamReader
    from spear.hostcalls.llm.http.client import Exchange, HttpClient
    from spear.hostcalls.llm.request import ChatRequest, Deliver, EmbedRequest
    from spear.records.models import BackendSpec

PROBE_NS = 5 * 10**9
STREAM_BYTES_MAX = 16 * ANSWER_BYTES_MAX  # of what carries an answer of ANSWER_BYTES_MAX in pieces
SAID_MAX = 1000  # characters of an error
_ALIVE = frozenset((404, 405))  # a server that answers, and has not what was looked for
_encode = msgspec.json.Encoder().encode


class HttpBackend:
    """`credential` is the secret in the client's headers."""

    keeps_time = True  # the client does

    def __init__(
        self, spec: BackendSpec, clock: Clock, dialect: Dialect, http: HttpClient, credential: str
    ) -> None:
        self.spec, self._clock, self._dialect = spec, clock, dialect
        self._http, self._redactor = http, Redactor()
        self._redactor.learn(f"key of {spec.name}", credential)

    async def chat(self, request: ChatRequest, model: str) -> Reply:
        began_ns = self._clock.monotonic_ns()
        try:
            document = self._document(request, model)
            answer = await self._answer(self._dialect.chat_path, document, request)
            body = self._dialect.completion(answer, request, self._now_s())
        except ModelError as error:
            self._blame(error)
            raise
        return self._reply(request, model, body, began_ns)

    async def stream(self, request: ChatRequest, model: str, deliver: Deliver) -> Reply:
        began_ns = self._clock.monotonic_ns()
        try:
            document = self._dialect.streamed(self._document(request, model))
            body = await self._streamed(document, request, deliver)
        except ModelError as error:
            self._blame(error)
            raise
        return self._reply(request, model, body, began_ns)

    async def embed(self, request: EmbedRequest, model: str) -> Reply:
        began_ns = self._clock.monotonic_ns()
        try:
            if not self._dialect.embed_path:
                raise ModelRefused(f"kind {self.spec.kind} has no embeddings")
            if not request.texts:
                raise ModelRefused("empty input")
            document = self._dialect.embed(request, _named(model))
            answer = await self._answer(self._dialect.embed_path, document, request)
            body = self._dialect.embeddings(answer)
            found = len(objects_at(body, "data"))
            if found != len(request.texts):
                raise ModelGarbled(f"{len(request.texts)} texts were sent, {found} vectors came")
        except ModelError as error:
            self._blame(error)
            raise
        return self._reply(request, model, body, began_ns)

    async def probe(self) -> None:
        deadline_ns = self._clock.monotonic_ns() + PROBE_NS
        try:
            async with self._http.request(
                "GET", self._dialect.probe_path, deadline_ns=deadline_ns
            ) as exchange:
                if not 200 <= exchange.status < 300:
                    raise await self._failure(exchange)
                await exchange.body()
        except ModelError as error:
            if error.http_status not in _ALIVE:
                self._blame(error)
                raise

    async def close(self) -> None:
        await self._http.close()

    def _document(self, request: ChatRequest, model: str) -> dict[str, Any]:
        if not request.messages:
            raise ModelRefused("empty messages")
        return self._dialect.chat(request, _named(model))

    async def _answer(
        self, path: str, document: dict[str, Any], request: ChatRequest | EmbedRequest
    ) -> Any:
        """All of it, decoded."""
        exchange = self._post(path, document, request)
        try:
            async with exchange:
                if not 200 <= exchange.status < 300:
                    raise await self._failure(exchange)
                return sound(decode(await exchange.body()))
        except ModelError as error:
            error.reached = exchange.begun
            raise

    async def _streamed(
        self, document: dict[str, Any], request: ChatRequest, deliver: Deliver
    ) -> Any:
        """The whole answer, whose pieces were handed on as they came."""
        dialect = self._dialect
        exchange = self._post(dialect.chat_path, document, request, STREAM_BYTES_MAX)
        try:
            async with exchange:
                if not 200 <= exchange.status < 300:
                    raise await self._failure(exchange)
                if self._in_pieces(exchange):
                    reader = dialect.reader(request, self._now_s())
                    await exchange.pour(_Pieces(reader, deliver))
                    exchange.enough()
                    return reader.body()
                whole = sound(decode(await exchange.body()))
                body = dialect.completion(whole, request, self._now_s())
                wait = deliver(_delta_of(body))
                if wait is not None:
                    await wait
                return body
        except ModelError as error:
            error.reached = exchange.begun
            raise

    def _post(
        self, path: str, document: dict[str, Any], request: ChatRequest | EmbedRequest,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> Exchange:  # fmt: skip
        try:
            body = _encode(document)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise ModelRefused(f"the request is no JSON: {error}") from None
        return self._http.request(
            "POST", path, body, deadline_ns=request.deadline_ns, bytes_max=bytes_max
        )

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

    def _blame(self, error: ModelError) -> None:
        """Has it name this backend, and no secret."""
        error.args = (self._shown(str(error)),)
        error.code, error.backend = self._shown(error.code), self.spec.name

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


class _Pieces:
    """Where the bytes of a stream go: as pieces to who asked."""

    __slots__ = ("_deliver", "_left", "_reader", "_wait")

    def __init__(self, reader: StreamReader, deliver: Deliver) -> None:
        self._reader, self._deliver = reader, deliver
        self._left: Iterator[Delta]
        self._wait: Awaitable[None]

    @property
    def done(self) -> bool:
        return self._reader.done

    def take(self, data: bytes) -> bool:
        left = self._reader.feed(data)
        for piece in left:
            wait = self._deliver(piece)
            if wait is not None:
                self._left, self._wait = left, wait
                return False
        return not self._reader.done

    def straight(self, bytes_max: int) -> PlainStream | None:
        outlet = outlet_of(self._deliver)
        return None if outlet is None else self._reader.straight(outlet, bytes_max)

    async def room(self) -> None:
        await self._wait
        for piece in self._left:
            wait = self._deliver(piece)
            if wait is not None:
                await wait


def _named(model: str) -> str:
    if not model:
        raise ModelRefused("missing model")
    return model


def _delta_of(body: Any) -> Delta:
    """All of an answer that came whole."""
    message = at(next(iter(objects_at(body, "choices")), None), "message")
    calls = [{"index": n, **call} for n, call in enumerate(objects_at(message, "tool_calls"))]
    return Delta(content=text_at(message, "content"), tool_calls=calls or ())

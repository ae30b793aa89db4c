"""Models: a request in, an answer of some backend out, or an error that says why there is none.

The rule: one a node, on its loop. A request is routed, tried and failed over until its deadline,
never more often than planned (`choice/tries`), and leaves no slot taken however it ends. A
stream fails over only before its first piece. What goes to the caller names no secret.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, cast

import msgspec

from spear.config_llm import STUB_BACKEND, is_loopback
from spear.errors import ModelError, ModelTimeout, NoBackend, NotFound
from spear.hostcalls.llm.attempts import Attempt, Attempts
from spear.hostcalls.llm.choice.filter.decider import Decider, Question, Running, hooked
from spear.hostcalls.llm.choice.members import CONFIG, DEFAULT, OLLAMA_SERVER, Keys, Make, Member
from spear.hostcalls.llm.choice.plans import Plans
from spear.hostcalls.llm.choice.prices import Prices
from spear.hostcalls.llm.choice.roster import Roster
from spear.hostcalls.llm.choice.routing import (
    EVERYBODY,
    Candidate,
    Need,
    Verdict,
    eligible,
    fitting,
    lack_of,
    model_of,
    ordered,
    unknown,
)
from spear.hostcalls.llm.choice.scrubbing import scrub
from spear.hostcalls.llm.request import (
    EMBEDDINGS,
    JSON_SCHEMA,
    TOOLS,
    ChatRequest,
    Deliver,
    Delta,
    EmbedRequest,
    Reply,
    outlet_of,
)
from spear.hostcalls.llm.waits import WaitLimit, within
from spear.records.models import HTTP, LOCAL, OLLAMA, REMOTE, ModelInfo, ModelTest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear._core.outlets import Outlet
    from spear.clock import Clock
    from spear.config_llm import BackendSettings, LlmSettings
    from spear.hostcalls.llm.choice.discovery import Fetch
    from spear.hostcalls.llm.choice.filter.decider import Hook, RouterFilter
    from spear.hostcalls.llm.choice.filter.service import FilterService
    from spear.telemetry.jsonlog import Log
    from spear.telemetry.redact import Redactor

DEADLINE_NS = 600 * 10**9  # of a request that names none
TEST_PROMPT = "Answer with the one word: ready"
_TEST_NS = 60 * 10**9
_TEST_TOKENS = 32
_TRANSPORTS = (HTTP, "in_process")

Request = ChatRequest | EmbedRequest
# The facade has a method `list`, which hides the type from its methods' annotations.
Answer = Coroutine[Any, Any, Reply]
Order = list[Member]
Infos = list[ModelInfo]
Sentences = list[str]


class Models:
    """`make` builds a backend from its spec and key, `fetch` is for discovery; `filter` is a Python
    function, sync or async, from a Question to a Verdict, instead of a service."""

    def __init__(
        self, settings: LlmSettings, *, environ: Mapping[str, str], clock: Clock, log: Log,
        redactor: Redactor, make: Make, fetch: Fetch | None = None, filter: Hook | None = None,
        service: FilterService | None = None,
    ) -> None:  # fmt: skip
        self._settings, self._clock, self._log, self._redactor = settings, clock, log, redactor
        self._make = make
        self._keys = Keys(environ, redactor)
        self._prices = Prices(settings.prices)
        self._service = service
        asked: RouterFilter | None = hooked(filter) if filter is not None else service
        self._decider = Decider(asked, settings.filter, log) if asked is not None else None
        members = [
            self._member(one, DEFAULT if one is STUB_BACKEND else CONFIG)
            for one in settings.backends
        ]
        self._plans = Plans()
        self._roster = Roster(members, settings.ollama, fetch, self._member, clock, log)

    def chat(self, request: ChatRequest) -> Answer:
        """Raises ModelError, as the two below."""
        return self._whole(request, _ask_chat)

    def embed(self, request: EmbedRequest) -> Answer:
        return self._whole(request, _ask_embed)

    def stream(self, request: ChatRequest, deliver: Deliver) -> Answer:
        """Hands the pieces on as they come; an error may come after pieces too."""
        return self._whole(request, lambda one: _ask_stream(one, deliver))

    def price(self, request: Request, prompt_tokens: int, completion_tokens: int) -> int:
        """The most that this many tokens cost at any backend that may answer the request and has a
        known price: where money counts, no other is asked."""
        need = need_of(request)
        costs = [
            self._prices.of(
                member.spec, model_of(request.model, member.spec), prompt_tokens, completion_tokens
            )
            for member in self._roster
            if not lack_of(need, Candidate(spec=member.spec, missing=member.missing))
        ]
        return max((cost for cost in costs if cost is not None), default=0)

    def unknown(self, allowed: Sequence[str]) -> Sentences:
        """For each of these names of a task's llm.backends that no backend has, nor one that may
        still be discovered."""
        ollama = self._settings.ollama
        if ollama.enabled:
            prefix = ollama.name_prefix
            allowed = [
                name for name in allowed
                if not (name.startswith(prefix) or fnmatchcase(prefix, name))
            ]  # fmt: skip
        return unknown(allowed, (member.spec.name for member in self._roster))

    async def refresh(self) -> None:
        """Looks for models that are discovered, where that was long ago."""
        await self._roster.look(needed=True)

    def list(self) -> Infos:
        """Every backend as it stands, those of the configuration first."""
        now_ns = self._clock.monotonic_ns()
        infos = [member.info(now_ns) for member in self._roster]
        if self._roster.trouble:
            infos.append(self._undiscovered())
        return [
            msgspec.structs.replace(info, reason=self._redactor.text(info.reason)) for info in infos
        ]

    async def test(
        self, name: str, prompt: str = "", *, model: str = "", timeout_ns: int = 0
    ) -> ModelTest:
        """Asks that backend, once, and says how it went; one for embeddings alone gets an
        embedding. `model` is for one that has none of its own; `timeout_ns` of 0: a
        minute. Raises NotFound, ModelError."""
        await self.refresh()
        member = self._roster.get(name)
        if member is None:
            known = ", ".join(member.spec.name for member in self._roster) or "there are none"
            raise NotFound(f"no model backend {name!r}: known are {known}")
        start_ns = self._clock.monotonic_ns()
        time_ns = timeout_ns or _TEST_NS
        deadline_ns = start_ns + time_ns
        text = prompt or TEST_PROMPT
        if "chat_completions" in member.spec.ops or EMBEDDINGS not in member.spec.ops:
            request = ChatRequest(
                messages=[{"role": "user", "content": text}], extra={"max_tokens": _TEST_TOKENS},
                backend=name, model=model, deadline_ns=deadline_ns, time_ns=time_ns,
            )  # fmt: skip
            reply = await self._whole(request, _ask_chat, retries=0)
        else:
            embed = EmbedRequest(
                texts=[text], backend=name, model=model, deadline_ns=deadline_ns, time_ns=time_ns
            )
            reply = await self._whole(embed, _ask_embed, retries=0)
        return ModelTest(
            backend=name,
            model=reply.model,
            answer=_answer_of(reply.body),
            latency_ns=self._clock.monotonic_ns() - start_ns,
            prompt_tokens=reply.usage.prompt_tokens,
            completion_tokens=reply.usage.completion_tokens,
            cost_nano_usd=reply.usage.cost_nano_usd,
        )

    async def close(self) -> None:
        """Lets connections go; what is under way fails."""
        await self._roster.close()
        if self._service is not None:
            await self._service.close()
        self._keys.close()

    async def _whole(
        self, request: Request, ask: Callable[[Attempt], Awaitable[Reply]],
        retries: int | None = None,
    ) -> Reply:  # fmt: skip
        attempts: Attempts | None = None
        now_ns = self._clock.monotonic_ns()
        if not request.deadline_ns:
            request = msgspec.structs.replace(request, deadline_ns=now_ns + DEADLINE_NS)
        try:
            order = self._order_at_once(request, now_ns)
            if order is None:
                order = await self._order_in_time(request, now_ns)
            attempts = self._attempts(request, order, retries)
            while True:
                one = await attempts.next()
                try:
                    return one.replied(await ask(one))
                except ModelError as error:
                    if not one.failed(error):
                        raise
                finally:
                    one.end()
        except ModelError as error:
            self._tell(error, attempts)
            raise
        finally:
            if attempts is not None:
                attempts.over()

    async def _order_in_time(self, request: Request, now_ns: int) -> Order:
        """Who is to be asked, the first one first. Raises ModelError."""
        try:
            return await within((request.deadline_ns - now_ns) / 1e9, self._order(request))
        except TimeoutError:
            sentence = "the time for the model was over before one was chosen"
            raise ModelTimeout(sentence) from None

    def _attempts(self, request: Request, order: Order, retries: int | None) -> Attempts:
        return Attempts(
            request,
            order,
            retries=self._settings.retries if retries is None else retries,
            prices=self._prices,
            clock=self._clock,
            log=self._log,
            draw=self._draw,
        )

    def _order_at_once(self, request: Request, now_ns: int) -> Order | None:
        """None where nobody asked for the like yet, or somebody else is to be heard first."""
        if self._decider is not None or self._roster.due():
            return None
        members = self._plans.get(need_of(request), request.priced, self._roster.changes)
        if members is None or len(members) == 1:
            return members
        return self._ranked(members, now_ns)

    def _ranked(self, members: Order, now_ns: int) -> Order:
        names = {member.spec.name: member for member in members}
        found = ordered([member.candidate(now_ns) for member in members], self._draw)
        return [names[one.spec.name] for one in found]

    async def _order(self, request: Request) -> Order:
        await self._roster.look()
        try:
            return await self._chosen(request)
        except NoBackend:
            if not await self._roster.look(needed=True):
                raise
        return await self._chosen(request)

    async def _chosen(self, request: Request) -> Order:
        need, now_ns, changes = need_of(request), self._clock.monotonic_ns(), self._roster.changes
        members = {member.spec.name: member for member in self._roster}
        candidates = [self._candidate(one, request, now_ns) for one in members.values()]
        kept = eligible(need, candidates, self._roster.trouble)
        verdict = await self._verdict(request, need, kept, members)
        left = fitting(need, kept, verdict)
        if self._decider is None:
            able = [members[one.spec.name] for one in left]
            self._plans.keep(need, request.priced, changes, able)
        return [members[one.spec.name] for one in ordered(left, self._draw, verdict)]

    def _candidate(self, member: Member, request: Request, now_ns: int) -> Candidate:
        found = member.candidate(now_ns)
        if not request.priced or found.missing:
            return found
        model = model_of(request.model, member.spec)
        if self._prices.of(member.spec, model, 0, 0) is not None:
            return found
        return msgspec.structs.replace(
            found, missing="no price of it is known, and the task has a budget of money"
        )

    async def _verdict(
        self, request: Request, need: Need, kept: Sequence[Candidate], members: dict[str, Member]
    ) -> Verdict:
        if self._decider is None:
            return EVERYBODY
        messages = request.messages if isinstance(request, ChatRequest) else request.texts
        question = Question(
            request_id=request.request_id,
            need=need,
            candidates=tuple(kept),
            running={one.spec.name: _running(members[one.spec.name]) for one in kept},
            timeout_ms=self._decider.timeout_ms,
            message_count=len(messages),
            text_bytes=sum(map(_text_bytes, messages)),
            uses_tools=TOOLS in need.features,
            uses_json_schema=JSON_SCHEMA in need.features,
            payload=_payload(request) if self._decider.sees_content else b"",
        )
        return await self._decider.decide(question)

    def _undiscovered(self) -> ModelInfo:
        """Stands for all models of a server that does not answer."""
        ollama = self._settings.ollama
        return ModelInfo(
            name=f"{ollama.name_prefix}*", kind=OLLAMA, base_url=ollama.base_url,
            hosting=LOCAL if is_loopback(ollama.base_url) else REMOTE, source=OLLAMA_SERVER,
            available=False, reason=self._roster.trouble,
        )  # fmt: skip

    def _member(self, settings: BackendSettings, source: str) -> Member:
        return Member(settings, source, self._keys, self._make, self._clock)

    def _draw(self, below: int) -> int:
        return int.from_bytes(self._clock.random_bytes(8), "big") % below

    def _tell(self, error: ModelError, attempts: Attempts | None) -> None:
        """Has the error say what was used, and no secret."""
        if attempts is not None:
            error.calls, error.model_ns = attempts.calls, attempts.model_ns
            error.unseen = attempts.unseen
        scrub(error, self._redactor)


def need_of(request: Request) -> Need:
    return Need(
        operation=request.operation,
        features=request.features,
        transports=_TRANSPORTS,
        allowed=request.allowed,
        backend=request.backend,
        model=request.model,
    )


def _ask_chat(one: Attempt) -> Answer:
    backend = one.backend
    answer = backend.chat(one.request, one.model)
    return answer if backend.keeps_time else _in_time(one, answer)


def _ask_embed(one: Attempt) -> Answer:
    backend = one.backend
    answer = backend.embed(one.request, one.model)
    return answer if backend.keeps_time else _in_time(one, answer)


async def _in_time(one: Attempt, answer: Awaitable[Reply]) -> Reply:
    """Also where a backend does not keep its deadline. Raises ModelTimeout."""
    try:
        return await within(one.left_s(), answer)
    except TimeoutError:
        raise ModelTimeout("") from None


async def _ask_stream(one: Attempt, deliver: Deliver) -> Reply:
    """What the backend takes is limited, and not what its reader takes. Raises ModelTimeout."""
    limit = WaitLimit(one.left_s())
    try:
        with limit:
            return await one.backend.stream(one.request, one.model, _Passing(one, deliver, limit))
    except TimeoutError:
        raise ModelTimeout("") from None
    finally:
        limit.close()


class _Passing:
    """Pieces on their way to who asked: the first one says that the answer has begun."""

    __slots__ = ("_deliver", "_limit", "_one")

    def __init__(self, one: Attempt, deliver: Deliver, limit: WaitLimit) -> None:
        self._one, self._deliver, self._limit = one, deliver, limit

    def __call__(self, piece: Delta) -> Awaitable[None] | None:
        if not self._one.begun:
            self._one.come()
        wait = self._deliver(piece)
        return None if wait is None else self._limit.outside(wait)

    @property
    def outlet(self) -> Outlet | None:
        return outlet_of(self._deliver) if self._one.begun else None


def _running(member: Member) -> Running:
    return Running(
        latency_ms=member.health.latency_ns / 1e6,
        error_rate=member.health.error_rate,
        in_flight=member.gate.busy,
    )


def _text_bytes(message: dict[str, Any] | str) -> int:
    text = message if isinstance(message, str) else message.get("content")
    return len(text.encode(errors="replace")) if isinstance(text, str) else 0


def _payload(request: Request) -> bytes:
    if isinstance(request, EmbedRequest):
        return msgspec.json.encode({"model": request.model, "input": request.texts})
    body = {"model": request.model, "messages": request.messages, "tools": request.tools}
    return msgspec.json.encode({**body, **request.extra})


def _answer_of(body: Any) -> str:
    """The text of a chat completion, or how long a vector is."""
    try:
        if "choices" in body:
            message = body["choices"][0]["message"]
            return str(cast(object, message.get("content") or ""))
        return f"a vector of {len(body['data'][0]['embedding'])} numbers"
    except (AttributeError, IndexError, KeyError, TypeError):
        return ""

"""One request of an agent to a model: what it may use is reserved, it is asked in time, and what it
used is counted.

The rule: nothing is asked that is not reserved, and whatever way a request ends, cancelled too,
its reservation ends with it. No retries here: `Models` decides about those, within the budget.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any, Protocol, TypeVar

import msgspec

from spear.clock import Clock, Ids
from spear.errors import (
    BudgetSpent,
    ModelError,
    ModelGarbled,
    ModelRefused,
    ModelTimeout,
)
from spear.hostcalls.agent import Agent
from spear.hostcalls.llm.meter import CODE, Meter
from spear.hostcalls.llm.policy import backends_of
from spear.hostcalls.llm.request import ChatRequest, Delta, EmbedRequest, Reply
from spear.hostcalls.llm.session import Session
from spear.records.usage import Usage

LONGEST_NS = 600 * 10**9  # of one request where the guest gave no time
GRACE_NS = 200_000_000  # for a backend to say itself that it was too slow
COMPLETION_TOKENS = 4096  # reserved where the guest gave no limit
Deliver = Callable[[Delta], Awaitable[None] | None]  # a wait only where there is no room
Request = ChatRequest | EmbedRequest
AnyRequest = TypeVar("AnyRequest", ChatRequest, EmbedRequest)


class Models(Protocol):
    """What is asked; one a node."""

    async def chat(self, request: ChatRequest) -> Reply: ...
    def stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Reply, None]: ...
    async def embed(self, request: EmbedRequest) -> Reply: ...
    def price(self, request: Request, prompt_tokens: int, completion_tokens: int) -> int | None: ...


class _Account:
    """Of one request: what is reserved for it, and what it used, once that is known."""

    __slots__ = ("_one_try", "lost", "reservation", "used")

    def __init__(self, meter: Meter, one_try: Usage) -> None:
        self.reservation, self._one_try = meter.reserve(one_try), one_try
        self.used = self.lost = Usage()

    def again(self, seen: bool) -> bool:
        """Whether one more try is within the budget. The one before was refused (`seen`), or may
        have used all that was reserved for it."""
        lost = Usage() if seen else msgspec.structs.replace(self._one_try, calls=0, model_ns=0)
        if not self.reservation.extend(lost + Usage(calls=1)):
            return False
        self.lost += lost
        return True


class Asking:
    """Asks `models` for agents."""

    def __init__(self, models: Models, clock: Clock) -> None:
        self._models, self._clock, self._ids = models, clock, Ids(clock)

    async def chat(self, agent: Agent, session: Session) -> Reply:
        """Raises ModelError."""
        request = self._chat_request(agent, session)
        with self._reserved(agent, request, session.bytes, completion_tokens(request)) as account:
            async with self._in_time(request):
                reply = await self._models.chat(_metered(request, account))
            account.used = reply.usage
        return reply

    async def stream(self, agent: Agent, session: Session, deliver: Deliver) -> Reply:
        """Hands each piece to `deliver`, whose time is the request's too. Raises ModelError."""
        request, reply, began_ns = self._chat_request(agent, session), None, self.now_ns()
        with self._reserved(agent, request, session.bytes, completion_tokens(request)) as account:
            answer = self._models.stream(_metered(request, account))
            async with self._in_time(request), aclosing(answer) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Reply):
                        reply = piece
                        break
                    wait = deliver(piece)
                    if wait is not None:
                        await wait
            if reply is None:
                raise _unseen(
                    ModelGarbled("the model's stream ended before its answer was whole"),
                    self.now_ns() - began_ns,
                )
            account.used = reply.usage
        return reply

    async def embed(self, agent: Agent, request: EmbedRequest, timeout_ms: int) -> Reply:
        """Completes the request, and asks. Raises ModelError."""
        request = EmbedRequest(
            texts=request.texts, extra=request.extra, model=request.model,
            backend=request.backend, allowed=backends_of(agent.config),
            deadline_ns=self._deadline_ns(agent, timeout_ms), request_id=self._ids.next(),
            priced=_has_money(agent),
        )  # fmt: skip
        tokens = sum(len(text.encode()) + 1 for text in request.texts)
        with self._reserved(agent, request, tokens, 0) as account:
            async with self._in_time(request):
                reply = await self._models.embed(_metered(request, account))
            account.used = reply.usage
        return reply

    def now_ns(self) -> int:
        return self._clock.monotonic_ns()

    def _chat_request(self, agent: Agent, session: Session) -> ChatRequest:
        if not session.messages:
            raise ModelRefused("the session has no message yet: write one before it is sent")
        if session.full:
            raise ModelRefused(
                "the sessions of this execution hold as much as they may: close what is done",
                code="session_full",
            )
        params = session.params
        return ChatRequest(
            messages=list(session.messages), tools=list(session.tools), extra=params.extra(),
            model=params.model, backend=params.backend, allowed=backends_of(agent.config),
            deadline_ns=self._deadline_ns(agent, params.timeout_ms), request_id=self._ids.next(),
            priced=_has_money(agent),
        )  # fmt: skip

    def _deadline_ns(self, agent: Agent, timeout_ms: int) -> int:
        """When the request must be over: its own time, the execution's, and the budget's."""
        now_ns = self.now_ns()
        ends = [now_ns + (timeout_ms * 1_000_000 or LONGEST_NS)]
        if agent.deadline_ns:
            ends.append(agent.deadline_ns)
        left_ns = agent.meter.left("model_ns")
        if left_ns is not None:
            ends.append(now_ns + left_ns)
        return min(ends)

    @asynccontextmanager
    async def _in_time(self, request: Request) -> AsyncIterator[None]:
        """Also where a backend does not keep its deadline."""
        began_ns = self.now_ns()
        left_ns = request.deadline_ns + GRACE_NS - began_ns
        try:
            async with asyncio.timeout(max(0, left_ns) / 1e9):
                yield
        except TimeoutError:
            raise _unseen(
                ModelTimeout("the model did not answer in time"), self.now_ns() - began_ns
            ) from None

    @contextmanager
    def _reserved(
        self, agent: Agent, request: Request, prompt_tokens: int, completion: int
    ) -> Iterator[_Account]:
        """Raises BudgetSpent, and then nothing was asked."""
        began_ns = self.now_ns()
        one_try = Usage(
            calls=1, prompt_tokens=prompt_tokens, completion_tokens=completion,
            model_ns=max(1, request.deadline_ns - began_ns),
            cost_nano_usd=self._cost(agent, request, prompt_tokens, completion),
        )  # fmt: skip
        account = _Account(agent.meter, one_try)
        try:
            yield account
        except ModelError as error:
            known = Usage(calls=error.calls, model_ns=error.model_ns)
            if error.unseen:
                account.reservation.abandon(known)
            else:
                account.reservation.settle(known)
            raise
        except BaseException:  # cancelled, or a mistake
            known = Usage(calls=1, model_ns=self.now_ns() - began_ns)
            account.reservation.abandon(known)
            raise
        account.reservation.settle(account.used, account.lost)

    def _cost(self, agent: Agent, request: Request, prompt: int, completion: int) -> int:
        if not _has_money(agent):
            return 0
        price = self._models.price(request, prompt, completion)
        if price is None:
            raise BudgetSpent(
                "the task has a budget of money, and for a model that may answer no price is known",
                code=CODE,
            )
        return price


def _has_money(agent: Agent) -> bool:
    """Whether it has a budget of money."""
    return agent.meter.left("cost_nano_usd") is not None


def _metered(request: AnyRequest, account: _Account) -> AnyRequest:
    """The request, whose further tries are reserved too."""
    return msgspec.structs.replace(request, again=account.again)


def _unseen(error: ModelError, model_ns: int) -> ModelError:
    """Where nobody said what was used."""
    error.calls, error.model_ns, error.unseen = 1, max(0, model_ns), 1
    return error


def completion_tokens(request: ChatRequest) -> int:
    """What the answer may have at most, by what the guest asked for."""
    limits = [request.extra.get(key) for key in ("max_completion_tokens", "max_tokens")]
    given = max(map(_count, limits)) or COMPLETION_TOKENS
    return given * (_count(request.extra.get("n")) or 1)


def _count(value: Any) -> int:
    """0 for what is no count."""
    return value if isinstance(value, int) and value is not True and value > 0 else 0

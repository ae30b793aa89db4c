"""One request of an agent to a model: what it may use is reserved, it is asked in time, and what it
used is counted.

The rule: nothing is asked that is not reserved, and whatever way a request ends, cancelled too,
its reservation ends with it. No retries here: `Models` decides about those, within the budget.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from spear.clock import Clock, Ids
from spear.errors import BudgetSpent, ModelError, ModelRefused, ModelTimeout
from spear.hostcalls.agent import Agent
from spear.hostcalls.llm.chat.session import Session
from spear.hostcalls.llm.meter import CODE, NOTHING, Meter, Reservation
from spear.hostcalls.llm.policy import backends_of
from spear.hostcalls.llm.request import ChatRequest, Deliver, EmbedRequest, Reply
from spear.hostcalls.llm.waits import within
from spear.records.usage import Usage
from spear.units import format_duration

LONGEST_NS = 600 * 10**9  # of one request where the guest gave no time
GRACE_NS = 200_000_000  # for a backend to say itself that it was too slow
COMPLETION_TOKENS = 4096  # reserved where the guest gave no limit
COUNT_MAX = 1 << 53  # of tokens, and of answers
Request = ChatRequest | EmbedRequest
AnyRequest = TypeVar("AnyRequest", ChatRequest, EmbedRequest)


class Models(Protocol):
    """What is asked; one a node."""

    async def chat(self, request: ChatRequest) -> Reply: ...
    async def stream(self, request: ChatRequest, deliver: Deliver) -> Reply: ...
    async def embed(self, request: EmbedRequest) -> Reply: ...
    def price(self, request: Request, prompt_tokens: int, completion_tokens: int) -> int: ...
    def unknown(self, allowed: Sequence[str]) -> list[str]: ...


class _Account:
    """Of one request: what is reserved for it. However the request ends, `used` or `failed` says
    what it used, and then nothing is reserved any more."""

    __slots__ = ("_lost", "_meter", "_one_try", "_reservation", "began_ns", "time_ns")

    def __init__(self, meter: Meter, began_ns: int) -> None:
        self._meter, self.began_ns, self._lost = meter, began_ns, NOTHING
        self.time_ns = 0  # that the budget has left, where this is what ends the request
        self._one_try: Usage
        self._reservation: Reservation

    def reserve(self, one_try: Usage) -> None:
        """Raises BudgetSpent."""
        self._reservation, self._one_try = self._meter.reserve(one_try), one_try

    def again(self, seen: bool) -> None:
        """Reserves one more try. The one before was refused (`seen`), or may have used all that
        was reserved for it. Raises BudgetSpent."""
        lost = NOTHING if seen else msgspec.structs.replace(self._one_try, calls=0, model_ns=0)
        self._reservation.extend(lost + Usage(calls=1))
        if not seen:
            self._lost += lost

    def used(self, usage: Usage) -> None:
        """What the model's side did not count may have been all that was reserved for it."""
        if not usage.prompt_tokens or not usage.completion_tokens:
            self._lost += _uncounted(self._one_try, usage)
        self._reservation.settle(usage, self._lost)

    def failed(self, error: BaseException, now_ns: int) -> None:
        if not isinstance(error, ModelError):  # cancelled, or a mistake
            self._reservation.abandon(Usage(calls=1, model_ns=now_ns - self.began_ns))
        elif error.unseen:
            self._reservation.abandon(Usage(calls=error.calls, model_ns=error.model_ns))
        else:
            self._reservation.settle(Usage(calls=error.calls, model_ns=error.model_ns))


class Asking:
    """Asks `models` for agents."""

    def __init__(self, models: Models, clock: Clock) -> None:
        self._models, self._clock = models, clock
        self._id, self._count = Ids(clock).next(), 0  # an id for each request is made of these

    async def chat(self, agent: Agent, session: Session) -> Reply:
        """Raises ModelError."""
        account = _Account(agent.meter, self.now_ns())
        request = self._chat_request(agent, session, account)
        return await self._counted(account, request, self._models.chat)

    async def stream(self, agent: Agent, session: Session, deliver: Deliver) -> Reply:
        """Hands each piece to `deliver`, whose time is the request's too. Raises ModelError."""
        account = _Account(agent.meter, self.now_ns())
        request = self._chat_request(agent, session, account)
        return await self._counted(account, request, lambda it: self._models.stream(it, deliver))

    async def embed(self, agent: Agent, request: EmbedRequest, timeout_ms: int) -> Reply:
        """Completes the request, and asks. Raises ModelError."""
        account = _Account(agent.meter, self.now_ns())
        deadline_ns = self._deadline_ns(agent, timeout_ms, account)
        request = EmbedRequest(
            texts=request.texts, extra=request.extra, model=request.model,
            backend=request.backend, allowed=backends_of(agent.config),
            deadline_ns=deadline_ns, time_ns=deadline_ns - account.began_ns,
            begin_ns=min(deadline_ns, agent.deadline_ns or deadline_ns),
            request_id=self._next_id(), again=account.again, priced=_has_money(agent),
        )  # fmt: skip
        tokens = sum(len(text.encode()) + 1 for text in request.texts)
        self._reserve(account, request, tokens, 0)
        return await self._counted(account, request, self._models.embed)

    def unknown_backends(self, agent: Agent) -> list[str]:
        """A sentence for each that the task's config names and that is not there."""
        return self._models.unknown(backends_of(agent.config))

    def now_ns(self) -> int:
        return self._clock.monotonic_ns()

    def _chat_request(self, agent: Agent, session: Session, account: _Account) -> ChatRequest:
        """With what it may use reserved."""
        if not session.messages:
            raise ModelRefused("the session has no message yet: write one before it is sent")
        if session.full:
            raise ModelRefused(
                "the sessions of this execution hold as much as they may: close what is done",
                code="session_full",
            )
        params = session.params
        deadline_ns = self._deadline_ns(agent, params.timeout_ms, account)
        request = ChatRequest(
            messages=list(session.messages), tools=list(session.tools), extra=params.extra(),
            model=params.model, backend=params.backend, allowed=backends_of(agent.config),
            deadline_ns=deadline_ns, time_ns=deadline_ns - account.began_ns,
            begin_ns=min(deadline_ns, agent.deadline_ns or deadline_ns),
            request_id=self._next_id(), again=account.again, priced=_has_money(agent),
        )  # fmt: skip
        self._reserve(account, request, session.bytes, completion_tokens(request))
        return request

    def _next_id(self) -> str:
        self._count += 1
        return f"{self._id}-{self._count}"

    def _deadline_ns(self, agent: Agent, timeout_ms: int, account: _Account) -> int:
        """When the request must be over: its own time, the execution's, and the budget's."""
        now_ns = account.began_ns
        end_ns = now_ns + (timeout_ms * 1_000_000 or LONGEST_NS)
        if agent.deadline_ns:  # the guest ends first, and its end ends this
            end_ns = min(end_ns, agent.deadline_ns + GRACE_NS)
        left_ns = agent.meter.left("model_ns")
        if left_ns is None or end_ns <= now_ns + left_ns:
            return end_ns
        account.time_ns = left_ns
        return now_ns + left_ns

    def _reserve(
        self, account: _Account, request: Request, prompt_tokens: int, completion: int
    ) -> None:
        """Raises BudgetSpent, and then nothing is asked. Where money counts, who has no known price
        is not asked either."""
        price = self._models.price
        one_try = Usage(
            calls=1, prompt_tokens=prompt_tokens, completion_tokens=completion,
            model_ns=max(1, request.deadline_ns - account.began_ns),
            cost_nano_usd=price(request, prompt_tokens, completion) if request.priced else 0,
        )  # fmt: skip
        account.reserve(one_try)

    async def _counted(
        self, account: _Account, request: AnyRequest,
        ask: Callable[[AnyRequest], Awaitable[Reply]],
    ) -> Reply:  # fmt: skip
        """In time, also where a backend does not keep its deadline."""
        left_ns = request.deadline_ns + GRACE_NS - account.began_ns
        try:
            try:
                reply = await within(max(0, left_ns) / 1e9, ask(request))
            except TimeoutError:
                error = ModelTimeout(f"no answer within {request.time_ns // 10**6} ms")
                error.calls = error.unseen = 1  # nobody said what was used
                error.model_ns = max(0, self.now_ns() - account.began_ns)
                raise error from None
        except BaseException as error:
            account.failed(error, now_ns := self.now_ns())
            if account.time_ns and isinstance(error, ModelError):
                timed_out = isinstance(error, ModelTimeout) and now_ns >= request.deadline_ns
                if timed_out or error.late:
                    raise _out_of_time(error, account.time_ns) from error
            raise
        account.used(reply.usage)
        return reply


def _out_of_time(error: ModelError, left_ns: int) -> BudgetSpent:
    what = "; there is no time for another try" if error.late else ""
    return BudgetSpent(
        f"{error}{what}: the budget of time had {format_duration(left_ns)} left (budget.time of "
        "the task, or of one above it, says how much)",
        code=CODE,
    )


def _uncounted(reserved: Usage, used: Usage) -> Usage:
    """Of a try: the part of its reservation that nothing which was counted stands for."""
    prompt = 0 if used.prompt_tokens else reserved.prompt_tokens
    completion = 0 if used.completion_tokens else reserved.completion_tokens
    if not prompt and not completion:
        return NOTHING
    cost = max(0, reserved.cost_nano_usd - used.cost_nano_usd)
    return Usage(prompt_tokens=prompt, completion_tokens=completion, cost_nano_usd=cost)


def _has_money(agent: Agent) -> bool:
    """Whether it has a budget of money."""
    return agent.meter.left("cost_nano_usd") is not None


def completion_tokens(request: ChatRequest) -> int:
    """What the answer may have at most, by what the guest asked for."""
    extra = request.extra
    if not extra:
        return COMPLETION_TOKENS
    given = max(_count(extra.get("max_completion_tokens")), _count(extra.get("max_tokens")))
    return (given or COMPLETION_TOKENS) * (_count(extra.get("n")) or 1)


def _count(value: Any) -> int:
    """0 for what is no count; at most COUNT_MAX, so that it can be told."""
    sane = isinstance(value, int) and value is not True and value > 0
    return min(value, COUNT_MAX) if sane else 0

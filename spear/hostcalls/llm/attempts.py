"""The tries of one request: each takes a slot, is timed and counted, and tells the health of who it
asked.

The rule: each try that `next` begins is told how it went (`replied`, or `failed`, which says
whether another one can help), and then that it is over (`end`), whatever ended it: that gives its
slot back.
"""

from __future__ import annotations

import asyncio

import msgspec

from spear.errors import (
    BudgetSpent,
    ModelError,
    ModelGarbled,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
)
from spear.hostcalls.llm.choice.routing import model_of
from spear.hostcalls.llm.choice.tries import Tries
from spear.hostcalls.llm.request import Reply
from spear.hostcalls.llm.waits import within
from spear.records.usage import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spear.clock import Clock
    from spear.hostcalls.llm.backends.interface import Backend
    from spear.hostcalls.llm.choice.members import Member
    from spear.hostcalls.llm.choice.prices import Prices
    from spear.hostcalls.llm.choice.routing import Draw
    from spear.telemetry.jsonlog import Log

# A time-out sooner than this says more of the request than of the backend.
SLOW_NS = 10 * 10**9
_TOO_MANY = 429


class Attempt:
    """One try. `request` has the try's own deadline; `begun`: a piece of the answer was there."""

    __slots__ = ("_attempts", "_clock", "_trial", "began_ns", "begun", "first_ns", "member",
                 "model", "request")  # fmt: skip

    def __init__(
        self, attempts: Attempts, member: Member, request: Any, model: str, now_ns: int
    ) -> None:
        self._attempts, self._clock = attempts, attempts.clock
        self.member, self.request, self.model = member, request, model
        self.began_ns, self.first_ns = now_ns, 0
        self.begun = False
        self._trial = member.health.begun(now_ns)

    @property
    def backend(self) -> Backend:
        return self.member.backend

    def left_s(self) -> float:
        return self._attempts.left_s(int(self.request.deadline_ns))

    def come(self) -> None:
        """The first piece of a stream came: nobody else can answer any more."""
        self.first_ns = self._clock.monotonic_ns()
        self.begun = True

    def replied(self, reply: Reply) -> Reply:
        """The reply as the caller gets it, with what all tries used."""
        return self._attempts.succeeded(self, reply)

    def failed(self, error: ModelError) -> bool:
        """Whether another try can help: not where a part of the answer went out already."""
        if isinstance(error, ModelTimeout):
            self._name_time(error)
        return self._attempts.failed(self, error)

    def _name_time(self, error: ModelTimeout) -> None:
        """What was asked for, and not the part of it that was left for the try."""
        took_ns = self._clock.monotonic_ns() - self.began_ns
        name, asked_ns = self.member.spec.name, int(self.request.time_ns) or took_ns
        sentence = f"backend {name!r} did not answer within {asked_ns // 10**6} ms"
        error.args = (f"{sentence}: {error}" if str(error) else sentence,)
        error.backend = name

    def end(self) -> None:
        if self._trial:
            self.member.health.trial_over()
        self.member.gate.leave()


class Attempts:
    """Of one request over `order`, which is not empty. `calls` and `model_ns` count every try that
    reached a backend, also those that failed; `unseen` those that failed in a way that leaves open
    what they used."""

    def __init__(
        self, request: Any, order: list[Member], *, retries: int, prices: Prices, clock: Clock,
        log: Log, draw: Draw,
    ) -> None:  # fmt: skip
        self._request, self._prices = request, prices
        self._begin_ns = int(request.begin_ns or request.deadline_ns)  # no try begins later
        self.clock, self._log = clock, log
        self._members = members = {member.spec.name: member for member in order}
        self._tries = Tries(  # which knows nothing of its owner: no cycle keeps a large request
            list(members), retries, draw,
            ready_ns=lambda name: members[name].health.ready_ns(),
            idle=lambda name: members[name].gate.open(),
        )  # fmt: skip
        self._last: ModelError | None = None
        self._unasked: bool | None = None  # of a call that `again` was not asked about: was it seen
        self.calls = self.model_ns = self.unseen = 0

    async def next(self) -> Attempt:
        """The next try, which has begun. Raises ModelError where there is none."""
        while True:
            now_ns = self.clock.monotonic_ns()
            step = self._tries.next(now_ns, self._begin_ns)
            if step is None:
                raise self._no_more(now_ns)
            self._go_on()
            if step.wait_ns:
                await asyncio.sleep(step.wait_ns / 1e9)
            member = self._members[step.name]
            if member.gate.enter_at_once() or await self._entered(member):
                return self._begin(member)

    def succeeded(self, attempt: Attempt, reply: Reply) -> Reply:
        """The reply, with what was used for it."""
        now_ns = self.clock.monotonic_ns()
        self._used(now_ns - attempt.began_ns)
        member = attempt.member
        if member.health.succeeded((attempt.first_ns or now_ns) - attempt.began_ns):
            self._log.info("a model backend answers again", backend=member.spec.name)
        used, model = reply.usage, attempt.model or reply.model
        cost = self._prices.of(member.spec, model, used.prompt_tokens, used.completion_tokens)
        usage = Usage(
            calls=self.calls,
            prompt_tokens=used.prompt_tokens,
            completion_tokens=used.completion_tokens,
            model_ns=self.model_ns,
            cost_nano_usd=cost or 0,
        ).bounded
        if self._log.tells("debug"):
            self._log.debug(
                "model answered", **self._about(attempt), prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
            )  # fmt: skip
        return Reply(body=reply.body, backend=reply.backend, model=reply.model, usage=usage)

    def failed(self, attempt: Attempt, error: ModelError) -> bool:
        """Counts it; whether another try can help."""
        took_ns = self.clock.monotonic_ns() - attempt.began_ns
        lost = isinstance(error, (ModelGarbled, ModelTimeout))
        if lost or error.http_status or error.reached:
            self._used(took_ns)
            self._unasked = seen = not lost and error.http_status != 0
            self.unseen += not seen
        if self._harm(attempt.member, error, took_ns):
            name = attempt.member.spec.name
            self._log.warn("a model backend is failing", backend=name, reason=error)
        self._log.debug("model failed", **self._about(attempt), reason=error)
        self._last = error
        return self._another_helps(attempt, error)

    def over(self) -> None:
        """No more tries: lets go of the last error, whose traceback has all that was asked."""
        self._last = None

    async def _entered(self, member: Member) -> bool:
        """Waits for a slot at it; whether there was one in time."""
        enter = member.gate.enter(self._begin_ns)
        try:
            await within(self.left_s(self._request.deadline_ns), enter)
        except ModelUnavailable as error:
            self._last = error
        except TimeoutError:
            sentence = f"backend {member.spec.name!r} had no room for the request in time"
            self._last = ModelTimeout(sentence, backend=member.spec.name)
        else:
            return True
        return False

    def _go_on(self) -> None:
        """Has who asks allow one more try. Raises BudgetSpent, which also says why it is needed."""
        seen, self._unasked = self._unasked, None
        again = self._request.again
        if seen is None or again is None:
            return
        try:
            again(seen)
        except BudgetSpent as spent:
            sentence = f"{self._last}; another try is beyond the budget: {spent}"
            raise BudgetSpent(sentence, code=spent.code) from self._last

    def _no_more(self, now_ns: int) -> ModelError:
        """What the last try failed by, or why there was none."""
        error = self._last or self._nobody(now_ns)
        error.late = self._tries.late
        return error

    def _nobody(self, now_ns: int) -> ModelError:
        """Nobody was asked, and nobody will be in time."""
        if now_ns >= self._begin_ns:
            return ModelTimeout("the time for the model was over before one was asked")
        wait_ms = -(-(self._tries.first_ready_ns() - now_ns) // 10**6)
        names = ", ".join(map(repr, self._members))
        return ModelUnavailable(
            f"the backend {names} asked to be left alone for {wait_ms} ms more, which is beyond "
            "the deadline",
            retry_after_ms=wait_ms,
        )

    def _begin(self, member: Member) -> Attempt:
        now_ns, request = self.clock.monotonic_ns(), self._request
        timeout_ns = member.settings.timeout_ns
        if timeout_ns and now_ns + timeout_ns < request.deadline_ns:
            request = msgspec.structs.replace(
                request, deadline_ns=now_ns + timeout_ns, time_ns=timeout_ns
            )
        return Attempt(self, member, request, model_of(request.model, member.spec), now_ns)

    def _harm(self, member: Member, error: ModelError, took_ns: int) -> bool:
        """Tells the backend's health; whether it is failing from now on."""
        health, now_ns = member.health, self.clock.monotonic_ns()
        retry_after_ns = getattr(error, "retry_after_ms", 0) * 10**6
        if error.http_status == _TOO_MANY:
            health.rested(now_ns, str(error), retry_after_ns)
        elif isinstance(error, ModelTimeout):
            slow_ns = min(SLOW_NS, member.settings.timeout_ns or SLOW_NS)
            return took_ns >= slow_ns and health.failed(now_ns, str(error))
        elif isinstance(error, (ModelUnavailable, ModelGarbled)):
            return health.failed(now_ns, str(error), retry_after_ns)
        elif isinstance(error, ModelRefused):
            health.answered()
        return False

    def _another_helps(self, attempt: Attempt, error: ModelError) -> bool:
        if attempt.begun:
            return False
        if isinstance(error, ModelTimeout):
            self._tries.exclude(attempt.member.spec.name)
            return True
        return isinstance(error, (ModelUnavailable, ModelGarbled))

    def _used(self, took_ns: int) -> None:
        self.calls += 1
        self.model_ns += took_ns

    def left_s(self, deadline_ns: int) -> float:
        return max(0.0, (deadline_ns - self.clock.monotonic_ns()) / 1e9)

    def _about(self, attempt: Attempt) -> dict[str, Any]:
        return {
            "backend": attempt.member.spec.name,
            "model": attempt.model,
            "request_id": self._request.request_id,
            "ms": (self.clock.monotonic_ns() - attempt.began_ns) // 10**6,
        }

"""How a backend does: how long it takes, how often it fails, whether it is worth asking now.

The rule: pure; the time is given. After FAILURES failures in a row it is open (not worth asking)
for a while, which doubles each time it fails again; when that is over, one request is the trial
while others still see it open. Whether an open backend is asked all the same is routing's to say.
"""

from __future__ import annotations

FAILURES = 3
COOL_NS, COOL_NS_MAX = 10**9, 60 * 10**9
REST_NS_MAX = 300 * 10**9  # however far a backend puts its Retry-After
_NEW = 0.2  # how much of a mean the newest value is
CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"


class Health:
    """Of one backend. `latency_ns` and `error_rate` are moving means; `reason` is of the last
    failure. Whoever begins a request says how it ended: `succeeded`, `answered` (it refused),
    `failed`, or `rested` (it said when to come back); not where its caller went."""

    __slots__ = (
        "_failures", "_open_until_ns", "_rest_until_ns", "_trial", "error_rate", "latency_ns",
        "reason",
    )  # fmt: skip

    def __init__(self) -> None:
        self.latency_ns = 0
        self.error_rate = 0.0
        self.reason = ""
        self._failures = 0
        self._open_until_ns = self._rest_until_ns = 0
        self._trial = False

    def state(self, now_ns: int) -> str:
        if self._failures < FAILURES:
            return CLOSED
        return OPEN if now_ns < self._open_until_ns else HALF_OPEN

    def ready(self, now_ns: int) -> bool:
        """Whether it is worth asking: not open, not resting, no trial under way."""
        state = self.state(now_ns)
        return (
            state != OPEN
            and not (state == HALF_OPEN and self._trial)
            and now_ns >= self._rest_until_ns
        )

    def ready_ns(self) -> int:
        """When it said that it may be asked again."""
        return self._rest_until_ns

    def begun(self, now_ns: int) -> bool:
        """A request begins; whether it is the trial, whose end `trial_over` is told."""
        if self.state(now_ns) != HALF_OPEN or self._trial:
            return False
        self._trial = True
        return True

    def trial_over(self) -> None:
        self._trial = False

    def succeeded(self, latency_ns: int) -> bool:
        """Whether that closes it."""
        was_open = self._failures >= FAILURES
        self._failures, self._rest_until_ns, self.reason = 0, 0, ""
        self.latency_ns += round((latency_ns - self.latency_ns) * (_NEW if self.latency_ns else 1))
        self.error_rate -= self.error_rate * _NEW
        return was_open

    def answered(self) -> None:
        """It refused a request, so it is there."""
        self._failures = 0

    def failed(self, now_ns: int, reason: str, retry_after_ns: int = 0) -> bool:
        """Whether that opens it."""
        was_open = self._failures >= FAILURES
        self._failures += 1
        self._missed(now_ns, reason, retry_after_ns)
        if self._failures >= FAILURES:
            doublings = min(self._failures - FAILURES, 16)
            self._open_until_ns = now_ns + min(COOL_NS << doublings, COOL_NS_MAX)
        return not was_open and self._failures >= FAILURES

    def rested(self, now_ns: int, reason: str, retry_after_ns: int) -> None:
        """It is well and has too much to do (429)."""
        self._missed(now_ns, reason, retry_after_ns or COOL_NS)

    def _missed(self, now_ns: int, reason: str, rest_ns: int) -> None:
        self.reason = reason
        self.error_rate += (1.0 - self.error_rate) * _NEW
        if rest_ns:
            until_ns = now_ns + min(rest_ns, REST_NS_MAX)
            self._rest_until_ns = max(self._rest_until_ns, until_ns)

"""Whether a failed attempt is tried again, and how long to wait first.

The rule: pure; the random number is given. Full jitter: the wait is drawn evenly from 0 to the
bound, which doubles with each attempt up to a maximum, so that many that failed together come back
spread out.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.records.task import Retry

RANDOM_BITS = 64


def next_delay_ns(retry: Retry, attempt: int, code: str, random: int) -> int | None:
    """The wait before attempt `attempt` + 1 once attempt `attempt` (from 1) ended with the error
    `code`; None: it is not tried again. `random` has RANDOM_BITS bits."""
    if attempt >= retry.attempts or code not in retry.on:
        return None
    return jitter_ns(retry.backoff_ns, retry.backoff_max_ns, attempt, random)


def jitter_ns(backoff_ns: int, backoff_max_ns: int, attempt: int, random: int) -> int:
    """A number from 0 to min(backoff_max_ns, backoff_ns * 2**(attempt - 1)), both included."""
    doublings = min(attempt - 1, backoff_max_ns.bit_length())  # more would be above the maximum
    bound_ns = min(backoff_max_ns, backoff_ns << doublings)
    return (bound_ns + 1) * random >> RANDOM_BITS

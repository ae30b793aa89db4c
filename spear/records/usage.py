"""What executions used of models, and what they may use.

The rule: whole numbers only, so that sums are exact: money in billionths of a US dollar, time in
nanoseconds. 0 in a Budget is no limit. What was used is told by backends, which may say anything:
beyond AMOUNT_MAX it counts no further.
"""

from __future__ import annotations

import msgspec

AMOUNT_MAX = (1 << 63) - 1  # that a record and a message hold


class Usage(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`calls` counts requests that reached a backend, each retry included; `model_ns` is the time
    they took, one after another even where they overlapped."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    model_ns: int = 0
    cost_nano_usd: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def bounded(self) -> Usage:
        """Where an amount is beyond AMOUNT_MAX, that instead."""
        if max(msgspec.structs.astuple(self)) <= AMOUNT_MAX:
            return self
        amounts = msgspec.structs.asdict(self)
        return Usage(**{what: min(amount, AMOUNT_MAX) for what, amount in amounts.items()})

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            calls=self.calls + other.calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            model_ns=self.model_ns + other.model_ns,
            cost_nano_usd=self.cost_nano_usd + other.cost_nano_usd,
        )

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            calls=self.calls - other.calls,
            prompt_tokens=self.prompt_tokens - other.prompt_tokens,
            completion_tokens=self.completion_tokens - other.completion_tokens,
            model_ns=self.model_ns - other.model_ns,
            cost_nano_usd=self.cost_nano_usd - other.cost_nano_usd,
        )


class Budget(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What an execution and all that it calls may use together."""

    calls: int = 0
    tokens: int = 0
    model_ns: int = 0
    cost_nano_usd: int = 0

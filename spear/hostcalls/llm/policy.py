"""What a task's config says about models: which backends it may use, and how much of them.

The rule: read before a task is registered and again where it counts; what is wrong is refused with
the key's name and what is accepted. Which keys there are is checked where tasks are registered.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from spear.errors import InvalidArgument
from spear.hostcalls.allowed import names_of
from spear.records.usage import Budget
from spear.units import parse_count, parse_duration_ns

BACKENDS, CALLS, TOKENS = "llm.backends", "budget.calls", "budget.tokens"
TIME, USD = "budget.time", "budget.usd"
_BUDGET_MAX = 1 << 62  # so that sums of a tree stay whole numbers of 64 bits


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """`backends` are the names that may be used; empty: all."""

    backends: tuple[str, ...] = ()
    budget: Budget = Budget()


def policy_of(config: Mapping[str, str]) -> Policy:
    """Raises InvalidArgument, which names the key."""
    return Policy(backends=backends_of(config), budget=budget_of(config))


def backends_of(config: Mapping[str, str]) -> tuple[str, ...]:
    """Comma separated, or a JSON array. Raises InvalidArgument."""
    text = config.get(BACKENDS)
    if text is None:
        return ()
    names = names_of(BACKENDS, text)
    if not names:
        raise _refusal(BACKENDS, "at least one name, comma separated or a JSON array", text)
    return names


def budget_of(config: Mapping[str, str]) -> Budget:
    """Raises InvalidArgument, which names the key."""
    return Budget(
        calls=_amount(config, CALLS, "a whole number"),
        tokens=_amount(config, TOKENS, "a whole number"),
        model_ns=_amount(config, TIME, "a duration such as 30s or 5m"),
        cost_nano_usd=_amount(config, USD, "US dollars such as 0.25"),
    )


def _amount(config: Mapping[str, str], key: str, wanted: str) -> int:
    text = config.get(key)
    if text is None:
        return 0
    try:
        amount = _READ.get(key, parse_count)(text)
    except InvalidArgument:
        amount = 0
    if not 0 < amount <= _BUDGET_MAX:
        raise _refusal(key, f"{wanted}, above 0", text)
    return amount


def _nano_usd(text: str) -> int:
    """Of a decimal number with at most nine places, exactly."""
    whole, _, part = text.strip().partition(".")
    digits = whole + part
    if not (digits.isascii() and digits.isdigit() and len(part) <= 9 and len(whole) <= 12):
        raise InvalidArgument(f"expected US dollars, found {text!r}")
    return int(digits + "0" * (9 - len(part)))


_READ = {TIME: parse_duration_ns, USD: _nano_usd}


def _refusal(key: str, wanted: str, text: str) -> InvalidArgument:
    shown = text if len(text) <= 80 else f"{text[:77]}..."
    return InvalidArgument(f"config key {key!r}: expected {wanted}; found {shown!r}")

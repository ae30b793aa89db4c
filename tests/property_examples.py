"""How many examples a property is shown: the number in its test is that of `make test`.

Rule: the profile of hypothesis scales it: `short` for a slow build (scripts/asan.sh), `long` for
scripts/soak.sh. What has no number of its own has the profile's. No example has a deadline: how
long it takes is the machine's affair.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

PROFILES = {"short": 25, "long": 1000}  # where `make test` shows 100


def register() -> None:
    slow = [HealthCheck.too_slow]  # of making examples
    settings.register_profile("test", deadline=None, suppress_health_check=slow)
    settings.load_profile("test")
    for name, count in PROFILES.items():  # as "test" but for the number
        settings.register_profile(name, settings(), max_examples=count)


def examples(count: int) -> int:
    """That many at `make test`, in proportion elsewhere."""
    return max(1, count * settings().max_examples // 100)

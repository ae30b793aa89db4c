"""How many examples a property is shown: the number in its test is that of `make test`.

Rule: the profile of hypothesis scales it: `short` for a slow build (scripts/asan.sh), `long` for
scripts/soak.sh. What has no number of its own has the profile's.
"""

from __future__ import annotations

from hypothesis import settings

PROFILES = {"short": 25, "long": 1000}  # where `make test` shows 100


def register() -> None:
    for name, count in PROFILES.items():
        settings.register_profile(name, max_examples=count)


def examples(count: int) -> int:
    """That many at `make test`, in proportion elsewhere."""
    return max(1, count * settings().max_examples // 100)

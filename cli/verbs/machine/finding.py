"""What a probe of `spear doctor` found."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """One thing looked at. `verdict`: ok, note (works, could be better), missing, or refused."""

    name: str
    verdict: str
    found: str
    advice: str = ""

"""Lists of names in a task's config: a JSON array or words between commas, with globs.

The rule: pure. A list that is not understood allows nothing and says so, it is never read as all.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache

import msgspec

from spear.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_NAMES_MAX = 1024


@lru_cache(maxsize=256)  # the few lists of a node's tasks are asked for in every call
def names_of(key: str, text: str) -> tuple[str, ...]:
    """The names that the value of `key` lists. Raises InvalidArgument."""
    found = _array(key, text) if text.lstrip().startswith("[") else text.split(",")
    names = tuple(name.strip() for name in found if name.strip())
    if len(names) > _NAMES_MAX:
        raise InvalidArgument(f"{key} lists {len(names)} names, the most is {_NAMES_MAX}")
    return names


def _array(key: str, text: str) -> list[str]:
    try:
        return msgspec.json.decode(text, type=list[str])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise InvalidArgument(
            f"{key}: expected names between commas or a JSON array of texts, found {text[:80]!r}"
        ) from None


def allows(patterns: Iterable[str], name: str) -> bool:
    """Whether one of them is the name, or a glob (`*`, `?`, `[...]`) that fits it."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)

"""Objects as callers outside of the process see them; keys are text, full keys (`shared/...` or
`/TASK/...`)."""

from __future__ import annotations

import msgspec


class ObjectInfo(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One object; `version` 64 bits, growing also over restarts; times in Unix milliseconds."""

    key: str
    size: int
    version: int
    created_ms: int = 0
    updated_ms: int = 0
    ref_count: int = 0
    pinned: bool = False
    metadata: dict[str, str] = {}
    durability: str = "volatile"


class ObjectChange(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a watcher hears: an object as it is, or as it was last before it went."""

    info: ObjectInfo
    deleted: bool = False  # also where it had to make room


class ObjectPage(msgspec.Struct, frozen=True):
    """Objects by key, and where to go on ("" at the end)."""

    objects: tuple[ObjectInfo, ...]
    next_start_after: str = ""

"""Objects of the fake node: a dict with versions, references and pins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

import msgspec

from spear.clock import Clock
from spear.errors import AlreadyExists, ObjectInUse, ObjectNotFound, VersionConflict
from spear.records.objects import ObjectChange, ObjectInfo, ObjectPage


class _Kept(NamedTuple):
    info: ObjectInfo
    value: bytes


class FakeObjects:
    """The part of a Node that is about objects."""

    def __init__(self, clock: Clock) -> None:
        self._objects: dict[str, _Kept] = {}
        self._version = 1 << 40
        self._now_ms = lambda: clock.now_ns() // 10**6

    def _found(self, key: str) -> _Kept:
        if key not in self._objects:
            raise ObjectNotFound(f"no object {key!r}")
        return self._objects[key]

    def _check(self, key: str, if_version: int | None) -> None:
        version = self._objects[key].info.version if key in self._objects else 0
        if if_version not in (None, version):
            raise VersionConflict(key.encode(), if_version or 0, version)

    async def put_object(
        self, key: str, value: bytes, *, metadata: Mapping[str, str] | None = None,
        overwrite: bool = True, if_version: int | None = None, durable: bool = False,
    ) -> ObjectInfo:  # fmt: skip
        self._check(key, if_version)
        known = self._objects.get(key)
        if known and not overwrite:
            raise AlreadyExists(f"object {key!r} is there already")
        self._version += 1
        now_ms = self._now_ms()
        info = ObjectInfo(
            key=key, size=len(value), version=self._version, updated_ms=now_ms,
            created_ms=known.info.created_ms if known else now_ms,
            ref_count=known.info.ref_count if known else 0,
            pinned=known.info.pinned if known else False, metadata=dict(metadata or {}),
            durability="power" if durable else "volatile",
        )  # fmt: skip
        self._objects[key] = _Kept(info, value)
        return info

    async def get_object(self, key: str) -> tuple[ObjectInfo, bytes]:
        return self._found(key)

    async def stat_object(self, key: str) -> ObjectInfo:
        return self._found(key).info

    async def list_objects(
        self, prefix: str = "", *, limit: int = 1000, start_after: str = ""
    ) -> ObjectPage:
        keys = sorted(k for k in self._objects if k.startswith(prefix) and k > start_after)
        shown = tuple(self._objects[key].info for key in keys[:limit])
        return ObjectPage(shown, shown[-1].key if len(keys) > limit else "")

    async def delete_object(
        self, key: str, *, force: bool = False, if_version: int | None = None
    ) -> None:
        info = self._found(key).info
        self._check(key, if_version)
        if (info.ref_count or info.pinned) and not force:
            raise ObjectInUse(f"object {key!r} is referenced or pinned")
        del self._objects[key]

    def _change(self, key: str, **fields: object) -> ObjectInfo:
        kept = self._found(key)
        info = msgspec.structs.replace(kept.info, **fields)
        self._objects[key] = _Kept(info, kept.value)
        return info

    async def add_object_ref(
        self, key: str, count: int = 1, *, if_version: int | None = None
    ) -> int:
        self._found(key)
        self._check(key, if_version)
        return self._change(key, ref_count=self._found(key).info.ref_count + count).ref_count

    async def remove_object_ref(
        self, key: str, count: int = 1, *, if_version: int | None = None
    ) -> tuple[int, bool]:
        self._found(key)
        self._check(key, if_version)
        left = max(0, self._found(key).info.ref_count - count)
        info = self._change(key, ref_count=left)
        gone = left == 0 and not info.pinned
        if gone:
            del self._objects[key]
        return left, gone

    async def pin_object(self, key: str, *, if_version: int | None = None) -> None:
        self._found(key)
        self._check(key, if_version)
        self._change(key, pinned=True)

    async def unpin_object(self, key: str, *, if_version: int | None = None) -> None:
        self._found(key)
        self._check(key, if_version)
        self._change(key, pinned=False)

    async def watch_objects(
        self, prefix: str = "", *, existing: bool = False
    ) -> AsyncIterator[ObjectChange]:
        seen = {} if existing else self._under(prefix)
        while True:
            now = self._under(prefix)
            for key, info in now.items():
                if key not in seen or seen[key].version != info.version:
                    yield ObjectChange(info=info)
            for key in seen.keys() - now.keys():
                yield ObjectChange(info=seen[key], deleted=True)
            seen = now
            await asyncio.sleep(0)

    def _under(self, prefix: str) -> dict[str, ObjectInfo]:
        return {key: kept.info for key, kept in self._objects.items() if key.startswith(prefix)}

    async def snapshot_objects(self, prefix: str = "") -> AsyncIterator[tuple[ObjectInfo, bytes]]:
        for key, kept in sorted(self._objects.copy().items()):
            if key.startswith(prefix):
                yield kept

    async def transact(
        self, reads: Mapping[str, int], writes: Mapping[str, bytes | None]
    ) -> dict[str, int]:
        for key, version in reads.items():
            self._check(key, version)
        versions = {}
        for key, value in writes.items():
            if value is None:
                self._objects.pop(key, None)
                versions[key] = 0
            else:
                versions[key] = (await self.put_object(key, value)).version
        return versions

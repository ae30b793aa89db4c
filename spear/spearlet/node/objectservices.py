"""The objects of a node, as its callers see them.

The rule: names in, records out; what happens is decided by objects.py. The calls that are made
most give its coroutines as they are.
"""

from __future__ import annotations

from spear.spearlet.node.answers import limit_of
from spear.spearlet.node.objectmoment import snapshot
from spear.spearlet.node.objects import key_of
from spear.spearlet.node.objectwatch import watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping
    from typing import Any

    from spear.records.objects import ObjectChange, ObjectInfo, ObjectPage
    from spear.spearlet.node.objects import NodeObjects


class ObjectServices:
    """Part of NodeServices."""

    _objects: NodeObjects

    def put_object(
        self, key: str, value: bytes, *, metadata: Mapping[str, str] | None = None,
        overwrite: bool = True, if_version: int | None = None, durable: bool = False,
    ) -> Coroutine[Any, Any, ObjectInfo]:  # fmt: skip
        return self._objects.put(key, value, metadata, overwrite, if_version, durable)

    def get_object(self, key: str) -> Coroutine[Any, Any, tuple[ObjectInfo, bytes]]:
        return self._objects.get(key)

    def stat_object(self, key: str) -> Coroutine[Any, Any, ObjectInfo]:
        return self._objects.stat(key)

    async def list_objects(
        self, prefix: str = "", *, limit: int = 1000, start_after: str = ""
    ) -> ObjectPage:
        return self._objects.list(prefix, limit_of(limit), start_after)

    async def delete_object(
        self, key: str, *, force: bool = False, if_version: int | None = None
    ) -> None:
        await self._objects.delete(key, force, if_version)

    async def add_object_ref(
        self, key: str, count: int = 1, *, if_version: int | None = None
    ) -> int:
        return await self._objects.add_ref(key, count, if_version)

    async def remove_object_ref(
        self, key: str, count: int = 1, *, if_version: int | None = None
    ) -> tuple[int, bool]:
        return await self._objects.remove_ref(key, count, if_version)

    async def pin_object(self, key: str, *, if_version: int | None = None) -> None:
        await self._objects.pin(key, True, if_version)

    async def unpin_object(self, key: str, *, if_version: int | None = None) -> None:
        await self._objects.pin(key, False, if_version)

    def watch_objects(
        self, prefix: str = "", *, existing: bool = False
    ) -> AsyncIterator[ObjectChange]:
        return watch(self._objects, key_of(prefix).decode(), existing)

    def snapshot_objects(self, prefix: str = "") -> AsyncIterator[tuple[ObjectInfo, bytes]]:
        return snapshot(self._objects, key_of(prefix))

    async def transact(
        self, reads: Mapping[str, int], writes: Mapping[str, bytes | None]
    ) -> dict[str, int]:
        return await self._objects.transact(reads, writes)

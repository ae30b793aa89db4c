"""A client's calls, straight into the table of methods: no socket, the same messages and statuses.

The rule: what crosses is bytes, as on a wire; an error crosses as its status. A test can have the
connection break: `broken` is how many of the next calls are lost, `kept` those that were made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from spear.client.caller import Lost
from spear.errors import SpearError
from spear.protocol.status import error_of, status_of
from spear.records.node import Node
from spear.spearlet.rpc.table import method_table


class TableCaller:
    def __init__(self, node: Node, *, answers_lost: int = 0, streams_cut_after: int = -1) -> None:
        self._node = node
        self._table = method_table(object_bytes_max=64 << 20, drain=node.drain)
        self._answers_lost, self._cut_after = answers_lost, streams_cut_after
        self.made: list[str] = []
        self.gone = False

    def _lose(self) -> None:
        """The answer to a call that was done goes astray, once for each of `answers_lost`."""
        if self._answers_lost:
            self._answers_lost -= 1
            self.gone = True
            raise Lost("the connection broke")

    async def call(self, path: str, request: bytes, deadline_ms: int) -> bytes:
        method = self._table[path]
        self.made.append(path)
        with _crossing():
            answer = await method.handler(self._node, method.read(request))
        self._lose()
        return method.write(answer)

    async def receive(self, path: str, request: bytes) -> AsyncIterator[bytes]:
        method = self._table[path]
        self.made.append(path)
        count = 0
        with _crossing():
            async for answer in method.handler(self._node, method.read(request)):
                if count == self._cut_after:
                    self._cut_after, self.gone = -1, True
                    raise Lost("the connection broke")
                count += 1
                yield method.write(answer)

    async def send(self, path: str, requests: AsyncIterator[bytes]) -> bytes:
        method = self._table[path]
        self.made.append(path)

        async def parsed() -> AsyncIterator[Any]:
            async for request in requests:
                yield method.read(request)

        with _crossing():
            answer = await method.handler(self._node, parsed())
        self._lose()
        return method.write(answer)

    async def close(self) -> None:
        self.gone = True


class _crossing:
    """Errors become statuses and errors again."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, SpearError) and not isinstance(error, Lost):
            raise error_of(status_of(error)) from None

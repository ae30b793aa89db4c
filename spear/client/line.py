"""A client's line to its node: made when it is needed, and anew when it was lost.

The rule: a call that was lost is made again once, if doing it twice is as good as once; a stream
only if nothing of it has come yet. All else fails with Lost, and is the caller's to judge.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from google.protobuf.message import DecodeError, Message

from spear.client.caller import Caller, Lost
from spear.errors import NodeClosed, SpearError
from spear.protocol.convert.mirror import Mirror

M = TypeVar("M", bound=Message)
R = TypeVar("R", bound=msgspec.Struct)
S = TypeVar("S", bound=msgspec.Struct)


class Line:
    """`dial` gives a new connection; `timeout_ms` is of a call, 0: none."""

    def __init__(self, dial: Callable[[], Awaitable[Caller]], timeout_ms: int = 0) -> None:
        self._dial, self.timeout_ms = dial, timeout_ms
        self._caller: Caller | None = None
        self._dialling = asyncio.Lock()
        self._closed = False

    async def ask(
        self, path: str, request: Message, answer: type[M], *, again: bool = True,
        deadline_ms: int | None = None,
    ) -> M:  # fmt: skip
        """One call. `again`: it may be made twice; `deadline_ms` instead of the line's own."""
        data = request.SerializeToString()
        found = await self.call(path, data, again=again, deadline_ms=deadline_ms)
        return parsed(answer, found)

    async def ask_record(
        self, path: str, request: R, kinds: tuple[Mirror[R, Any], Mirror[S, Any]], *,
        again: bool = True,
    ) -> S:  # fmt: skip
        """As `ask`, of records; `kinds`: of the request and of the answer."""
        asked, answer = kinds
        found = await self.call(path, asked.encode(request), again=again)
        try:
            return answer.decode(found)
        except DecodeError as error:
            raise unreadable(answer.kind, error) from error

    def call(
        self, path: str, data: bytes, *, again: bool = True, deadline_ms: int | None = None
    ) -> Awaitable[bytes]:
        """As `ask`, from bytes to bytes."""
        wanted_ms = self.timeout_ms if deadline_ms is None else deadline_ms
        caller = self._caller
        if again or caller is None or caller.gone:
            return self._call(path, data, again, wanted_ms)
        return caller.call(path, data, wanted_ms)

    async def _call(self, path: str, data: bytes, again: bool, wanted_ms: int) -> bytes:
        caller = self._caller
        if caller is None or caller.gone:
            caller = await self.connected()
        try:
            return await caller.call(path, data, wanted_ms)
        except Lost:
            if not again:
                raise
        caller = await self._connected_anew(caller)
        return await caller.call(path, data, wanted_ms)

    async def receive(
        self, path: str, request: Message, answer: type[M]
    ) -> AsyncGenerator[M, None]:
        """The messages of a stream; closing it gives it up at the node."""
        data = request.SerializeToString()
        caller = await self.connected()
        begun = False
        try:
            async for found in caller.receive(path, data):
                begun = True
                yield parsed(answer, found)
        except Lost:
            if begun:
                raise
        else:
            return
        caller = await self._connected_anew(caller)
        async for found in caller.receive(path, data):
            yield parsed(answer, found)

    async def send(
        self, path: str, requests: Callable[[], AsyncIterator[Message]], answer: type[M], *,
        again: bool,
    ) -> M:  # fmt: skip
        """One call whose request is a stream; `requests` begins it, `again` says that it can begin
        a second time."""
        caller = await self.connected()
        try:
            found = await caller.send(path, _serialized(requests()))
        except Lost:
            if not again:
                raise
            caller = await self._connected_anew(caller)
            found = await caller.send(path, _serialized(requests()))
        return parsed(answer, found)

    async def connected(self) -> Caller:
        """Raises Unreachable, Unauthenticated, PermissionDenied; NodeClosed after `close`."""
        async with self._dialling:
            if self._closed:
                raise NodeClosed("the client is closed")
            if self._caller is not None and self._caller.gone:
                await self._drop()
            if self._caller is None:
                self._caller = await self._dial()
            return self._caller

    async def _connected_anew(self, lost: Caller) -> Caller:
        """Another connection than the lost one, which somebody may have made meanwhile."""
        async with self._dialling:
            if self._caller is lost:
                await self._drop()
        return await self.connected()

    async def _drop(self) -> None:
        caller, self._caller = self._caller, None
        if caller is not None:
            await caller.close()

    async def close(self) -> None:
        async with self._dialling:
            self._closed = True
            await self._drop()


async def _serialized(messages: AsyncIterator[Message]) -> AsyncGenerator[bytes, None]:
    async for message in messages:
        yield message.SerializeToString()


def parsed(kind: type[M], data: bytes) -> M:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise unreadable(kind, error) from error


def unreadable(kind: type[Message], error: DecodeError) -> SpearError:
    """Of an answer that is to be a message of this kind."""
    return SpearError(f"what the node sent is no {kind.DESCRIPTOR.full_name}: {error}")

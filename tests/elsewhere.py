"""A node that lives on a loop of its own, in a thread, and is called from any other loop.

The rule: it stands between a command, which has a loop for each of its calls, and a fake node,
which must outlive them. A call that is cancelled here is cancelled there.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from fake_node import FakeNode


class Elsewhere:
    """Its thread ends with `close`. `do` runs a coroutine there and waits for it."""

    def __init__(self, make: Callable[[], FakeNode]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.node = self.do(self._made(make))

    async def _made(self, make: Callable[[], FakeNode]) -> FakeNode:
        return make()

    def do(self, call: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result(60)

    async def there(self, call: Coroutine[Any, Any, Any]) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self._loop))

    def close(self) -> None:
        self.do(self.node.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Remote:
    """The node as another loop sees it: every method of it, and none of its own."""

    def __init__(self, elsewhere: Elsewhere) -> None:
        self._elsewhere = elsewhere

    async def __aenter__(self) -> Remote:
        return self

    async def __aexit__(self, *error: object) -> None:
        return None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._elsewhere.node, name)
        if inspect.iscoroutinefunction(method):
            return lambda *args, **given: self._call(method, args, given)
        return lambda *args, **given: self._stream(method(*args, **given))

    async def _call(self, method: Callable[..., Any], args: Any, given: dict[str, Any]) -> Any:
        for name, value in given.items():
            if hasattr(value, "__aiter__"):  # what comes from the caller's loop is gathered here
                given[name] = b"".join([part async for part in value])
        own = [
            b"".join([part async for part in arg]) if hasattr(arg, "__aiter__") else arg
            for arg in args
        ]
        return await self._elsewhere.there(method(*own, **given))

    async def _stream(self, source: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async def following() -> Any:
            return await anext(source)

        try:
            while True:
                try:
                    item = await self._elsewhere.there(following())
                except StopAsyncIteration:
                    return
                yield item
        finally:
            await self._elsewhere.there(source.aclose())  # type: ignore[attr-defined]

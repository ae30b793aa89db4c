"""The client for callers without an event loop.

The rule: a loop of its own runs in a thread; a caller's thread waits there for its call, and an
interrupt of it cancels the call before it goes on. Any number of threads may call at once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar

from spear.client.client import Client
from spear.errors import NodeClosed

P = ParamSpec("P")
R = TypeVar("R")
_CANCEL_S: Final = 5.0


def _call(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[SyncClient, P], R]:
    def call(self: SyncClient, /, *args: P.args, **given: P.kwargs) -> R:
        return self._run(method(self._client, *args, **given))

    call.__name__, call.__doc__ = method.__name__, method.__doc__
    return call


def _stream(
    method: Callable[Concatenate[Client, P], AsyncGenerator[R, None]],
) -> Callable[Concatenate[SyncClient, P], Iterator[R]]:
    def stream(self: SyncClient, /, *args: P.args, **given: P.kwargs) -> Iterator[R]:
        source = method(self._client, *args, **given)
        try:
            while True:
                try:
                    item = self._run(_next(source))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self._run(source.aclose())

    stream.__name__, stream.__doc__ = method.__name__, method.__doc__
    return stream


async def _next(source: AsyncIterator[R]) -> R:
    return await anext(source)


class _UnderWay(Generic[R]):
    """A call in the loop's thread, where `start` and `give_up` run, in this order or the other:
    an interrupt can come before the caller knows that it has begun."""

    def __init__(self, call: Coroutine[Any, Any, R]) -> None:
        self._call = call
        self._task: asyncio.Task[R] | None = None
        self._given_up = False
        self.result: concurrent.futures.Future[R] = concurrent.futures.Future()
        self.ended = threading.Event()

    def start(self) -> None:
        if not self._given_up:
            self._task = asyncio.ensure_future(self._call)
            self._task.add_done_callback(self._done)

    def give_up(self) -> None:
        self._given_up = True
        if self._task is None:
            self._call.close()
            self.ended.set()
        else:
            self._task.cancel()

    def _done(self, task: asyncio.Task[R]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            self.result.set_exception(error)
        else:
            self.result.set_result(task.result())
        asyncio.get_running_loop().call_soon(self.ended.set)  # after what the end has to say


class SyncClient:
    """As Client, method for method. Close it at the end, or use it as a context manager."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="spear", daemon=True)
        self._thread.start()

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection and the thread; more than once does nothing."""
        if self._loop.is_closed():
            return
        try:
            self._run(self._client.close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _run(self, call: Coroutine[Any, Any, R]) -> R:
        if self._loop.is_closed():
            call.close()
            raise NodeClosed("the client is closed")
        under_way = _UnderWay(call)
        try:
            self._loop.call_soon_threadsafe(under_way.start)
            return under_way.result.result()
        except BaseException:
            if not under_way.result.done():  # an interrupt came to this thread, not to the call
                self._loop.call_soon_threadsafe(under_way.give_up)
                under_way.ended.wait(_CANCEL_S)
            raise

    put_artifact = _call(Client.put_artifact)
    artifact = _call(Client.artifact)
    artifacts = _call(Client.artifacts)
    read_artifact = _stream(Client.read_artifact)
    delete_artifact = _call(Client.delete_artifact)
    register = _call(Client.register)
    update = _call(Client.update)
    task = _call(Client.task)
    tasks = _call(Client.tasks)
    set_task_status = _call(Client.set_task_status)
    unregister = _call(Client.unregister)
    invoke = _call(Client.invoke)
    submit = _call(Client.submit)
    execution = _call(Client.execution)
    executions = _call(Client.executions)
    wait = _call(Client.wait)
    watch = _stream(Client.watch)
    cancel = _call(Client.cancel)
    remove = _call(Client.remove)
    read_result = _stream(Client.read_result)
    logs = _stream(Client.logs)
    instances = _call(Client.instances)
    destroy_instance = _call(Client.destroy_instance)
    put_object = _call(Client.put_object)
    get_object = _call(Client.get_object)
    stat_object = _call(Client.stat_object)
    list_objects = _call(Client.list_objects)
    delete_object = _call(Client.delete_object)
    add_object_ref = _call(Client.add_object_ref)
    remove_object_ref = _call(Client.remove_object_ref)
    pin_object = _call(Client.pin_object)
    unpin_object = _call(Client.unpin_object)
    watch_objects = _stream(Client.watch_objects)
    snapshot_objects = _stream(Client.snapshot_objects)
    transact = _call(Client.transact)
    add_schedule = _call(Client.add_schedule)
    schedule = _call(Client.schedule)
    schedules = _call(Client.schedules)
    remove_schedule = _call(Client.remove_schedule)
    models = _call(Client.models)
    test_model = _call(Client.test_model)
    info = _call(Client.info)
    stats = _call(Client.stats)
    collect_garbage = _call(Client.collect_garbage)
    backup = _call(Client.backup)
    drain = _call(Client.drain)
    connect = _call(Client.connect)

"""A chat whose answer comes in pieces: a task a stream, from the model into the guest's channel.

The rule: a guest that does not read holds its model up, and nothing gathers here; a guest that
closes the stream, or ends, ends the request. The last event is in the channel before the stream is
over. A stream never changes its session.
"""

from __future__ import annotations

import asyncio
from errno import EIO

from spear._core.endpoints import Channel
from spear._core.handles import CHAT_STREAM, Handle
from spear.errors import ChannelClosed, ModelError
from spear.hostcalls.agent import Agent
from spear.hostcalls.llm.asking import Asking
from spear.hostcalls.llm.documents import (
    NO_METRICS,
    Metrics,
    delta_events,
    end_events,
    error_event,
    failure_of,
    success,
)
from spear.hostcalls.llm.request import Delta
from spear.hostcalls.llm.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear._core.door import Call

EVENTS_MAX = 64  # that wait for a guest
EVENT_BYTES_MAX = 32 << 20  # all tool calls of an answer are one event


class Streams:
    """All streams of a node's agents; on one event loop."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, call: Call, agent: Agent, session: Session, *, metrics: bool) -> Handle:
        """The request begins; the answer is read from the handle. Raises SessionFull."""
        let_go = session.hold_for_stream()
        channel = Channel(items_max=EVENTS_MAX, bytes_max=EVENT_BYTES_MAX)
        task: asyncio.Task[None]
        handle = Handle(CHAT_STREAM, channel=channel, closed=lambda _: task.cancel())
        stream = _Stream(self._asking, call, handle, channel)
        task = asyncio.get_running_loop().create_task(stream.run(agent, session, metrics))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        task.add_done_callback(lambda _: let_go())
        return handle

    def __len__(self) -> int:
        return len(self._tasks)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            task.get_loop().call_exception_handler(
                {"message": "a stream of a model's answer failed", "exception": error}
            )


class _Stream:
    """One of them."""

    def __init__(self, asking: Asking, call: Call, handle: Handle, channel: Channel) -> None:
        self._asking, self._call, self._handle, self._channel = asking, call, handle, channel

    async def run(self, agent: Agent, session: Session, metrics: bool) -> None:
        try:
            await self._run(agent, session, metrics)
        except ChannelClosed:
            pass  # the guest has closed it
        except Exception as error:
            self._call.log(4, f"cchat_stream failed: {type(error).__name__}: {error}")
            raise
        finally:
            self._channel.close()
            self._handle.finish(-EIO, b"")  # counts only where nothing came before

    async def _run(self, agent: Agent, session: Session, metrics: bool) -> None:
        began_ns, sums = self._asking.now_ns(), Metrics()
        try:
            reply = await self._asking.stream(agent, session, self._deliver)
        except ModelError as error:
            self._call.log(3, f"cchat_stream: {error}")
            await self._channel.put(error_event(error))
            self._handle.finish(0, failure_of(error), NO_METRICS)
            return
        sums.add(reply)
        for event in end_events(reply):
            await self._channel.put(event)
        about = sums.document(self._asking.now_ns() - began_ns) if metrics else NO_METRICS
        self._handle.finish(0, success(reply), about)

    async def _deliver(self, piece: Delta) -> None:
        for event in delta_events(piece.content):
            await self._channel.put(event)

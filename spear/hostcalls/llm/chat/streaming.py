"""A chat whose answer comes in pieces: a task a stream, from the model into the guest's channel.

The rule: a guest that does not read holds its model up, and no more than HELD_MAX events gather
here; a guest that closes the stream, or ends, ends the request. The last event is in the channel
before the stream is over. A stream never changes its session. What comes for many guests goes to
them together, at the end of the loop's turn and not more often than every PAUSE_S: to wake a
thread for each of them would cost more than all else about a piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from errno import EIO

from spear._core.endpoints import Channel, Together
from spear._core.handles import CHAT_STREAM, Handle
from spear._core.outlets import Outlet
from spear.errors import ChannelClosed, ModelError
from spear.hostcalls.agent import Agent
from spear.hostcalls.llm.chat.asking import Asking
from spear.hostcalls.llm.chat.documents import (
    NO_METRICS,
    PIECE_CHARACTERS,
    Metrics,
    delta_event,
    delta_events,
    end_events,
    error_event,
    failure_of,
    success,
)
from spear.hostcalls.llm.chat.session import Session
from spear.hostcalls.llm.request import Delta

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear._core.door import Call

EVENTS_MAX = 64  # that wait for a guest
EVENT_BYTES_MAX = 32 << 20  # all tool calls of an answer are one event
PAUSE_S = 0.002  # far less than lies between two pieces of one model
HELD_MAX = 16  # events of one stream that wait for that


class Streams:
    """All streams of a node's agents; on one event loop."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = _Turn()

    def open(self, call: Call, agent: Agent, session: Session, *, metrics: bool) -> Handle:
        """The request begins; the answer is read from the handle. Raises SessionFull."""
        let_go = session.hold_for_stream()
        channel = Channel(items_max=EVENTS_MAX, bytes_max=EVENT_BYTES_MAX)
        task: asyncio.Task[None]
        handle = Handle(CHAT_STREAM, channel=channel, closed=lambda _: task.cancel())
        events = _Events(channel, self._turn.due, self._turn.add, HELD_MAX)
        stream = _Stream(self._asking, call, handle, events)
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


class _Turn:
    """Those that have events for their guests when this turn of the loop ends or, where the last
    ones went just now, PAUSE_S after those."""

    def __init__(self) -> None:
        self.due: list[_Events] = []
        self._together = Together()
        self._next_s = 0.0  # of the loop's time

    def add(self, events: _Events) -> None:
        if not self.due:
            loop = asyncio.get_running_loop()
            wait_s = self._next_s - loop.time()
            if wait_s > 0:
                loop.call_later(wait_s, self._end, loop)
            else:
                loop.call_soon(self._end, loop)
        self.due.append(events)

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        self._next_s = loop.time() + PAUSE_S
        due = self.due.copy()
        self.due.clear()
        with self._together:
            for events in due:
                events.go()


class _Events(Outlet):
    """On their way into one guest's channel, in order; pieces of plain text may come natively."""

    __slots__ = ()

    @property
    def outlet(self) -> Outlet:
        return self

    def __call__(self, piece: Delta) -> Awaitable[None] | None:
        """To be waited for where there is something to wait for."""
        content = piece.content
        if 0 < len(content) <= PIECE_CHARACTERS:  # nearly every one
            self.hold(delta_event(content))
        else:
            for event in delta_events(content):
                self.hold(event)
        if self.moving is not None or len(self.held) > HELD_MAX:
            self.go()
            return self.moving
        return None

    async def put(self, event: bytes) -> None:
        """At once, behind what is held."""
        self.hold(event)
        await self.all_there()

    async def all_there(self) -> None:
        """Waits until the channel has all of it."""
        self.go()
        if self.moving is not None:
            await self.moving

    def follow(self) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(self._follow())

    def close(self) -> None:
        """Nothing more is taken; what is in the channel can still be read."""
        self.channel.close()
        if self.moving is not None:
            self.moving.cancel()

    async def _follow(self) -> None:
        try:
            while self.held:
                await self.channel.put(self.held[0])
                del self.held[0]
        except ChannelClosed:
            self.held.clear()
        finally:
            self.moving = None


class _Stream:
    """One of them."""

    def __init__(self, asking: Asking, call: Call, handle: Handle, events: _Events) -> None:
        self._asking, self._call, self._handle, self._events = asking, call, handle, events

    async def run(self, agent: Agent, session: Session, metrics: bool) -> None:
        try:
            await self._run(agent, session, metrics)
        except ChannelClosed:
            pass  # the guest has closed it
        except Exception as error:
            self._call.log(4, f"cchat_stream failed: {type(error).__name__}: {error}")
            raise
        finally:
            self._events.close()
            self._handle.finish(-EIO, b"")  # counts only where nothing came before

    async def _run(self, agent: Agent, session: Session, metrics: bool) -> None:
        began_ns, sums = self._asking.now_ns(), Metrics()
        try:
            reply = await self._asking.stream(agent, session, self._events)
        except ModelError as error:
            self._call.log(3, f"cchat_stream: {error}")
            await self._events.put(error_event(error))
            self._handle.finish(0, failure_of(error), NO_METRICS)
            return
        sums.add(reply)
        for event in end_events(reply):
            await self._events.put(event)
        about = sums.document(self._asking.now_ns() - began_ns) if metrics else NO_METRICS
        self._handle.finish(0, success(reply), about)

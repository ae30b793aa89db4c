"""What the fuzzers' handlers say to calls of chat and tasks: handles that end at any moment.

Rule: the kind of a call's handle is the call's; all else depends on its arguments and on how many
were given before, so that a seed finds the same again where threads let it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from typing import Any

from spear._core.door import Call
from spear._core.endpoints import Channel
from spear._core.handles import CHAT_RESPONSE, CHAT_SESSION, CHAT_STREAM, TASK_CALL, Handle
from spear.errors import ChannelClosed, QueueFull
from spear.hostcalls.table import by_import

SEND = by_import("cchat_send").op or 0
OPENS = {
    by_import("cchat_create").op or 0: CHAT_SESSION, SEND: CHAT_RESPONSE,
    by_import("cchat_stream").op or 0: CHAT_STREAM, by_import("embed_send").op or 0: CHAT_RESPONSE,
    by_import("task_invoke").op or 0: TASK_CALL,
}  # fmt: skip
OPS = (
    *OPENS,
    *(by_import(name).op or 0
      for name in ("cchat_write_msg", "cchat_write_fn", "cchat_ctl", "task_cancel")),
)  # fmt: skip


class Handles:
    """Makes them, and counts which were closed: in the end, all."""

    def __init__(self) -> None:
        self.asked, self.made, self.closed = 0, 0, 0

    def answer(self, call: Call, rng: random.Random) -> Any:
        self.asked += 1
        kind = OPENS.get(call.op)
        if kind is None or rng.random() < 0.1:
            return rng.randrange(-5, 5)
        channel = Channel(items_max=4, bytes_max=4096) if kind == CHAT_STREAM else None
        handle = Handle(kind, call.context, channel=channel, closed=self._close)
        self.made += 1
        end = rng.random()
        if end < 0.5:
            self._go_on(handle, channel, rng)
        elif end < 0.7:
            asyncio.get_running_loop().call_soon(self._go_on, handle, channel, rng)
        elif end < 0.75:
            threading.Thread(target=self._go_on, args=(handle, channel, rng)).start()
        return handle

    def _close(self, handle: Handle) -> None:
        self.closed += 1

    def _go_on(self, handle: Handle, channel: Channel | None, rng: random.Random) -> None:
        for _ in range(rng.randrange(6) if channel is not None else 0):
            with contextlib.suppress(ChannelClosed, QueueFull):
                channel.put_nowait(rng.randbytes(rng.choice((1, 8, 1000))))
        if rng.random() < 0.8:
            size = rng.choice((0, 2, 100, 70_000))
            handle.finish(rng.choice((0, 0, 0, -5)), rng.randbytes(size), rng.choice((b"{}", b"")))

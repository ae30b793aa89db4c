"""A transport whose other end is the test: it hands frames over, and keeps what is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any


class Wire:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.receiver: Any = None
        self.paused = False

    def start(self, receiver: Any) -> None:
        self.receiver = receiver

    def send(self, bodies: Sequence[bytes]) -> None:
        self.sent.extend(bodies)

    def taken(self) -> list[bytes]:
        """What was sent since the last time."""
        sent, self.sent = self.sent, []
        return sent

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        asyncio.get_running_loop().call_soon(self.receiver.connection_lost, None)

"""A bounded message queue in plain Python: what endpoints.Channel does, without threads."""

from __future__ import annotations

from collections import deque


class Full(Exception):
    pass


class Closed(Exception):
    pass


class NeverFits(Exception):
    pass


class Channel:
    """At most `items_max` messages, of `bytes_max` bytes in all."""

    def __init__(self, items_max: int, bytes_max: int, drop_oldest: bool) -> None:
        self.items_max, self.bytes_max, self.drop_oldest = items_max, bytes_max, drop_oldest
        self.items: deque[bytes] = deque()
        self.dropped = 0
        self.closed = self.failed = False

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.items))

    def put(self, item: bytes) -> None:
        if self.closed:
            raise Closed
        if len(item) > self.bytes_max:
            raise NeverFits
        while not self._fits(item):
            if not self.drop_oldest:
                raise Full
            self.items.popleft()
            self.dropped += 1
        self.items.append(item)

    def _fits(self, item: bytes) -> bool:
        return len(self.items) < self.items_max and self.size_bytes + len(item) <= self.bytes_max

    def get(self) -> bytes | None:
        return self.items.popleft() if self.items else None

    def close(self) -> None:
        self.closed = True

    def fail(self) -> None:
        self.closed = self.failed = True

    def drop(self) -> None:
        self.dropped += len(self.items)
        self.items.clear()

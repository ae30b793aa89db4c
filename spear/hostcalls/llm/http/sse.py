"""Reads server-sent events out of bytes, however the chunks fall.

The rule: as the HTML standard says it (section 9.2.6), without decoding: bytes in, events as
(type, data) in bytes out. Ids, retry times and comments are read over; an event that the end of
the stream cuts off is none.
"""

from __future__ import annotations

from spear.errors import ModelGarbled
from spear.hostcalls.llm.http.lines import LINE_BYTES_MAX, Lines

Event = tuple[bytes, bytes]


class SseParser:
    """`bytes_max` bounds a line and the data of an event."""

    __slots__ = ("_bytes_max", "_data", "_lines", "_size", "_type")

    def __init__(self, bytes_max: int = LINE_BYTES_MAX) -> None:
        self._lines = Lines(any_end=True, bytes_max=bytes_max)
        self._bytes_max = bytes_max
        self._type = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` ends. Raises ModelGarbled."""
        if data.startswith(b"data: ") and data.endswith(b"\n\n") and self._between():
            value = data[6:-2]  # one whole event, as most chunks are: a third of the time
            if b"\n" not in value and b"\r" not in value and len(value) <= self._bytes_max:
                return [(b"", value)]
        events: list[Event] = []
        for line in self._lines.feed(data):
            if not line:
                if self._data:
                    events.append((self._type, b"\n".join(self._data)))
                    self._data, self._size = [], 0
                self._type = b""
            elif line.startswith(b"data: "):  # nearly all of them
                self._add(line[6:])
            else:
                self._field(line)
        return events

    def _between(self) -> bool:
        """No event has begun."""
        return not self._data and not self._type and self._lines.begun

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._add(value)
        elif name == b"event":
            self._type = value

    def _add(self, value: bytes) -> None:
        self._size += len(value) + 1
        if self._size > self._bytes_max + 1:
            raise ModelGarbled(f"an event of the answer is longer than {self._bytes_max} bytes")
        self._data.append(value)

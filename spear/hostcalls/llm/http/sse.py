"""Reads server-sent events out of bytes, however the chunks fall.

The rule: as the HTML standard says it (section 9.2.6), without decoding: bytes in, events as
(type, data) in bytes out. Ids, retry times and comments are read over; an event that the end of
the stream cuts off is none.
"""

from __future__ import annotations

from spear.errors import ModelGarbled
from spear.hostcalls.llm.http.lines import LINE_BYTES_MAX, Lines

_CR = 0x0D
Event = tuple[bytes, bytes]


class SseParser:
    """`bytes_max` bounds a line and the data of an event."""

    __slots__ = ("_between", "_bytes_max", "_data", "_lines", "_size", "_type")

    def __init__(self, bytes_max: int = LINE_BYTES_MAX) -> None:
        self._lines = Lines(any_end=True, bytes_max=bytes_max)
        self._bytes_max = bytes_max
        self._type = b""
        self._data: list[bytes] = []
        self._size = 0
        self._between = False  # no event has begun

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` ends. Raises ModelGarbled."""
        values = self._plain(data) if self._between else None
        if values is not None:
            return [(b"", value) for value in values]
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
        self._between = not self._data and not self._type and self._lines.begun
        return events

    @property
    def between(self) -> bool:
        """The next byte begins an event."""
        return self._between

    def _plain(self, data: bytes) -> list[bytes] | None:
        """Of whole events of one line each, as nearly all that comes is: a third of the time."""
        if not (data.startswith(b"data: ") and data.endswith(b"\n\n")):
            return None
        # As a number: bytes that are looked for in bytes fail first to be one, for microseconds.
        if _CR in data or len(data) > self._bytes_max:
            return None
        if data.find(b"\n") == len(data) - 2:
            return [data[6:-2]]
        values = data[6:-2].split(b"\n\ndata: ")
        return values if data.count(b"\n") == 2 * len(values) else None

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

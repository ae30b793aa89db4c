"""Cuts a stream of bytes into lines, however the chunks fall.

The rule: no socket, no decoding; a line comes out once its end is there, and one that grows beyond
the limit raises, so that what is kept is bounded. Time is linear in the bytes.
"""

from __future__ import annotations

from spear.errors import ModelGarbled

LINE_BYTES_MAX = 16 * 1024**2
_BOM = b"\xef\xbb\xbf"


class Lines:
    """Ends are LF alone (`json_lines`), or any of LF, CR and CRLF, as server-sent events have
    them. A mark of the byte order before the first line is dropped."""

    __slots__ = ("_any_end", "_bytes_max", "_cr", "_first", "_open")

    def __init__(self, *, any_end: bool, bytes_max: int = LINE_BYTES_MAX) -> None:
        self._any_end, self._bytes_max = any_end, bytes_max
        self._open = bytearray()  # the line that has not ended
        self._cr = False  # the last chunk ended with CR: an LF now belongs to it
        self._first = True

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` ends, without their ends. Raises ModelGarbled."""
        if self._cr and data:
            self._cr = False
            if data[0] == 0x0A:
                data = data[1:]
        if not data:
            return []
        lines = self._cut(data)
        rest = lines.pop()
        if self._open and lines:
            lines[0] = bytes(self._open) + lines[0]
            self._open.clear()
        self._open += rest
        if len(self._open) > self._bytes_max or (lines and len(lines[0]) > self._bytes_max):
            raise ModelGarbled(f"a line of the answer is longer than {self._bytes_max} bytes")
        if self._first and lines:
            self._first = False
            lines[0] = lines[0].removeprefix(_BOM)
        return lines

    @property
    def begun(self) -> bool:
        """Lines came, and all that came are whole."""
        return not (self._open or self._cr or self._first)

    def rest(self) -> bytes:
        """What came after the last end of a line."""
        return bytes(self._open.removeprefix(_BOM) if self._first else self._open)

    def _cut(self, data: bytes) -> list[bytes]:
        """The last one is the beginning of the next line."""
        if not self._any_end:
            return data.split(b"\n")
        lines = data.splitlines()  # of bytes: at LF, CR and CRLF, and nowhere else
        last = data[-1]
        if last == 0x0A or last == 0x0D:
            self._cr = last == 0x0D
            lines.append(b"")
        return lines

"""Reads one HTTP/1.1 response out of bytes: status, headers, body.

The rule: no socket; llhttp (through httptools) knows the grammar, this file the limits: of what is
not body (a head, framing, trailers) at most HEAD_BYTES_MAX bytes in a row, of all bytes what the
caller says. Damage raises ModelGarbled and says nothing of what was sent.
"""

from __future__ import annotations

from functools import partial

import httptools

from spear.errors import ModelGarbled

HEAD_BYTES_MAX = 64 * 1024
_SIZED = frozenset(("content-length", "transfer-encoding"))


class Response:
    """`status` is 0 until the head is whole. Header names are in lower case; of equal ones the
    first counts. `complete` says that the body ended."""

    def __init__(self, bytes_max: int) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self.reusable = False  # once complete: the connection can take the next request
        self.buffered = 0  # bytes of the body that nobody took yet
        self._fresh: list[bytes] = []  # of the body, in the bytes that are looked at
        self.on_body = self._fresh.append  # for llhttp: no function of Python's for every chunk
        self._between = [False]  # the last of the body that came was the end of a chunk
        self.on_chunk_header = partial(self._between.__setitem__, 0, False)
        self.on_chunk_complete = partial(self._between.__setitem__, 0, True)
        self._line_ended = False
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self.received = 0
        self._bytes_max, self._idle = bytes_max, 0

    def feed(self, data: bytes) -> None:
        """Raises ModelGarbled; the response is of no use then."""
        if self.complete:
            self.reusable = False  # nobody asked for what comes now
            return
        self._line_ended = data.endswith(b"\n")
        self.received += len(data)
        self._idle += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._whole():  # else it is damage behind the answer
                raise ModelGarbled("the answer is not HTTP/1.1") from None
            self.reusable = False
        fresh = self._fresh
        if fresh:
            piece = fresh[0] if len(fresh) == 1 else b"".join(fresh)
            fresh.clear()
            self._pieces.append(piece)
            self.buffered += len(piece)
            self._idle = 0
        if self._idle > HEAD_BYTES_MAX and not self._whole():
            raise ModelGarbled(f"the answer's headers are longer than {HEAD_BYTES_MAX} bytes")
        if self.received > self._bytes_max:
            raise ModelGarbled(f"the answer is larger than {self._bytes_max} bytes")

    @property
    def between(self) -> bool:
        """The body is in chunks, and the next byte begins one."""
        return self._between[0] and self._line_ended and not self.complete

    @property
    def bytes_left(self) -> int:
        return self._bytes_max - self.received

    def passed_by(self, size: int) -> None:
        """So many bytes came where it was `between`, in whole chunks, and were taken elsewhere."""
        if size:
            self.received += size
            self._idle = 0

    def end(self) -> None:
        """The peer sends no more. Raises ModelGarbled where that cuts the answer off."""
        if self.status == 0 or not _SIZED.isdisjoint(self.headers):
            raise ModelGarbled("the answer broke off")
        self.complete = True

    def take(self) -> bytes:
        """What came of the body since the last time."""
        pieces, self._pieces, self.buffered = self._pieces, [], 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _whole(self) -> bool:
        return self.complete

    # What llhttp calls.

    def on_message_begin(self) -> None:
        if self.complete:  # a second answer in the same bytes
            self.reusable = False
            raise ModelGarbled("two answers came to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:
            key = name.decode("latin-1").lower()
            self.headers.setdefault(key, value.decode("latin-1").strip())

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self.status = status
        else:
            self.headers.clear()  # an interim answer: the real one follows

    def on_message_complete(self) -> None:
        if self.status:
            self.complete = True
            self.reusable = self._parser.should_keep_alive()

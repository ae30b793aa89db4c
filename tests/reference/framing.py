"""Frames in plain Python: what `spear._core.framing` must give, written the obvious way.

Rule: short enough to be seen right; the oracle of the property tests and the benchmarks' baseline.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from spear.errors import FrameError, InvalidArgument

PREFIX = struct.Struct("<Q")


class FrameDecoder:
    def __init__(self, frame_bytes_max: int) -> None:
        self.frame_bytes_max = frame_bytes_max
        self.failed = False
        self._bytes = bytearray()

    @property
    def buffered(self) -> int:
        return len(self._bytes)

    def receive(self, chunk: bytes) -> list[bytes]:
        self._check()
        self._bytes += chunk
        frames: list[bytes] = []
        at = 0
        while len(self._bytes) - at >= PREFIX.size:
            (length,) = PREFIX.unpack_from(self._bytes, at)
            if length > self.frame_bytes_max:
                self.failed = True
                self._bytes.clear()
                if not frames:
                    self._check()
                return frames
            end = at + PREFIX.size + length
            if end > len(self._bytes):
                break
            frames.append(bytes(self._bytes[at + PREFIX.size : end]))
            at = end
        del self._bytes[:at]
        return frames

    def _check(self) -> None:
        if self.failed:
            raise FrameError("the peer announced a frame beyond the limit")


def encode(payload: bytes, frame_bytes_max: int = 64 << 20) -> bytes:
    if len(payload) > frame_bytes_max:
        raise InvalidArgument("the payload is beyond the limit")
    return PREFIX.pack(len(payload)) + payload


def encode_many(payloads: Iterable[bytes], frame_bytes_max: int = 64 << 20) -> bytes:
    return b"".join(encode(payload, frame_bytes_max) for payload in payloads)

"""SSF v1 frames in plain Python: what a frame is, and one made."""

from __future__ import annotations

import struct

HEADER = struct.Struct("<4sHHHHIQII")
FRAME_BYTES = 256 << 10
DATA = 2


def frame(
    stream_id: int, data: bytes = b"", *, meta: bytes = b"", seq: int = 0, header: bytes = b""
) -> bytes:
    """One frame; `header` are bytes that a longer header has."""
    size = HEADER.size + len(header)
    fixed = HEADER.pack(b"SPST", 1, size, DATA, 0, stream_id, seq, len(meta), len(data))
    return fixed + header + meta + data


def stream_of(data: bytes) -> int | None:
    """The stream id of a whole frame; None if the bytes are none."""
    if len(data) < HEADER.size:
        return None
    magic, version, header_len, _, _, stream_id, _, meta_len, data_len = HEADER.unpack_from(data)
    if magic != b"SPST" or version != 1 or header_len < HEADER.size:
        return None
    return stream_id if header_len + meta_len + data_len == len(data) else None

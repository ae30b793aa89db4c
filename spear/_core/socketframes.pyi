from typing import Final

from spear._core.framing import FrameDecoder

SMALL_BYTES: Final[int]

def read_frames(decoder: FrameDecoder, fd: int) -> list[bytes] | None: ...
def send_frame(fd: int, payload: bytes) -> int: ...

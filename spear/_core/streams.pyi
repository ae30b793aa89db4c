"""User streams: what a frame is; the rest is for native modules."""

FRAME_BYTES: int  # a frame's limit

def check_frame(frame: bytes) -> int:
    """The stream id in the header of an SSF v1 frame. Raises InvalidArgument where the bytes are
    not one whole frame of at most FRAME_BYTES."""

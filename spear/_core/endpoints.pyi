"""Python's ends of channels and user streams; see endpoints.pyx."""

from collections.abc import Coroutine
from typing import Any, final

@final
class Channel:
    """A bounded queue of whole messages: at most `items_max`, of `bytes_max` bytes in all.

    When it is full a put is refused or, with `drop_oldest`, the oldest messages go and are counted.
    Any thread may use it. The coroutines wait on the thread's event loop; where none runs they are
    driven by `spear.runtime.waiting.drive`.
    """

    def __init__(
        self, *, items_max: int = 1024, bytes_max: int = 1 << 20, drop_oldest: bool = False
    ) -> None: ...
    def put_nowait(self, item: bytes) -> None:
        """Copies `item` in. Raises QueueFull, ChannelClosed, InvalidArgument (it never fits)."""

    def put_some(self, items: list[bytes]) -> None:
        """Copies in as many as there is room for, in their order, and takes those out of the list.
        Who reads is told once. Raises ChannelClosed, InvalidArgument (the first one that is left
        never fits)."""

    def put(self, item: bytes) -> Coroutine[Any, Any, None]:
        """As put_nowait, but waits for room."""

    def get_nowait(self) -> bytes | None:
        """The first message; None if there is none now."""

    def get(self) -> Coroutine[Any, Any, bytes | None]:
        """The first message, waited for; None once closed and empty."""

    def fail(self) -> None:
        """Marks it as in error: it takes no more, what is in it can still be read."""

    def close(self) -> None:
        """Takes no more; what is in it can still be read. Idempotent."""

    def drop(self, older_s: float = 0.0) -> None:
        """Drops, and counts, the messages that are in it longer than so."""

    @property
    def closed(self) -> bool:
        """Takes no more, by `close` or `fail`."""
    @property
    def failed(self) -> bool: ...
    @property
    def dropped(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    def __len__(self) -> int: ...

@final
class Together:
    """A context, on one thread, around puts into the channels of many guests: those that wait are
    woken together at its end."""

    def __enter__(self) -> None: ...
    def __exit__(self, *error: object) -> None: ...

@final
class UserStream:
    """The client's end of one of a run's streams; made by `Run.stream`.

    It carries SSF v1 frames with this stream's id, whole, of at most 256 KiB; 2 MiB wait each way.
    """

    @property
    def id(self) -> int: ...
    @property
    def state(self) -> str:
        """init (no client yet), connected, closed or error."""

    def connect(self) -> None:
        """The client is there: the guest may write, and is told once. Sending implies it."""

    def send_nowait(self, frame: bytes) -> None:
        """Copies the frame for the guest, which may open the stream later.
        Raises QueueFull, ChannelClosed, InvalidArgument (no frame of this stream)."""

    def send(self, frame: bytes) -> Coroutine[Any, Any, None]:
        """As send_nowait, but waits until the guest has made room."""

    def receive_nowait(self) -> bytes | None:
        """The next frame from the guest; None if there is none now."""

    def receive(self) -> Coroutine[Any, Any, bytes | None]:
        """The next frame from the guest, waited for; None once the stream is over. What the guest
        wrote before its end can be read after it."""

    def fail(self) -> None:
        """Gives the client up: the guest sees an error."""

    def close(self) -> None:
        """The client is gone: the guest sees a hang-up; the id is free for another client."""

"""What stands behind a descriptor that Python answers for; see handles.pyx."""

from collections.abc import Callable
from typing import Any, final

from spear._core.door import Call
from spear._core.drafts import Room
from spear._core.endpoints import Channel

CHAT_SESSION: int  # never ready
CHAT_RESPONSE: int  # readable once finished
CHAT_STREAM: int  # readable while its channel has messages, and once finished
TASK_CALL: int  # as a response
BODY_BYTES_MAX: int
ABOUT_BYTES_MAX: int

@final
class Handle:
    """Given by a handler as its answer, it becomes a descriptor of the guest, whose number is the
    call's result; the guest names it in other calls, whose handlers get it back. `value` is the
    handlers' own. `closed` is called with it on the loop that serves, once, when the guest closes
    it or ends, or ended before it got it; not if no handler ever gave it. One that is finished when
    it is given, without `value` and `closed`, is the guest's alone: this object is done then, a
    `value` or a callback it gets later reaches nobody, and calls that name it get another one."""

    kind: int
    value: Any

    def __init__(
        self,
        kind: int,
        value: Any = None,
        *,
        channel: Channel | None = None,
        closed: Callable[[Handle], object] | None = None,
    ) -> None:
        """A stream has a `channel`, of its own, and no other kind has: what is put there the guest
        reads, a message at a time. It is closed when the guest closes the stream."""

    def finish(self, status: int, body: bytes, about: bytes = b"{}") -> bool:
        """The result, from any thread: the guest may read `body` where `status` is 0, else it gets
        `status`, a negated number of the ABI; `about` is a JSON document. Wakes a guest that waits
        for it. False, and nothing done, if it was finished before: the loop that served may have
        been closed, and then it ended with -EIO."""
    @property
    def room(self) -> Room | None:
        """Of the guest's sessions that take drafts; None: this is none of them."""

    def drafts(self, left: int) -> list[tuple[int, bytes, bytes, int]]:
        """What the guest put there since it was asked last, in order, each (MESSAGE, role, content,
        size) or (SETTING, text, b"", 0), where `size` is what the message counts in its session: it
        fits, and its room is free now. So many more are taken before the next call of this (at most
        DRAFTS_MAX). Only while the guest waits for a call."""

    def when_closed(self, callback: Callable[[Handle], object]) -> None:
        """As `closed`."""

    @property
    def finished(self) -> bool: ...

class Drafted:
    """In place of a handler of `cchat_create`: guests open their sessions natively, and write plain
    messages and parameters there as drafts. A Handle is made once another call names the session;
    its `value` is None then."""

    def __call__(self, call: Call) -> int: ...

def live_count() -> int:
    """How many there are natively, here or behind descriptors or still readable: for tests."""

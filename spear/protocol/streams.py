"""The flow of one stream of messages, both ways: who may send, and how much.

The rule: a side sends while it has credit, so at most the first credit and one message are ever on
the way or unread. Sizes are of whole bodies, header included, so that empty messages count, too.
"""

from __future__ import annotations

from typing import Final

from spear.errors import FrameError, InvalidArgument

CREDIT_BYTES: Final = 256 << 10
# What was taken is given back in steps of this size, so that small messages cost no frame each.
CREDIT_STEP_BYTES: Final = CREDIT_BYTES // 4
MESSAGE_BYTES_MAX: Final = 1 << 20
CREDIT_BYTES_MAX: Final = 1 << 31


class Stream:
    """`credit`: bytes that this side may send; `allowance`: bytes that the other side may."""

    __slots__ = ("_taken", "allowance", "credit", "received_last", "request_id", "sent_last")

    def __init__(
        self, request_id: int, *, sent_last: bool = False, received_last: bool = False
    ) -> None:
        self.request_id = request_id
        self.credit = self.allowance = CREDIT_BYTES
        self.sent_last, self.received_last = sent_last, received_last
        self._taken = 0

    @property
    def writable(self) -> bool:
        return self.credit > 0 and not self.sent_last

    def sent(self, size: int, last: bool) -> None:
        """Counts a message of this side. Raises InvalidArgument where it must not be sent."""
        if size > MESSAGE_BYTES_MAX:
            raise InvalidArgument(
                f"a message of {size} bytes, the limit in a stream is {MESSAGE_BYTES_MAX}"
            )
        if not self.writable:
            raise InvalidArgument("a message to a stream that is ended or has no credit")
        self.credit -= size
        self.sent_last = last

    def received(self, size: int, last: bool) -> None:
        """Counts a message of the other side. Raises FrameError where it must not come."""
        if self.received_last:
            raise FrameError("received a message after its last of a stream")
        if size > MESSAGE_BYTES_MAX or self.allowance <= 0:
            raise FrameError(
                f"received {size} bytes in a stream with credit for {self.allowance}, "
                f"the limit of a message is {MESSAGE_BYTES_MAX}"
            )
        self.allowance -= size
        self.received_last = last

    def credited(self, size: int) -> None:
        if self.credit + size > CREDIT_BYTES_MAX:
            raise FrameError(f"received credit beyond {CREDIT_BYTES_MAX} bytes")
        self.credit += size

    def taken(self, size: int) -> int:
        """Counts bytes that were read; the credit to give for them now, perhaps none."""
        self._taken += size
        if self._taken < CREDIT_STEP_BYTES or self.received_last:
            return 0
        credit, self._taken = self._taken, 0
        self.allowance += credit
        return credit

"""The inputs of executions that have not ended: those in memory within a budget, those in files
held while they are needed.

The rule: what is taken in is let go exactly once.
"""

from __future__ import annotations

from spear.errors import NodeBusy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.spearlet.node.blobs import Blobs
    from spear.spearlet.node.work import Work


class Inputs:
    """Of one node, at most `bytes_max` in memory."""

    def __init__(self, files: Blobs, bytes_max: int) -> None:
        self._files, self._bytes_max = files, bytes_max
        self._bytes = 0

    def fit(self, size: int) -> bool:
        return self._bytes + size <= self._bytes_max

    def check(self, size: int) -> None:
        """Raises NodeBusy where there is no room for one of this size."""
        if not self.fit(size):
            raise NodeBusy(
                f"the inputs of executions in memory take {self._bytes} bytes, {self._bytes_max} "
                f"is the limit, and this one has {size}: come back later"
            )

    def take(self, work: Work) -> None:
        work.charged = len(work.input)
        self._bytes += work.charged
        if work.input_digest:
            self._files.hold(work.input_digest)

    def let_go(self, work: Work, *, delete: bool) -> None:
        """Without `delete` a file stays held: it is no garbage while this process lives."""
        self._bytes -= work.charged
        if work.input_digest and delete:
            self._files.let_go(work.input_digest)
            self._files.delete(work.input_digest)

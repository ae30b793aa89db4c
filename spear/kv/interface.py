"""The one interface of the metadata store: ordered keys and values, atomic batches, durability by
name.

The rule: every implementation passes tests/unit/kv/test_kv_contract.py, and nobody above asks which
one it has. All methods are called on the thread that opened the store, the loop's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from spear.errors import KvDamaged, KvError
from spear.kv.batch import Batch
from spear.kv.watch import Watch

SCAN_LIMIT = 1000


class LocalKv(Protocol):
    """One process writes; within it a batch's preconditions and changes are one step.

    Keys are compared as bytes. Every method raises KvError once the store is closed, and KvDamaged
    where what is read is not what was written.
    """

    @property
    def durability(self) -> str:
        """The strongest class it can give: "volatile" or "power"."""

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""

    def scan(
        self, prefix: bytes, *, after: bytes = b"", limit: int = SCAN_LIMIT, reverse: bool = False,
        damaged: Callable[[bytes, KvDamaged], None] | None = None,
    ) -> list[tuple[bytes, bytes]]:  # fmt: skip
        """At most `limit` rows whose keys begin with `prefix`, by key; those behind the key
        `after` (a whole key, itself left out). With `reverse` from the greatest key down, and
        `after` is the upper bound, left out too. So the last key of a page gives the next page.

        Where a row does not match its checksum `damaged` is told its key and its error, and the
        page goes on behind it; else the error is raised. Of rows that cannot be told apart, since
        the store cannot read where they lie, it is told once: the key before them all (the prefix
        at the beginning), and an error that says the range."""

    def write(self, batch: Batch) -> int:
        """All of the batch or nothing; visible at once; class crash (in the WAL, not synced) when
        it returns, where the store is not volatile. Returns its sequence number, which is above
        those of all batches before; of a batch without changes, that of the last.

        Raises Conflict where a precondition does not hold, KvFull without room; then nothing of
        it was kept."""

    async def synced(self, sequence: int) -> None:
        """Returns once the write of that number survives a power cut (class power), where the
        store is not volatile. All who wait meanwhile share one flush. An error leaves open
        whether the write will survive; it stays visible."""

    def when_synced(self, sequence: int, call: Callable[[KvError | None], None]) -> None:
        """As `synced`, for who awaits nothing: `call(None)`, or `call(error)`, once it is known,
        on the loop, and never before this returns."""

    async def commit(self, batch: Batch) -> int:
        """write, then synced."""

    def watch(self, prefix: bytes) -> Watch:
        """The changes under the prefix from now on."""

    def stats(self) -> dict[str, int]:
        """Counters since it was opened, and its present state."""

    async def backup(self, path: str) -> None:
        """A consistent copy of all rows in a new file, while others read and write. Raises
        AlreadyExists, KvFull; a file that was begun is removed."""

    async def close(self) -> None:
        """What was written is synced first. Watches end. Closing again does nothing."""

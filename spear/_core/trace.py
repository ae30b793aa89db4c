"""One step of a deterministic world, as a record that can be compared.

The rule: pure; a step is what world.pxd says of it, and text form and record are inverse.
"""

from __future__ import annotations

KINDS = ("", "start", "slice", "park", "end", "clock")


class Step:
    """`number` from 1; `kind` start, slice, park, end or clock; `guest` from 1 in the order of
    starting, 0 for the clock; `now_ns` since the world began; `fuel` that guest has used in all;
    `detail` and `digest` 64 bits, the digest over all steps so far."""

    __slots__ = ("detail", "digest", "fuel", "guest", "kind", "now_ns", "number")

    def __init__(
        self, number: int, kind: int, guest: int, now_ns: int, fuel: int, detail: int, digest: int
    ) -> None:
        self.number, self.kind, self.guest = number, KINDS[kind], guest
        self.now_ns, self.fuel, self.detail, self.digest = now_ns, fuel, detail, digest

    def _fields(self) -> tuple[object, ...]:
        return (
            self.number, self.kind, self.guest, self.now_ns, self.fuel, self.detail, self.digest,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Step) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        return (
            f"Step({self.number} {self.kind} guest={self.guest} now_ns={self.now_ns} "
            f"fuel={self.fuel} detail={self.detail:016x} digest={self.digest:016x})"
        )

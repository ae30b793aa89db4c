"""Artifacts: code by its sha256, kept once and ready to run (once more where it is metered).

The rule: what is kept stays within a byte budget; the least recently used leaves first. An
artifact in someone's hands goes on working after it left. The budget counts the modules' own bytes:
a program does not tell the size of its compiled code, which comes on top (often several times as
much).
"""

from __future__ import annotations

from spear._core.aotcache import digest_of as digest_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.runtime.interface import Program


class Artifact:
    """Immutable bytes and the program made of them."""

    __slots__ = ("digest", "program", "wasm")

    def __init__(self, digest: str, wasm: bytes, program: Program) -> None:
        self.digest, self.wasm, self.program = digest, wasm, program

    def __repr__(self) -> str:
        return f"Artifact({self.digest[:12]}, {len(self.wasm)} bytes)"


class Artifacts:
    """The kept artifacts, least recently used first."""

    __slots__ = ("_by_key", "_bytes_max", "_size")

    def __init__(self, bytes_max: int) -> None:
        self._by_key: dict[tuple[str, bool], Artifact] = {}
        self._bytes_max = bytes_max
        self._size = 0

    def find(self, digest: str, metered: bool = False) -> Artifact | None:
        artifact = self._by_key.pop((digest, metered), None)
        if artifact is not None:
            self._by_key[digest, metered] = artifact
        return artifact

    def add(self, artifact: Artifact) -> Artifact:
        """Keeps it, or gives the one kept already. One larger than the budget is not kept."""
        known = self.find(artifact.digest, artifact.program.metered)
        if known is not None:
            return known
        if len(artifact.wasm) <= self._bytes_max:
            self._by_key[artifact.digest, artifact.program.metered] = artifact
            self._size += len(artifact.wasm)
        while self._size > self._bytes_max:
            oldest = self._by_key.pop(next(iter(self._by_key)))
            self._size -= len(oldest.wasm)
        return artifact

    def stats(self) -> dict[str, int]:
        return {"count": len(self._by_key), "bytes": self._size}

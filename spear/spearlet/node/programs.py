"""Programs ready to run, by the digest of their artifact.

The rule: an artifact's bytes are checked against its digest when they are read, and compiled once
however many executions wait. What was used last stays in memory, within a budget.
"""

from __future__ import annotations

from spear.spearlet.execution.loader import Loader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.runtime.interface import Program, Runtime
    from spear.spearlet.node.blobs import Blobs


class Programs:
    """Of one runtime, kept within `bytes_max` of modules."""

    def __init__(self, runtime: Runtime, blobs: Blobs, bytes_max: int) -> None:
        self._loader = Loader(runtime, bytes_max)
        self._runtime, self._blobs = runtime, blobs
        # What was asked for last is the most recent one already, until another is loaded.
        self._last: tuple[str, bool, Program] | None = None

    def ready(self, digest: str, metered: bool) -> Program | None:
        """The program, if it is in memory."""
        last = self._last
        if last is not None and last[0] == digest and last[1] == metered:
            return last[2]
        found = self._loader.find(digest, metered)
        if found is None:
            return None
        self._last = digest, metered, found.program
        return found.program

    async def load(self, digest: str, metered: bool, wasm: bytes | None = None) -> Program:
        """`wasm` are its bytes where they are at hand. Raises NotFound, KvDamaged, ModuleInvalid,
        ModuleLimit."""
        found = self.ready(digest, metered)
        if found is not None:
            return found
        if wasm is None:
            wasm = await self._blobs.read(digest)
        program = (await self._loader.load(wasm, metered, digest=digest)).program
        self._last = None
        return program

    def stats(self) -> dict[str, int]:
        return self._loader.stats()

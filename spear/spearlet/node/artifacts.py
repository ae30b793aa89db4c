"""The artifacts of a node: bytes by their digest, kept until nobody needs them.

The rule: an artifact is compiled before it is accepted, so one that is there can run; it is not
deleted while a task, an execution or another artifact needs it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import contextmanager

from spear.errors import InUse, InvalidArgument, KvDamaged, NotFound
from spear.records.task import RUNTIMES, Artifact
from spear.spearlet.node import rows
from spear.spearlet.node.unreadable import Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spear.records.node import Bytes
    from spear.spearlet.node.parts import Parts

_DIGITS_MIN = 8
_PIECE_BYTES = 1 << 20
_SCAN = 1000


class Artifacts:
    """Of one node, on its loop. `users` gives the names of what needs a digest."""

    def __init__(self, parts: Parts, users: Callable[[str], Iterator[str]]) -> None:
        self._parts, self._users = parts, users
        self._unreadable = Unreadable(parts.log)
        self._leaving: set[str] = set()  # whose row is being removed
        self._wanted: Counter[str] = Counter()  # by those that come and have no row yet

    async def put(
        self, data: Bytes, digest: str, name: str, version: str, runtime: str,
        dependencies: Sequence[str],
    ) -> Artifact:  # fmt: skip
        """Raises InvalidArgument, ModuleInvalid, ModuleLimit, NotFound (a dependency), KvFull."""
        if runtime not in RUNTIMES:
            raise InvalidArgument(f"no runtime {runtime!r}: expected one of {', '.join(RUNTIMES)}")
        needed = tuple(self.find(one).digest for one in dependencies)
        with self._wanting(needed):
            return await self._put(data, digest, name, version, runtime, needed)

    @contextmanager
    def _wanting(self, needed: Sequence[str]) -> Iterator[None]:
        """Inside they stay."""
        self._wanted.update(needed)
        try:
            yield
        finally:
            self._wanted.subtract(needed)
            self._wanted = +self._wanted

    async def _put(
        self, data: Bytes, digest: str, name: str, version: str, runtime: str,
        needed: tuple[str, ...],
    ) -> Artifact:  # fmt: skip
        parts = self._parts
        bytes_max = parts.config.module_bytes_max
        chunks = _chunks(data) if isinstance(data, bytes) else data
        files, came = parts.files.artifacts, list[bytes]()
        found, size = await files.put_stream(
            _noted(chunks, came), bytes_max=bytes_max, digest=digest
        )
        try:
            known = await self._known(found)
            if known is not None:
                return known
            await self._check(found, runtime, b"".join(came))
            return await self._keep(found, size, name, version, runtime, needed)
        finally:
            files.let_go(found)
            if parts.kv.get(rows.artifact_key(found)) is None:
                files.delete(found)

    async def _known(self, digest: str) -> Artifact | None:
        """What another put has kept; not sooner than that one is told so, and not what a deletion
        is about to take."""
        key = rows.artifact_key(digest)
        if self._parts.kv.get(key) is None:
            return None
        await self._parts.journal.kept()
        row = self._parts.kv.get(key)
        return None if row is None else rows.decode_artifact(row)

    async def _keep(
        self, found: str, size: int, name: str, version: str, runtime: str,
        needed: tuple[str, ...],
    ) -> Artifact:  # fmt: skip
        parts = self._parts
        artifact = Artifact(
            digest=found,
            size=size,
            runtime=runtime,
            name=name,
            version=version,
            dependencies=needed,
            created_ns=parts.clock.now_ns(),
            durability=parts.journal.class_of(power=True),
        )
        parts.journal.put(rows.artifact_key(found), rows.encode(artifact))
        await parts.journal.kept()
        return artifact

    def find(self, digest: str) -> Artifact:
        """By its digest or a unique beginning of 8 digits or more. Raises NotFound,
        InvalidArgument."""
        digest = digest.removeprefix("sha256:").lower()
        if len(digest) < _DIGITS_MIN:
            raise InvalidArgument(
                f"{digest!r} is too short: name an artifact by {_DIGITS_MIN} digits or more"
            )
        found = self._parts.kv.scan(rows.artifact_key(digest), limit=2)
        if not found:
            raise NotFound(f"the artifact {digest!r} is not on this node")
        if len(found) > 1:
            raise InvalidArgument(f"more than one artifact begins with {digest!r}")
        artifact = rows.decode_artifact(found[0][1])
        if artifact.digest in self._leaving:
            raise NotFound(f"the artifact {digest!r} is being deleted")
        return artifact

    def list(self, limit: int, after: str) -> list[Artifact]:
        """By digest, behind `after`; what cannot be read is left out. Raises KvDamaged where that
        is all there is."""
        start, met = rows.artifact_key(after) if after else b"", list[KvDamaged]()

        def damaged(key: bytes, error: KvDamaged) -> None:
            met.append(error)
            self._unreadable.tell(key, error)

        found = self._parts.kv.scan(rows.ARTIFACTS, after=start, limit=limit, damaged=damaged)
        if met and not (found or after):
            raise met[0]
        return [rows.decode_artifact(value) for _, value in found]

    def chunks(self, digest: str) -> AsyncIterator[bytes]:
        return self._parts.files.artifacts.chunks(self.find(digest).digest)

    async def delete(self, digest: str) -> Artifact:
        """Raises NotFound, InUse."""
        artifact = self.find(digest)
        users = [*self._users(artifact.digest), *self._depending(artifact.digest)]
        if users:
            shown = ", ".join(sorted(users)[:5])
            raise InUse(f"artifact {artifact.digest[:12]} is needed by {shown}: remove that first")
        self._leaving.add(artifact.digest)
        try:
            self._parts.journal.delete(rows.artifact_key(artifact.digest))
            await self._parts.journal.kept()
        finally:
            self._leaving.discard(artifact.digest)
        self._parts.files.artifacts.delete(artifact.digest)
        return artifact

    async def _check(self, digest: str, runtime: str, data: bytes) -> None:
        """Compiles what came. What cannot run is not kept."""
        if runtime != "wasm":
            raise InvalidArgument(f"runtime {runtime!r} is not served by this build")
        await self._parts.programs.load(digest, False, data)

    def _depending(self, digest: str) -> Iterator[str]:
        if digest in self._wanted:
            yield "an artifact that is being put"
        after = b""
        while page := self._parts.kv.scan(rows.ARTIFACTS, after=after, limit=_SCAN):
            for _, value in page:
                artifact = rows.decode_artifact(value)
                if digest in artifact.dependencies:
                    yield f"artifact {artifact.digest[:12]}"
            after = page[-1][0]


async def _noted(chunks: AsyncIterator[bytes], came: list[bytes]) -> AsyncIterator[bytes]:
    """The chunks, which are in `came` by then: what is written need not be read to compile it."""
    async for chunk in chunks:
        came.append(chunk)
        yield chunk


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    """In pieces whose sum holds up the loop for a moment only."""
    for at in range(0, len(data), _PIECE_BYTES) or (0,):
        yield data[at : at + _PIECE_BYTES]

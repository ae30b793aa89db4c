"""Artifacts, over a line."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Final

from spear.client.line import Line
from spear.protocol.convert.artifact import ARTIFACT
from spear.protocol.pb.spear.v1 import artifact_pb2 as pb
from spear.protocol.pb.spear.v1.value_pb2 import Chunk
from spear.records.task import Artifact

CHUNK_BYTES: Final = 64 << 10
_SERVICE: Final = "/spear.v1.ArtifactService"


async def chunks(data: bytes | AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The bytes in parts of up to CHUNK_BYTES."""
    if isinstance(data, bytes):
        for start in range(0, len(data), CHUNK_BYTES):
            yield data[start : start + CHUNK_BYTES]
        return
    async for part in data:
        for start in range(0, len(part), CHUNK_BYTES):
            yield part[start : start + CHUNK_BYTES]


class ArtifactCalls:
    _line: Line

    async def put_artifact(
        self, data: bytes | AsyncIterator[bytes], *, digest: str = "", name: str = "",
        version: str = "", runtime: str = "wasm", dependencies: Sequence[str] = (),
    ) -> Artifact:  # fmt: skip
        """Sent in chunks. A lost connection is no matter where `data` is there as a whole."""

        async def requests() -> AsyncGenerator[pb.PutArtifactRequest, None]:
            yield pb.PutArtifactRequest(
                head=pb.ArtifactHead(
                    digest=digest, name=name, version=version, runtime=runtime,
                    dependencies=dependencies,
                )
            )  # fmt: skip
            async for chunk in chunks(data):
                yield pb.PutArtifactRequest(chunk=chunk)

        again = isinstance(data, bytes)
        found = await self._line.send(f"{_SERVICE}/Put", requests, pb.Artifact, again=again)
        return ARTIFACT.record(found)

    async def artifact(self, digest: str) -> Artifact:
        request = pb.GetArtifactRequest(digest=digest)
        return ARTIFACT.record(await self._line.ask(f"{_SERVICE}/Stat", request, pb.Artifact))

    async def artifacts(self, *, limit: int = 100, after: str = "") -> list[Artifact]:
        request = pb.ListArtifactsRequest(limit=limit, after=after)
        page = await self._line.ask(f"{_SERVICE}/List", request, pb.ListArtifactsResponse)
        return list(ARTIFACT.records(page.artifacts))

    async def read_artifact(self, digest: str) -> AsyncGenerator[bytes, None]:
        request = pb.GetArtifactRequest(digest=digest)
        async for chunk in self._line.receive(f"{_SERVICE}/Get", request, Chunk):
            yield chunk.data

    async def delete_artifact(self, digest: str) -> Artifact:
        request = pb.DeleteArtifactRequest(digest=digest)
        found = await self._line.ask(f"{_SERVICE}/Delete", request, pb.Artifact, again=False)
        return ARTIFACT.record(found)

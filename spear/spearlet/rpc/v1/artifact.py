"""`spear.v1.ArtifactService`: artifacts in chunks, by their digest."""

from __future__ import annotations

from collections.abc import AsyncIterator

from spear.protocol.convert.artifact import ARTIFACT
from spear.protocol.pb.spear.v1 import artifact_pb2 as pb
from spear.protocol.pb.spear.v1.value_pb2 import Chunk
from spear.records.node import Node
from spear.spearlet.rpc.chunks import cut, head_of, rest_of
from spear.spearlet.rpc.method import client_stream, closing, server_stream, service, unary

_LIMIT = 100


async def put(node: Node, requests: AsyncIterator[pb.PutArtifactRequest]) -> pb.Artifact:
    head = (await head_of(requests)).head
    named = {"runtime": head.runtime} if head.HasField("runtime") else {}
    artifact = await node.put_artifact(
        rest_of(requests),
        digest=head.digest,
        name=head.name,
        version=head.version,
        dependencies=tuple(head.dependencies),
        **named,
    )
    return ARTIFACT.message(artifact)


async def get(node: Node, request: pb.GetArtifactRequest) -> AsyncIterator[Chunk]:
    async with closing(node.read_artifact(request.digest)) as found:
        async for data in found:
            for part in cut(data):
                yield Chunk(data=part)


async def stat(node: Node, request: pb.GetArtifactRequest) -> pb.Artifact:
    return ARTIFACT.message(await node.artifact(request.digest))


async def list_(node: Node, request: pb.ListArtifactsRequest) -> pb.ListArtifactsResponse:
    found = await node.artifacts(limit=request.limit or _LIMIT, after=request.after)
    return pb.ListArtifactsResponse(artifacts=ARTIFACT.messages(found))


async def delete(node: Node, request: pb.DeleteArtifactRequest) -> pb.Artifact:
    return ARTIFACT.message(await node.delete_artifact(request.digest))


METHODS = service(
    "spear.v1.ArtifactService",
    {
        "Put": client_stream(pb.PutArtifactRequest, pb.Artifact, put),
        "Get": server_stream(pb.GetArtifactRequest, Chunk, get),
        "Stat": unary(pb.GetArtifactRequest, pb.Artifact, stat),
        "List": unary(pb.ListArtifactsRequest, pb.ListArtifactsResponse, list_),
        "Delete": unary(pb.DeleteArtifactRequest, pb.Artifact, delete),
    },
)

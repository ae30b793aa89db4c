"""`spear.v1.NodeService`: what the node is, what it counts, and how it is brought to its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from spear.errors import InvalidArgument
from spear.protocol.pb.spear.v1 import node_pb2 as pb
from spear.records.node import Node
from spear.spearlet.rpc.method import Method, service, unary


async def stats(node: Node, _request: pb.NodeStatsRequest) -> pb.NodeStats:
    groups = await node.stats()
    return pb.NodeStats(
        groups={name: pb.StatsGroup(values=group) for name, group in groups.items()}
    )


async def collect_garbage(node: Node, _request: pb.CollectGarbageRequest) -> pb.StatsGroup:
    return pb.StatsGroup(values=await node.collect_garbage())


async def backup(node: Node, request: pb.BackupRequest) -> pb.StatsGroup:
    return pb.StatsGroup(values=await node.backup(request.folder))


class Serving:
    """Info, to which the daemon adds the addresses of its doors."""

    def __init__(self, addresses: Callable[[], dict[str, str]]) -> None:
        self._addresses = addresses

    async def info(self, node: Node, _request: pb.NodeInfoRequest) -> pb.NodeInfo:
        return pb.NodeInfo(values=await node.info() | self._addresses())


class Draining:
    """Drain, which is the daemon's: its node takes no more work, then the daemon ends."""

    def __init__(self, drain: Callable[[int], Awaitable[None]]) -> None:
        self._drain = drain

    async def drain(self, _node: Node, request: pb.DrainRequest) -> pb.DrainResponse:
        if request.grace_ns < 0:
            raise InvalidArgument(f"grace_ns is {request.grace_ns}: expected 0 or more")
        await self._drain(request.grace_ns)
        return pb.DrainResponse()


def methods(
    drain: Callable[[int], Awaitable[None]], addresses: Callable[[], dict[str, str]]
) -> dict[str, Method]:
    return service(
        "spear.v1.NodeService",
        {
            "Info": unary(pb.NodeInfoRequest, pb.NodeInfo, Serving(addresses).info),
            "Stats": unary(pb.NodeStatsRequest, pb.NodeStats, stats),
            "CollectGarbage": unary(pb.CollectGarbageRequest, pb.StatsGroup, collect_garbage),
            "Backup": unary(pb.BackupRequest, pb.StatsGroup, backup),
            "Drain": unary(pb.DrainRequest, pb.DrainResponse, Draining(drain).drain),
        },
    )

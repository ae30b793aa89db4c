"""What bench_doors.py calls, in a process of its own: our doors over a node that answers at once,
and a bare gRPC server that gives back the bytes it gets.

    python bench/door_servers.py SOCKET      prints: TOKEN PORT_OF_OURS PORT_OF_THE_ECHO
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import grpc
import grpc.aio
import uvloop

from spear.records.execution import Execution, Invocation
from spear.security.access import Access
from spear.security.tokens import Token
from spear.spearlet.rpc.frame_door import FrameDoor
from spear.spearlet.rpc.grpc_door import GrpcDoor
from spear.spearlet.rpc.table import method_table

TOKEN = "b" * 64


class EchoNode:
    """As much of a node as Invoke needs."""

    async def invoke(self, task: str, input: bytes, invocation: Invocation) -> Execution:
        return Execution(
            id="01890a5d-ac96-774b-bcce-b302099a8057", task_id=task, task_name=task,
            status="completed", started_ns=1, finished_ns=2, output=input, exit_code=0,
            output_bytes=len(input), durability="crash",
        )  # fmt: skip

    async def drain(self, grace_ns: int) -> None:
        return


def bare() -> grpc.aio.Server:
    async def echo(request: bytes, context: object) -> bytes:
        return request

    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bare", handlers)])
    return server


async def main(path: str) -> None:
    node = EchoNode()
    table = method_table(object_bytes_max=1 << 20, drain=node.drain)
    access = Access(uid=os.geteuid(), token=Token(TOKEN), loopback_open=False)
    ours = GrpcDoor(node, table, access, print)  # type: ignore[arg-type]
    frames = FrameDoor(node, table, access, print)  # type: ignore[arg-type]
    frames.listen(f"unix:{path}")
    port = await ours.open("127.0.0.1:0")
    server = bare()
    echo_port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(TOKEN, port, echo_port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))

"""`spear.v1.ModelService`: the model backends of the node."""

from __future__ import annotations

from spear.errors import InvalidArgument
from spear.protocol.convert.model import MODEL_INFO, MODEL_TEST
from spear.protocol.pb.spear.v1 import model_pb2 as pb
from spear.records.node import Node
from spear.spearlet.rpc.method import service, unary


async def list_(node: Node, _request: pb.ListModelsRequest) -> pb.ListModelsResponse:
    return pb.ListModelsResponse(models=MODEL_INFO.messages(await node.models()))


async def test(node: Node, request: pb.TestModelRequest) -> pb.ModelTest:
    if request.timeout_ns < 0:
        raise InvalidArgument(f"timeout_ns is {request.timeout_ns}: expected 0 or more")
    found = await node.test_model(
        request.name, request.prompt, model=request.model, timeout_ns=request.timeout_ns
    )
    return MODEL_TEST.message(found)


METHODS = service(
    "spear.v1.ModelService",
    {
        "List": unary(pb.ListModelsRequest, pb.ListModelsResponse, list_),
        "Test": unary(pb.TestModelRequest, pb.ModelTest, test),
    },
)

"""The method table against the descriptors: every method of every service, as it is declared."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from door_node import DoorNode
from google.protobuf.descriptor import MethodDescriptor

from spear.protocol import pb
from spear.spearlet.rpc.method import CLIENT_STREAM, SERVER_STREAM, UNARY, Method
from spear.spearlet.rpc.table import method_table

# Of others, which the node calls.
NOT_OURS = {"spearlet.RouterFilterService"}


def declared() -> Iterator[tuple[str, MethodDescriptor]]:
    for found in pkgutil.walk_packages(pb.__path__, f"{pb.__name__}."):
        if found.name.endswith("_pb2"):
            for service in importlib.import_module(found.name).DESCRIPTOR.services_by_name.values():
                for method in service.methods if service.full_name not in NOT_OURS else ():
                    yield f"/{service.full_name}/{method.name}", method


def kind_of(method: MethodDescriptor) -> str:
    assert not (method.client_streaming and method.server_streaming)
    if method.client_streaming:
        return CLIENT_STREAM
    return SERVER_STREAM if method.server_streaming else UNARY


def shape_of(method: Method) -> tuple[str, str, str]:
    request, response = method.request.DESCRIPTOR, method.response.DESCRIPTOR
    return method.kind, request.full_name, response.full_name


def test_the_table_has_every_method_as_it_is_declared() -> None:
    table = method_table(object_bytes_max=1, drain=DoorNode().drain)
    wanted = {
        path: (kind_of(method), method.input_type.full_name, method.output_type.full_name)
        for path, method in declared()
    }
    assert len(wanted) > 40
    assert {path: shape_of(method) for path, method in table.items()} == wanted

"""Every method that the node serves, by its full gRPC path; the one list of both doors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from spear.spearlet.rpc import execution, instance, invocation, object
from spear.spearlet.rpc.method import Method
from spear.spearlet.rpc.v1 import artifact, model, node, schedule, task
from spear.spearlet.rpc.v1 import execution as execution_v1
from spear.spearlet.rpc.v1 import instance as instance_v1
from spear.spearlet.rpc.v1 import object as object_v1


def method_table(
    *, object_bytes_max: int, drain: Callable[[int], Awaitable[None]],
    addresses: Callable[[], dict[str, str]] = dict,
) -> dict[str, Method]:  # fmt: skip
    """`object_bytes_max`: of one object that comes in parts; `drain(grace_ns)` is the daemon's, as
    are the addresses of its doors."""
    return {
        **invocation.METHODS,
        **execution.METHODS,
        **instance.METHODS,
        **object.METHODS,
        **artifact.METHODS,
        **task.METHODS,
        **execution_v1.METHODS,
        **instance_v1.METHODS,
        **object_v1.methods(object_bytes_max),
        **schedule.METHODS,
        **model.METHODS,
        **node.methods(drain, addresses),
    }

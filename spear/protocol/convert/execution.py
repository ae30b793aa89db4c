"""Executions, and what a call adds to its task, as messages."""

from __future__ import annotations

import msgspec

from spear.protocol.convert.mirror import MAP, NUMBERS, TEXTS, Many, Mirror, One
from spear.protocol.convert.task import TASK_SPEC
from spear.protocol.pb.spear.v1 import execution_pb2 as pb
from spear.protocol.pb.spear.v1 import instance_pb2
from spear.records.execution import Execution, ExecutionError, Frame, Instance, Invocation
from spear.records.task import TaskSpec
from spear.records.usage import Usage


class Invoke(msgspec.Struct, kw_only=True):
    """The request of Invoke and Submit: a task by id or name, or a spec."""

    task: str | None = None
    spec: TaskSpec | None = None
    input: bytes = b""
    invocation: Invocation | None = None


ERROR = Mirror(ExecutionError, pb.ExecutionError, {"backtrace": Many(Mirror(Frame, pb.Frame))})
USAGE = Mirror(Usage, pb.Usage)
INSTANCE = Mirror(Instance, instance_pb2.Instance)
EXECUTION = Mirror(
    Execution,
    pb.Execution,
    {
        "value": NUMBERS, "error": One(ERROR), "metadata": MAP, "usage": One(USAGE),
        "tree_usage": One(USAGE),
    },
)  # fmt: skip
INVOCATION = Mirror(
    Invocation,
    pb.Invocation,
    {"call_args": NUMBERS, "args": TEXTS, "env": MAP, "metadata": MAP},
)
INVOKE = Mirror(Invoke, pb.InvokeRequest, {"spec": One(TASK_SPEC), "invocation": One(INVOCATION)})

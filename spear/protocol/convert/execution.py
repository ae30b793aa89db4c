"""Executions, and what a call adds to its task, as messages."""

from __future__ import annotations

from spear.protocol.convert.mirror import MAP, NUMBERS, TEXTS, Many, Mirror, One
from spear.protocol.pb.spear.v1 import execution_pb2 as pb
from spear.protocol.pb.spear.v1 import instance_pb2
from spear.records.execution import Execution, ExecutionError, Frame, Instance, Invocation

ERROR = Mirror(ExecutionError, pb.ExecutionError, {"backtrace": Many(Mirror(Frame, pb.Frame))})
EXECUTION = Mirror(
    Execution, pb.Execution, {"value": NUMBERS, "error": One(ERROR), "metadata": MAP}
)
INVOCATION = Mirror(
    Invocation,
    pb.Invocation,
    {"call_args": NUMBERS, "args": TEXTS, "env": MAP, "metadata": MAP},
)
INSTANCE = Mirror(Instance, instance_pb2.Instance)

"""Lines of tasks' logs as messages."""

from __future__ import annotations

from spear.protocol.convert.mirror import Mirror
from spear.protocol.pb.spear.v1 import execution_pb2 as pb
from spear.records.execution import LogLine

LOG_LINE = Mirror(LogLine, pb.LogLine)

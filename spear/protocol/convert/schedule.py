"""Schedules as messages."""

from __future__ import annotations

from spear.protocol.convert.execution import INVOCATION
from spear.protocol.convert.mirror import Mirror, One
from spear.protocol.pb.spear.v1 import schedule_pb2 as pb
from spear.records.schedule import Schedule, ScheduleSpec

SCHEDULE_SPEC = Mirror(ScheduleSpec, pb.ScheduleSpec, {"invocation": One(INVOCATION)})
SCHEDULE = Mirror(Schedule, pb.Schedule, {"spec": One(SCHEDULE_SPEC)})

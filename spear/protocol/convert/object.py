"""Objects as messages."""

from __future__ import annotations

from spear.protocol.convert.mirror import MAP, Mirror
from spear.protocol.pb.spear.v1 import object_pb2 as pb
from spear.records.objects import ObjectInfo

OBJECT_INFO = Mirror(ObjectInfo, pb.ObjectInfo, {"metadata": MAP})

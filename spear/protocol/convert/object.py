"""Objects as messages."""

from __future__ import annotations

from spear.protocol.convert.mirror import MAP, Mirror, One
from spear.protocol.pb.spear.v1 import object_pb2 as pb
from spear.records.objects import ObjectChange, ObjectInfo

OBJECT_INFO = Mirror(ObjectInfo, pb.ObjectInfo, {"metadata": MAP})
OBJECT_CHANGE = Mirror(ObjectChange, pb.ObjectChange, {"info": One(OBJECT_INFO)})

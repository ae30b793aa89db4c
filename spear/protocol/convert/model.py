"""Model backends as messages."""

from __future__ import annotations

from spear.protocol.convert.mirror import STRINGS, Mirror
from spear.protocol.pb.spear.v1 import model_pb2 as pb
from spear.records.models import ModelInfo, ModelTest

MODEL_INFO = Mirror(ModelInfo, pb.ModelInfo, {"ops": STRINGS, "features": STRINGS})
MODEL_TEST = Mirror(ModelTest, pb.ModelTest)

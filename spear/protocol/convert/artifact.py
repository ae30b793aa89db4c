"""Artifacts as messages."""

from __future__ import annotations

from spear.protocol.convert.mirror import STRINGS, Mirror
from spear.protocol.pb.spear.v1 import artifact_pb2 as pb
from spear.records.task import Artifact

ARTIFACT = Mirror(Artifact, pb.Artifact, {"dependencies": STRINGS})

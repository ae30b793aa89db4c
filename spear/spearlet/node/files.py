"""The folders of a node's files: each kind by itself, so that none is kept or goes for another.

The rule: artifacts and durable objects are named by one row each; a result by one row of each
execution that has it; an input by executions that have not ended, which are in memory.
"""

from __future__ import annotations

import os

from spear.spearlet.node.blobs import Blobs


class Files:
    """Under one data directory."""

    __slots__ = ("artifacts", "inputs", "objects", "results")

    def __init__(self, data_dir: str) -> None:
        self.artifacts = Blobs(os.path.join(data_dir, "artifacts"))
        self.inputs = Blobs(os.path.join(data_dir, "inputs"))
        self.objects = Blobs(os.path.join(data_dir, "objects"))
        self.results = Blobs(os.path.join(data_dir, "results"))

    def each(self) -> dict[str, Blobs]:
        return {name: getattr(self, name) for name in self.__slots__}

"""What was opened for a node is closed where the node cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import make_config

from spear.clock import Clock
from spear.errors import KvDamaged
from spear.kv.memory import MemoryKv
from spear.runtime.wasm.runtime import WasmRuntime
from spear.spearlet.logs.store import LogStore
from spear.spearlet.node import serving
from spear.spearlet.node.opening import OpenNode
from spear.telemetry.jsonlog import Descriptor, open_log
from spear.telemetry.redact import Redactor


async def test_all_of_it_is_closed_in_the_other_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    closed: list[str] = []

    def watched(kind: type, name: str) -> None:
        close = kind.close  # type: ignore[attr-defined]

        def noted(self: Any, *words: Any) -> Any:
            closed.append(name)
            return close(self, *words)

        monkeypatch.setattr(kind, "close", noted)

    async def load(self: OpenNode) -> None:
        raise KvDamaged("planted")

    watched(WasmRuntime, "runtime")
    watched(LogStore, "logs")
    watched(MemoryKv, "kv")
    monkeypatch.setattr(OpenNode, "load", load)
    config = make_config(tmp_path, storage__backend="memory", storage__data_dir=str(tmp_path))
    clock, redactor = Clock(), Redactor()
    log = open_log(Descriptor(2), clock, redactor)
    with pytest.raises(KvDamaged, match="planted"):
        await serving.open_served(config, clock=clock, log=log, redactor=redactor, environ={})
    assert closed == ["runtime", "logs", "kv"]

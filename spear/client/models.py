"""Model backends of a node, over a line."""

from __future__ import annotations

from typing import Final

from spear.client.line import Line
from spear.protocol.convert.model import MODEL_INFO, MODEL_TEST
from spear.protocol.pb.spear.v1 import model_pb2 as pb
from spear.records.models import ModelInfo, ModelTest

_SERVICE: Final = "/spear.v1.ModelService"


class ModelCalls:
    _line: Line

    async def models(self) -> list[ModelInfo]:
        request, answer = pb.ListModelsRequest(), pb.ListModelsResponse
        page = await self._line.ask(f"{_SERVICE}/List", request, answer)
        return list(MODEL_INFO.records(page.models))

    async def test_model(
        self, name: str, prompt: str = "", *, model: str = "", timeout_ns: int = 0
    ) -> ModelTest:
        request = pb.TestModelRequest(name=name, prompt=prompt, model=model, timeout_ns=timeout_ns)
        found = await self._line.ask(f"{_SERVICE}/Test", request, pb.ModelTest, again=False)
        return MODEL_TEST.record(found)

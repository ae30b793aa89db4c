"""The model backends of a node, as its callers see them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spear.hostcalls.llm.models import Models
    from spear.records.models import ModelInfo, ModelTest


class ModelServices:
    """Part of NodeServices. `_models` gives the node's Models, made by who asks first."""

    _models: Callable[[], Models]

    async def models(self) -> list[ModelInfo]:
        models = self._models()
        await models.refresh()
        return models.list()

    async def test_model(
        self, name: str, prompt: str = "", *, model: str = "", timeout_ns: int = 0
    ) -> ModelTest:
        return await self._models().test(name, prompt, model=model, timeout_ns=timeout_ns)

"""The model backends of a node, as its callers see them."""

from __future__ import annotations

from spear.hostcalls.allowed import names_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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

    def unknown_backends(self, config: Mapping[str, str]) -> Sequence[str]:
        """A sentence for each that a task's config names in vain. Models are not made for a config
        that says nothing of them."""
        key = "llm.backends"
        return self._models().unknown(names_of(key, config[key])) if key in config else ()

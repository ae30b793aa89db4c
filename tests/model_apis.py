"""Each API of models with its fake, and the settings of a backend that asks it.

The rule: the fake's backend is called `fake`, its model `m`; it declares every feature.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from chat_node import FEATURES, openai
from fakes.anthropic import AnthropicFake
from fakes.ollama import OllamaFake
from fakes.openai import OpenAiFake
from fakes.server import Fake

from spear.config_llm import BackendSettings
from spear.records.models import ANTHROPIC, OLLAMA, BackendSpec


class Api(NamedTuple):
    """`settings` takes the fake's URL."""

    fake: Callable[[], Fake]
    settings: Callable[[str], BackendSettings]
    embeds: bool = True


def _of(kind: str, *ops: str) -> Callable[[str], BackendSettings]:
    def made(url: str) -> BackendSettings:
        spec = BackendSpec(
            name="fake", kind=kind, base_url=url, hosting="local", model="m", features=FEATURES,
            ops=("chat_completions", *ops),
        )  # fmt: skip
        return BackendSettings(spec=spec)

    return made


APIS = {
    "openai": Api(OpenAiFake, openai),
    "ollama": Api(OllamaFake, _of(OLLAMA, "embeddings")),
    "anthropic": Api(AnthropicFake, _of(ANTHROPIC), embeds=False),
}
every_api = pytest.mark.parametrize("api", sorted(APIS))

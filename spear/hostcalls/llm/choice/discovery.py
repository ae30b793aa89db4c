"""Models that an Ollama server offers, as backends.

The rule: what the server says is data from outside: bounded, checked, and a server that is not
there, or says nonsense, is no error, only no models. How it is asked is given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from spear.config_llm import BackendSettings, OllamaSettings, is_loopback
from spear.errors import ModelGarbled
from spear.records.models import LOCAL, OLLAMA, REMOTE, BackendSpec

# The answer's body; raises ModelError. The time is for all of it.
Fetch = Callable[[str, str, int, int], Awaitable[bytes]]  # base_url, path, timeout_ms, bytes_max

ANSWER_BYTES_MAX = 4 << 20
REFRESH_NS = 30 * 10**9  # what was found longer ago is asked for anew
NEED_NS = 2 * 10**9  # and where no backend fits, what was found longer ago than this
_NAME_CHARS_MAX = 200
_PATHS = {"serving": "/api/ps", "installed": "/api/tags"}
# Ollama has no price and says nothing of features; a model without tools says so when asked.
_FEATURES = ("supports_tools", "supports_json_schema")


async def discover(settings: OllamaSettings, fetch: Fetch) -> list[BackendSettings]:
    """Raises ModelError where the server does not answer or cannot be understood."""
    path = _PATHS[settings.scope]
    body = await fetch(settings.base_url, path, settings.timeout_ms, ANSWER_BYTES_MAX)
    return backends_of(settings, body)


def backends_of(settings: OllamaSettings, body: bytes) -> list[BackendSettings]:
    """Of the server's list of models. Raises ModelGarbled."""
    try:
        models = msgspec.json.decode(body, type=dict[str, Any]).get("models") or []
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        models = None
    if not isinstance(models, list):
        raise ModelGarbled(f"{settings.base_url} does not answer with a list of models")
    names = dict.fromkeys(
        model["name"] for model in models if isinstance(model, dict) and _fits(settings, model)
    )
    return [_backend(settings, name) for name in list(names)[: settings.models_max]]


def _fits(settings: OllamaSettings, model: dict[str, Any]) -> bool:
    name = model.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= _NAME_CHARS_MAX or not name.isprintable():
        return False
    if model.get("remote_host") and not settings.allow_remote:
        return False  # the server would pass it on to another machine
    allowed = not settings.allow_models or _among(name, settings.allow_models)
    return allowed and not _among(name, settings.deny_models)


def _among(name: str, patterns: tuple[str, ...]) -> bool:
    return any(
        fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}:latest") for pattern in patterns
    )


def _backend(settings: OllamaSettings, model: str) -> BackendSettings:
    return BackendSettings(
        spec=BackendSpec(
            name=settings.name_prefix + model,
            kind=OLLAMA,
            hosting=LOCAL if is_loopback(settings.base_url) else REMOTE,
            base_url=settings.base_url,
            model=model,
            ops=("chat_completions", "embeddings"),
            features=_FEATURES,
        )
    )

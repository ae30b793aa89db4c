"""Makes the backend that a specification describes.

The rule: the one place that knows all kinds; nothing is connected before the first request.
"""

from __future__ import annotations

from spear.errors import InvalidArgument
from spear.hostcalls.llm.backends import anthropic, ollama, openai
from spear.hostcalls.llm.backends.http_backend import HttpBackend
from spear.hostcalls.llm.backends.stub import StubBackend
from spear.hostcalls.llm.http.client import HttpClient
from spear.records import models

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.clock import Clock
    from spear.hostcalls.llm.backends.dialect import Dialect
    from spear.hostcalls.llm.backends.interface import Backend
    from spear.records.models import BackendSpec


def make_backend(spec: BackendSpec, clock: Clock, credential: str = "") -> Backend:
    """`credential` is the value of what `credential_ref` names; empty where there is none. Raises
    InvalidArgument for a kind, URL or credential that cannot be used; it repeats no credential."""
    dialect: Dialect
    if spec.kind == models.STUB:
        return StubBackend(spec)
    if spec.kind == models.OPENAI:
        dialect, headers = openai.OpenAiDialect(spec.base_url), openai.headers_for(credential)
    elif spec.kind == models.OLLAMA:
        dialect, headers = ollama.OllamaDialect(), ollama.headers_for(credential)
    elif spec.kind == models.ANTHROPIC:
        dialect = anthropic.AnthropicDialect(spec.base_url)
        headers = anthropic.headers_for(credential)
    else:
        raise InvalidArgument(
            f"backend {spec.name}: kind {spec.kind!r} is none of {', '.join(models.KINDS)}"
        )
    try:
        http = HttpClient(spec.base_url, clock, headers)
    except InvalidArgument as error:
        raise InvalidArgument(f"backend {spec.name}: {error}") from None
    return HttpBackend(spec, clock, dialect, http, credential)

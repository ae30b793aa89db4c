"""What is known of a model backend: where it is, what it speaks, what it can do.

The rule: plain values, as the configuration says them; a credential is only named here (by an
environment variable), never held.
"""

from __future__ import annotations

import msgspec

OPENAI, OLLAMA, ANTHROPIC, STUB = (
    "openai_chat_completion", "ollama_chat", "anthropic_messages", "stub",
)  # fmt: skip
KINDS = (OPENAI, OLLAMA, ANTHROPIC, STUB)
LOCAL, REMOTE = "local", "remote"
HTTP = "http"


class BackendSpec(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`model` is the only one it answers with; empty: any that is asked for. `credential_ref` names
    the environment variable of its key; empty: it needs none.
    What `priority` and `weight` mean is routing's to say."""

    name: str
    kind: str
    hosting: str
    base_url: str = ""
    model: str = ""
    credential_ref: str = ""
    weight: int = 100
    priority: int = 0
    ops: tuple[str, ...] = ("chat_completions",)
    features: tuple[str, ...] = ()
    transports: tuple[str, ...] = (HTTP,)


class ModelInfo(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A backend as it stands on a node. `reason`: why it is not available, or how it failed last;
    `health` is closed (well), open (failing) or half_open (about to be tried again). `source` is
    `config`, `default` or who found it (`ollama`)."""

    name: str
    kind: str
    hosting: str = ""
    model: str = ""
    base_url: str = ""
    available: bool = False
    reason: str = ""
    health: str = ""
    source: str = ""
    weight: int = 0
    priority: int = 0
    ops: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    latency_ns: int = 0  # a moving mean
    error_rate: float = 0.0  # a moving mean, 0 to 1
    in_flight: int = 0
    waiting: int = 0


class ModelTest(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a backend answered to a tiny request; `cost_nano_usd` is 0 too where no price is
    known."""

    backend: str
    model: str = ""
    answer: str = ""
    latency_ns: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nano_usd: int = 0

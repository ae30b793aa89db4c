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

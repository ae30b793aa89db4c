"""Which model backends are configured, and whether their credentials are there."""

from __future__ import annotations

from spear.cli.verbs.machine.finding import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.config import Config

_SHOWN_MAX = 8


def models_finding(config: Config) -> Finding:
    """Nothing is asked: `spear model test` does that."""
    if not config.has_llm:
        return Finding("models", "ok", "the stub alone, which answers offline and always the same",
                       "spear model add adds another")  # fmt: skip
    from spear.cli.running.backends import models_by
    from spear.clock import Clock

    found = models_by(config, Clock()).list()
    names = ", ".join(one.name for one in found[:_SHOWN_MAX])
    names += f" and {len(found) - _SHOWN_MAX} more" if len(found) > _SHOWN_MAX else ""
    ollama = config.llm.ollama
    if ollama.enabled:
        names += f"{', ' if names else ''}and those of {ollama.base_url}"
    away = [f"{one.name}: {one.reason}" for one in found if not one.available]
    if away:
        return Finding("models", "note", f"{names}; not available: {'; '.join(away[:_SHOWN_MAX])}",
                       "set it where the node is started")  # fmt: skip
    return Finding("models", "ok", names, "spear model test NAME tries one")

"""The entries of a task's config: which ones this build reads, and what their values must be.

The rule: a family of keys that something here reads (`llm.`, `budget.`, `tasks.`, `mcp.`) has no
key that nothing reads; one that is not known is refused with the nearest that is. Other families
are the caller's own and are kept as they are, with a word that nothing here reads them.
"""

from __future__ import annotations

from spear.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

READ = (
    "llm.backends", "budget.calls", "budget.tokens", "budget.time", "budget.usd", "tasks.allowed",
)  # fmt: skip
# Policy of existing deployments, kept for what will read it; until then MCP is off for every task.
KEPT = (
    "mcp.enabled", "mcp.default_server_ids", "mcp.allowed_server_ids", "mcp.tool_allowlist",
    "mcp.tool_denylist",
)  # fmt: skip
_FAMILIES = frozenset(key.partition(".")[0] for key in (*READ, *KEPT))
_ENTRIES_MAX, _TEXT_MAX = 256, 65_536


def check_config(config: Mapping[str, str]) -> None:
    """Raises InvalidArgument."""
    if len(config) > _ENTRIES_MAX:
        raise InvalidArgument(f"config has {len(config)} entries, the most is {_ENTRIES_MAX}")
    for key, value in config.items():
        if len(value) > _TEXT_MAX:
            raise InvalidArgument(f"config {key[:80]!r} is longer than {_TEXT_MAX} letters")
        if key.partition(".")[0] in _FAMILIES and key not in READ and key not in KEPT:
            raise _unknown(key)
    _check_values(config)


def unread(config: Mapping[str, str]) -> list[str]:
    """Keys that nothing in this build reads, in order."""
    return sorted(key for key in config if key not in READ)


def _check_values(config: Mapping[str, str]) -> None:
    """By those who read them; imported only for what is there."""
    if any(key.startswith(("llm.", "budget.")) for key in config):
        from spear.hostcalls.llm.policy import policy_of

        policy_of(config)
    if "tasks.allowed" in config:
        from spear.hostcalls.allowed import names_of

        names_of("tasks.allowed", config["tasks.allowed"])


def _unknown(key: str) -> InvalidArgument:
    import difflib

    known = [*READ, *KEPT]
    nearest = difflib.get_close_matches(key, known, 1, cutoff=0.5)
    family = [name for name in known if name.startswith(key.partition(".")[0] + ".")]
    near = f"the nearest known one is {nearest[0]!r}" if nearest else f"known are {family}"
    return InvalidArgument(f"config: unknown key {key[:80]!r}; {near}")

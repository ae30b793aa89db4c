"""The parameters of a chat session: which keys are ours, and what goes upstream as it came.

The rule: a value of the wrong type counts as not given, and whoever set it is told; only keys of
MCP are refused. Nothing here can change the messages, the tools or the way of the answer.
Source: the guest ABI, section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EACCES, EINVAL
from typing import Any, NamedTuple

import msgspec

ITERATIONS, ITERATIONS_MAX = 8, 128
TOOL_CALLS, TOOL_CALLS_MAX = 32, 10_000
TOOL_OUTPUT_BYTES, TOOL_OUTPUT_BYTES_MAX = 65_536, 1 << 20
TIMEOUT_MS_MAX = 24 * 3600 * 1000
_ADDRESS_END = 1 << 31  # all from here on are the same to the ABI: no address
_ALIASES = {"max_tool_calls": "max_total_tool_calls"}
_OURS_ALONE = ("messages", "tools", "stream")  # a guest may set them, and nobody reads them


class Setting(NamedTuple):
    """What a guest asked SET_PARAM for."""

    key: str
    value: Any


class _Given(msgspec.Struct):
    key: str
    value: Any


_decode_given = msgspec.json.Decoder(_Given).decode


def read_setting(text: bytes) -> Setting | None:
    """Of `{"key": "...", "value": ...}`; None where it is not that, or the key is empty."""
    try:
        given = _decode_given(text)
        return Setting(given.key, given.value) if given.key else None
    except (ValueError, RecursionError):
        pass  # of another form, or not in UTF-8: read as it is
    try:
        found = msgspec.json.decode(text.decode(errors="replace"))
    except (msgspec.MsgspecError, RecursionError):
        return None
    key = found.get("key") if isinstance(found, dict) and "value" in found else None
    return Setting(key, found["value"]) if isinstance(key, str) and key else None


def mcp_status(setting: Setting) -> int:
    """What the policy of a task that has none says: 0, or the error. MCP is off, no server is
    allowed."""
    key, value = setting
    if not key.startswith("mcp."):
        return 0
    if key.startswith("mcp.task_"):
        return -EACCES
    if key == "mcp.enabled":
        return -EACCES if value is True else 0 if value is False else -EINVAL
    if key == "mcp.server_ids":
        return -EINVAL if not _is_texts(value) else -EACCES if value else 0
    if key in ("mcp.tool_allowlist", "mcp.tool_denylist"):
        return 0 if _is_texts(value) else -EINVAL
    return 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_u64(value: Any) -> bool:
    return _is_int(value) and 0 <= value < 1 << 64


_KNOWN: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model": (_is_text, "a text"),
    "backend": (_is_text, "a text"),
    "timeout_ms": (_is_u64, "a whole number"),
    "tool_arena_ptr": (_is_int, "a whole number"),
    "tool_arena_len": (_is_int, "a whole number"),
    "max_tool_output_bytes": (_is_u64, "a whole number"),
    "max_iterations": (_is_u64, "a whole number"),
    "max_total_tool_calls": (_is_u64, "a whole number"),
}
_MCP = ("mcp.enabled", "mcp.server_ids", "mcp.tool_allowlist", "mcp.tool_denylist")
_KEPT_HERE = frozenset((*_KNOWN, *_MCP, *_OURS_ALONE))


class Params:
    """What was set in one session; the last value of a key counts."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def set(self, setting: Setting) -> str:
        """A sentence where the value is of no use, else ""."""
        key, value = _ALIASES.get(setting.key, setting.key), setting.value
        fits, wanted = _KNOWN.get(key, (None, ""))
        if fits is None or fits(value):
            self._values[key] = value
            return ""
        self._values.pop(key, None)
        if value is None:
            return ""
        return f"parameter {key!r}: expected {wanted}, found {_shown(value)}: it counts as not set"

    def extra(self) -> dict[str, Any]:
        """What goes to the top level of the upstream body as it is."""
        values = self._values
        if values.keys() <= _KEPT_HERE:
            return {}
        return {key: value for key, value in values.items() if key not in _KEPT_HERE}

    @property
    def model(self) -> str:
        """Empty: the backend's own."""
        return str(self._values.get("model", ""))

    @property
    def backend(self) -> str:
        """Empty: any."""
        return str(self._values.get("backend", ""))

    @property
    def timeout_ms(self) -> int:
        """Of one request; 0: as long as the execution may run."""
        return self._count("timeout_ms", 0, TIMEOUT_MS_MAX)

    @property
    def arena(self) -> tuple[int, int]:
        """Address and size of the place for the tools' arguments and output, as the guest said."""
        return self._address("tool_arena_ptr"), self._address("tool_arena_len")

    @property
    def tool_output_bytes_max(self) -> int:
        return self._count("max_tool_output_bytes", TOOL_OUTPUT_BYTES, TOOL_OUTPUT_BYTES_MAX)

    @property
    def iterations_max(self) -> int:
        return self._count("max_iterations", ITERATIONS, ITERATIONS_MAX)

    @property
    def tool_calls_max(self) -> int:
        return self._count("max_total_tool_calls", TOOL_CALLS, TOOL_CALLS_MAX)

    def _count(self, key: str, default: int, most: int) -> int:
        return min(int(self._values.get(key, default)), most)

    def _address(self, key: str) -> int:
        return max(self._count(key, 0, _ADDRESS_END), -1)


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."

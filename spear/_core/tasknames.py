"""What may name a task: the one check of everybody who takes such a name.

The rule: a task's objects lie under `/<task>/`, so a name is one segment of a key, and short enough
that a key of its own still fits behind it.
"""

from __future__ import annotations

from spear.errors import InvalidArgument

TASK_NAME_BYTES_MAX = 255


def check_task_name(name: str) -> bytes:
    """The name as UTF-8. Raises InvalidArgument."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        encoded = b""
    if not 1 <= len(encoded) <= TASK_NAME_BYTES_MAX or "/" in name or "\0" in name:
        shown = repr(name) if len(name) <= 60 else f"{name[:57]!r}..."
        raise InvalidArgument(
            f"a task's name is 1 to {TASK_NAME_BYTES_MAX} bytes of UTF-8 without '/' and NUL, "
            f"found {shown}"
        )
    return encoded

"""What a guest is given by the command line: its environment, its directories, its input.

The rule: read before anything is started, so that what is wrong with it costs nothing; stdin is the
input where it is no terminal and no other is named.
"""

from __future__ import annotations

import os

from spear.cli import terminal
from spear.cli.arguments import UsageError
from spear.errors import InvalidArgument
from spear.units import show_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spear._core.filetable import Directory

_READ_BYTES = 1 << 16
BYTES_MAX = (64 << 20) - (1 << 16)  # of an input for a node: a message has 64 MiB, with all else


def environment(values: Sequence[str]) -> dict[str, str]:
    return pairs("--env", values)


def pairs(flag: str, values: Sequence[str]) -> dict[str, str]:
    """Of a repeated option NAME=VALUE (or KEY=VALUE); the last of a name counts."""
    found = {}
    for pair in values:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"{flag} takes NAME=VALUE, not {pair!r}")
        found[name] = value
    return found


def entries(values: Sequence[str]) -> dict[str, str]:
    """Of `--set`, for a task's config. Raises UsageError, InvalidArgument."""
    found = pairs("--set", values)
    if found:
        from spear.spearlet.taskconfig import check_config

        check_config(found)
    return found


def unread_entries(config: Mapping[str, str]) -> list[str]:
    """A warning for each entry that nothing reads, as a node writes it to its log."""
    if not config:
        return []
    from spear.spearlet.taskconfig import unread

    return [f"nothing reads this of the task's config: {key}" for key in unread(config)]


def directories(grants: Sequence[str]) -> list[Directory]:
    """Opened here: a path that is replaced later is not what was granted."""
    if not grants:
        return []
    from spear._core.filetable import Directory

    found = []
    for grant in grants:
        host, guest, mode = grant_of(grant)
        found.append(Directory(host, guest, writable=mode == "rw"))
    return found


def grant_of(text: str) -> tuple[str, str, str]:
    """Host path, the guest's name for it ("": the same), mode. A last part that is a mode is
    one: a guest's name `rw` is written HOST:rw:rw."""
    parts = text.split(":")
    mode = parts.pop() if len(parts) > 1 and parts[-1] in ("ro", "rw") else "ro"
    if len(parts) == 3:
        raise UsageError(f"--dir {text}: the mode is ro or rw, not {parts[2]!r}")
    if len(parts) > 3 or not all(parts):
        raise UsageError(f"--dir takes HOST, HOST:GUEST or HOST:GUEST:ro|rw, not {text!r}")
    return parts[0], parts[1] if len(parts) > 1 else "", mode


def payload(source: str | None, bytes_max: int) -> bytes:
    """Up to one byte more than allowed, which whoever takes it refuses."""
    if source is None and terminal.is_terminal(terminal.STDIN):
        return b""
    if source is None or source == "-":
        return _read_stdin(bytes_max, asked=source is not None)
    try:
        with open(source, "rb") as file:
            return file.read(bytes_max + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidArgument(f"cannot read the input {source!r}: {reason}") from error


def node_payload(source: str | None) -> bytes:
    """Of a call of a node, whose message it must fit into. Raises InvalidArgument."""
    return whole(source, BYTES_MAX, "let the agent read it from a directory, by --dir of its task")


def whole(source: str | None, bytes_max: int, advice: str) -> bytes:
    """All of it. Raises InvalidArgument, with the advice for what is larger than allowed."""
    found = payload(source, bytes_max)
    if len(found) > bytes_max:
        raise InvalidArgument(
            f"the input is larger than {show_size(bytes_max)}, the most that is taken: {advice}"
        )
    return found


def _read_stdin(bytes_max: int, *, asked: bool) -> bytes:
    """All of stdin, up to one byte more than allowed; a closed one is empty unless asked for."""
    parts, size = [], 0
    try:
        while size <= bytes_max and (part := os.read(terminal.STDIN, _READ_BYTES)):
            parts.append(part)
            size += len(part)
    except OSError as error:
        if asked:
            raise InvalidArgument(f"cannot read stdin: {error.strerror}") from error
    return b"".join(parts)[: bytes_max + 1]

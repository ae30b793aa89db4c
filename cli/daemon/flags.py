"""The flags of a daemon, for click: those of `spearlet`, with the words of their settings.

The rule: cli/spearlet.py has the table, spear/config.py the meaning; a flag that this build does
not serve is taken here too, and refused there with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from spear.cli.spearlet import FLAGS
from spear.config import SETTINGS, UNSERVED

_SUMMARIES = {setting.key: setting.summary for setting in SETTINGS}
_PORTS_FILE = click.option(
    "--ports-file", metavar="FILE", help="Gets the node's addresses as JSON once they answer."
)


def daemon_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them to a click command."""
    for flag, metavar, key in reversed(FLAGS):
        summary = _SUMMARIES.get(key, "")
        shown = f"{summary[:1].upper()}{summary[1:]}."
        command = click.option(flag, metavar=metavar, help=shown, hidden=key in UNSERVED)(command)
    return _PORTS_FILE(command)


def words_of(path: str | None, said: Mapping[str, str | None]) -> list[str]:
    """The flags as they were said, for `spearlet` and for another process."""
    named = [("--config", path), ("--ports-file", said["ports_file"])]
    named += [(flag, said[flag.removeprefix("--").replace("-", "_")]) for flag, _, _ in FLAGS]
    return [word for flag, value in named if value is not None for word in (flag, value)]

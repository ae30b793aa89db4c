"""`spear config show`: the effective settings, where each came from, and what is not taken."""

from __future__ import annotations

import click

from spear import config as configuration
from spear.cli import exits, terminal
from spear.cli.visits.options import CONFIG, OUTPUT
from spear.clock import Clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from spear.config import Refusal

    Row = tuple[str, str, str, str]


@click.group()
def command() -> None:
    """Look at the configuration."""


@command.command("show")
@CONFIG
@OUTPUT
@click.pass_context
def config_show(context: click.Context, path: str | None, output: str) -> None:
    """Show every setting, its effective value and where that came from."""
    context.exit(show(path, as_json=output == "json"))


def show(path: str | None, *, as_json: bool) -> int:
    """Prints every setting, then what was refused; WRONG_USE if anything was. Raises
    InvalidArgument where the file cannot be understood, NotFound where it is not there."""
    refusals: list[Refusal] = []
    config = configuration.load(
        path, defaults={"node_name": Clock().host_name()}, refusals=refusals
    )
    text = (_json if as_json else _table)(config.rows(), refusals)
    if terminal.is_terminal(terminal.STDOUT):
        text = terminal.escape(text)
    terminal.write(terminal.STDOUT, text.encode("utf-8", "backslashreplace"))
    for refusal in refusals:
        terminal.say_error(refusal.reason)
    return exits.WRONG_USE if refusals else exits.OK


def _table(rows: Sequence[Row], refusals: Sequence[Refusal]) -> str:
    shown = [("KEY", "VALUE", "FROM", "MEANING"), *rows]
    shown += [(refusal.key, "refused", refusal.source, refusal.reason) for refusal in refusals]
    widths = [max(len(row[column]) for row in shown) for column in range(3)]
    return "".join(
        "  ".join([*(row[i].ljust(widths[i]) for i in range(3)), row[3]]) + "\n" for row in shown
    )


def _json(rows: Sequence[Row], refusals: Sequence[Refusal]) -> str:
    """A refused key has `refused`, the reason, beside the value that holds (null: not a key)."""
    import json

    settings: dict[str, dict[str, Any]] = {
        key: {"value": value, "source": source} for key, value, source, _ in rows
    }
    for refusal in refusals:
        entry = settings.setdefault(refusal.key, {"value": None, "source": refusal.source})
        entry["refused"] = refusal.reason
    return json.dumps(settings, indent=2) + "\n"

"""`spear completion`: the script with which a shell completes the command."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from spear.cli import exits, terminal


def main(tree: click.Command, shell: str) -> int:
    """Prints the script of `shell` on stdout."""
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    script = kind(tree, {}, "spear", "_SPEAR_COMPLETE").source()
    terminal.write(terminal.STDOUT, script.encode() + b"\n")
    return exits.OK

"""`spear completion`: the script with which a shell completes the command."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from spear.cli import terminal


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash: eval "$(spear completion bash)" in ~/.bashrc
    zsh:  eval "$(spear completion zsh)" in ~/.zshrc
    fish: spear completion fish > ~/.config/fish/completions/spear.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    script = kind(context.find_root().command, {}, "spear", "_SPEAR_COMPLETE").source()
    terminal.write(terminal.STDOUT, script.encode() + b"\n")

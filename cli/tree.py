"""The command line as a click tree: help, completion, and every verb that need not start fast.

The rule: a verb's work is in the verb's file; here stand only names, options and help texts. `run`
is never run from here: main.py goes to its file at once.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import click

from spear import __version__
from spear.cli import exits, terminal
from spear.cli.run import OPTIONS as RUN_OPTIONS
from spear.errors import SpearError

_CONTEXT = {"help_option_names": ["-h", "--help"]}
_CONFIG = click.option("--config", "path", metavar="FILE", help="Instead of ~/.spear/config.toml.")
_OUTPUT = click.option(
    "--output", type=click.Choice(["table", "json"]), default="table", help="How to show it."
)


@click.group(context_settings=_CONTEXT)
@click.version_option(__version__, message="spear %(version)s")
def spear() -> None:
    """SPEAR runs AI agents as small sandboxed programs."""


@spear.command(
    short_help="Run a WASM module.",
    params=[
        *(
            click.Option(
                [option.flag],
                metavar=option.metavar or None,
                is_flag=not option.metavar,
                multiple=option.repeated,
                type=click.Choice(option.choices) if option.choices else None,
                help=option.summary,
            )
            for option in RUN_OPTIONS
        ),
        click.Argument(["file"], metavar="FILE.wasm", type=click.Path()),
        click.Argument(["args"], metavar="[-- ARGS]", nargs=-1),
    ],
)
def run(**_: object) -> None:
    """Run FILE.wasm in a sandbox, in this process.

    The guest's stdout goes to stdout, its log lines and stderr to stderr. ARGS are the guest's
    arguments, after its own name.

    \b
    Exit codes: the guest's own; 124 wall time; 130 interrupted; 134 trap;
    137 ended for another limit, or cancelled (as when nobody reads stdout any
    more); 125 SPEAR could not run it.

    With --repeat, stdout gets the output of the first run only (or the JSON
    document), stderr a table of all. The exit code is 0 if all runs completed,
    else that of the first run that did not; 130 interrupted.
    """


@spear.command(short_help="Show what this machine offers and what is missing.")
@click.argument("file", required=False, type=click.Path())
@_CONFIG
@_OUTPUT
@click.pass_context
def doctor(context: click.Context, file: str | None, path: str | None, output: str) -> None:
    """Show what this machine offers, what is missing and how to get it.

    With FILE.wasm: what that module is, what it needs, and whether it can run here.
    """
    from spear.cli import doctor as verb

    context.exit(verb.main(file, path, as_json=output == "json"))


@spear.group()
def config() -> None:
    """Look at the configuration."""


@config.command("show")
@_CONFIG
@_OUTPUT
@click.pass_context
def config_show(context: click.Context, path: str | None, output: str) -> None:
    """Show every setting, its effective value and where that came from."""
    from spear.cli import config as verb

    context.exit(verb.show(path, as_json=output == "json"))


@spear.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash: eval "$(spear completion bash)" in ~/.bashrc
    zsh:  eval "$(spear completion zsh)" in ~/.zshrc
    fish: spear completion fish > ~/.config/fish/completions/spear.fish
    """
    from spear.cli import completion as verb

    context.exit(verb.main(spear, shell))


def invoke(arguments: Sequence[str]) -> int:
    """Runs the tree; errors become one sentence and the contract's exit codes. Raises OSError
    where stdout cannot be written."""
    said = io.BytesIO()  # what click prints goes out by the same door as all else
    text = io.TextIOWrapper(said, "utf-8", errors="backslashreplace", write_through=True)
    try:
        with contextlib.redirect_stdout(text):
            return _invoke(arguments)
    finally:
        terminal.write(terminal.STDOUT, said.getvalue())


def _invoke(arguments: Sequence[str]) -> int:
    try:
        result = spear.main(list(arguments), prog_name="spear", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        terminal.say(error.format_message() + "\n")
        return exits.WRONG_USE
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "spear"
        terminal.say_error(error.format_message(), f"{command} --help shows what is accepted")
        return exits.WRONG_USE
    except (click.Abort, KeyboardInterrupt):
        return exits.INTERRUPTED
    except SpearError as error:
        terminal.say_error(str(error))
        return exits.of_error(error)
    return result if isinstance(result, int) else exits.OK

"""The `spearlet` command: a node's daemon, for supervisors and scripts.

The rule: `spear up` without its screen: it says where it answers, one line a door, and logs.
"""

from __future__ import annotations

import sys

import click

from spear import __version__
from spear.cli import exits, terminal
from spear.cli.daemon.flags import config_of, daemon_flags
from spear.cli.visits.options import CONFIG
from spear.errors import SpearError


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="spearlet %(version)s")
@CONFIG
@daemon_flags
@click.pass_context
def command(
    context: click.Context, /, path: str | None, ports_file: str, **said: str | None
) -> None:
    """Serve a node until SIGTERM or SIGINT: the first lets what runs end, the second does not.

    Prints `spearlet ready: DOOR ADDRESS` for each door that answers.
    """
    config = config_of(path, said)
    from spear.cli.daemon.serve import serve

    context.exit(serve(config, ports_file))


def main() -> int:
    """Runs the command line and gives the exit code."""
    terminal.occupy_closed()
    try:
        code = command.main(prog_name="spearlet", standalone_mode=False)
    except click.UsageError as error:
        terminal.say_error(error.format_message(), "spearlet --help shows what is accepted")
        return exits.WRONG_USE
    except (click.Abort, KeyboardInterrupt):
        return exits.INTERRUPTED
    except SpearError as error:
        terminal.say_error(str(error))
        return exits.of_error(error)
    return code if isinstance(code, int) else exits.OK


if __name__ == "__main__":
    sys.exit(main())

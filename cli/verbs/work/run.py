"""The help of `spear run`; its work is in cli/run.py, which is reached without click."""

from __future__ import annotations

import click

from spear.cli.run import OPTIONS


@click.command(
    "run",
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
            for option in OPTIONS
        ),
        click.Argument(["file"], metavar="FILE.wasm", type=click.Path()),
        click.Argument(["args"], metavar="[-- ARGS]", nargs=-1),
    ],
)
def command(**_: object) -> None:
    """Run FILE.wasm in a sandbox, in this process; with --node by a node.

    The guest's stdout goes to stdout, its log lines and stderr to stderr. ARGS are the guest's
    arguments, after its own name.

    \b
    spear run hello.wasm
    spear run answer.wasm --input README.md --timeout 2s -- Ada
    spear run answer.wasm --node 127.0.0.1:50052 < README.md

    \b
    Exit codes: the guest's own; 124 wall time; 130 interrupted; 134 trap;
    137 ended for another limit, or cancelled (as when nobody reads stdout any
    more); 125 SPEAR could not run it.

    With --repeat, stdout gets the output of the first run only (or the JSON
    document), stderr a table of all. The exit code is 0 if all runs completed,
    else that of the first run that did not; 130 interrupted.

    By a node, the output comes at the end, the log as it grows.
    """

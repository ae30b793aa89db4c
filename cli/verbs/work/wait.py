"""`spear wait`: returns when an execution has ended."""

from __future__ import annotations

import click

from spear.cli import exits
from spear.cli.running.screen import say_end
from spear.cli.screens import bars, words
from spear.cli.visits import ids
from spear.cli.visits.options import duration_ns
from spear.cli.visits.visit import Visit, on_node
from spear.records.execution import Execution


@click.command()
@click.argument("id", metavar="ID")
@click.option("--timeout", metavar="DURATION", help="Give up after it; the execution goes on.")
@on_node
async def command(visit: Visit, id: str, timeout: str | None) -> int:
    """Wait until the execution has ended, and say how.

    The exit code is 0 if it completed, else 1. Interrupting this command, or --timeout, leaves the
    execution as it is.

    \b
    spear wait 3f9a12bc --timeout 5m && spear result 3f9a12bc
    """
    timeout_ns = duration_ns("--timeout", timeout, zero=True) if timeout else None
    found = await ids.execution_id(visit.node, id)
    with bars.waiting(f"waiting for {words.id_end(found)}"):
        execution = await visit.node.wait(found, timeout_ns=timeout_ns, include_output=False)
    visit.kept(execution, said(execution))
    if execution.error and not visit.as_json:
        say_end(execution.error)
    return exits.OK if execution.completed else exits.FAILED


def said(execution: Execution) -> str:
    """How it ended, in a line."""
    exit_code = "" if execution.exit_code is None else f", exit code {execution.exit_code}"
    tries = f", attempt {execution.attempt}" if execution.attempt > 1 else ""
    return f"{execution.status} in {words.length(execution.duration_ns)}{exit_code}{tries}"

"""`spear result`: the output of an execution that has ended."""

from __future__ import annotations

import click

from spear.cli import exits
from spear.cli.running import outcome
from spear.cli.running.screen import JsonScreen, say_end
from spear.cli.visits import files, ids
from spear.cli.visits.visit import Visit, on_node
from spear.errors import InUse


@click.command()
@click.argument("id", metavar="ID")
@click.option("-o", "target", metavar="FILE", help="Write it there; all of it, or nothing.")
@on_node
async def command(visit: Visit, id: str, target: str | None) -> int:
    """Write the output of an ended execution to stdout, byte for byte.

    The exit code is 0 if it completed, else 1: what it wrote until then is given all the same.
    --output json gives the document of `spear run`.

    \b
    spear result 3f9a12bc
    spear result 3f9a12bc -o answer.json
    """
    found = await ids.execution_id(visit.node, id)
    execution = await visit.node.execution(found, include_output=True)
    if not execution.ended:
        raise InUse(f"execution {found} is {execution.status}: spear wait {found} waits for it")
    if visit.as_json and not target:
        execution = await outcome.with_output(visit.node, execution)
        lines = await outcome.logs(visit.node, found)
        JsonScreen(lines).close(execution, None, None)
    else:
        await files.save(visit, execution, outcome.parts(visit.node, execution), target)
    if execution.error and not visit.as_json:
        say_end(execution.error)
    return exits.OK if execution.completed else exits.FAILED

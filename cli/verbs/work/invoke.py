"""`spear invoke`: calls a registered task and waits for what it gives."""

from __future__ import annotations

import click

from spear.cli.running import inputs, outcome
from spear.cli.visits import tasknames
from spear.cli.visits.calls import call_options, invocation_of, key_option
from spear.cli.visits.options import ARGS, INPUT
from spear.cli.visits.visit import Visit, on_node


@click.command()
@click.argument("task", metavar="TASK")
@INPUT
@ARGS
@key_option
@call_options
@on_node
async def command(
    visit: Visit, task: str, source: str | None, args: tuple[str, ...], **call: str
) -> int:
    """Call the registered task TASK and wait: its stdout is the command's stdout.

    When this command is interrupted, the execution is ended.

    \b
    spear invoke greet -- Ada
    spear invoke summary --input README.md --timeout 5s > summary.txt
    spear invoke adder --function add -- 1 2

    The exit code is that of `spear run`, once the node has taken the call; --output json gives its
    document. A node that refuses ends it with 3 (no such task), 4 (refused), 5 (not reachable) or 6
    (no room).
    """
    invocation = invocation_of(args, **call)  # type: ignore[arg-type]
    payload = inputs.node_payload(source)
    async with tasknames.nearest(visit.node, task):
        execution = await visit.node.invoke(task, payload, invocation)
    return await outcome.show_call(visit, execution)

"""An execution of a node that has ended, shown as `spear run` shows its own.

The rule: stdout gets the whole output, read from the node where the record has not got it; the
exit code is the one that `spear run` would have.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from spear.cli import exits, terminal
from spear.cli.running.screen import JsonScreen, TextScreen
from spear.cli.screens import words
from spear.cli.visits.visit import Visit
from spear.errors import NotFound
from spear.records.execution import Execution, LogLine
from spear.records.node import Node


async def show_call(visit: Visit, execution: Execution) -> int:
    """The output, or the whole document; then how it ended and where the log is. Raises OSError
    where stdout cannot be written."""
    if visit.as_json:
        execution = await with_output(visit.node, execution)
        JsonScreen(await logs(visit.node, execution.id)).close(execution, None, None)
        return exits.of_execution(execution)
    screen = TextScreen()
    async for part in parts(visit.node, execution):
        screen.take((), part)
    if execution.value:  # of a function
        screen.take((), f"{' '.join(map(str, execution.value))}\n".encode())
    screen.end_line()
    screen.close(execution, None, None)
    visit.tell(ended(execution))
    if not execution.completed and execution.log_lines:
        terminal.say(f"hint: spear logs {execution.id} shows what it logged\n")
    return exits.of_execution(execution)


def ended(execution: Execution) -> str:
    """Which it was, how it ended, how long it took, and how durably that is kept."""
    took = words.length(execution.duration_ns)
    kept = words.durability(execution)
    return f"execution {words.id_end(execution.id)} {execution.status} in {took} {kept}"


async def parts(node: Node, execution: Execution) -> AsyncIterator[bytes]:
    """The output: as the record has it, or in parts where it is too large for that."""
    if not execution.output_digest or execution.output:
        yield execution.output
        return
    async for part in node.read_result(execution.id):
        yield part


async def with_output(node: Node, execution: Execution) -> Execution:
    """The record with all of its output in it."""
    execution.output = b"".join([part async for part in parts(node, execution)])
    return execution


async def logs(node: Node, id: str) -> list[LogLine]:
    """All that is there; nothing where the node keeps no log of it."""
    try:
        return [line async for batch in node.logs(id) for line in batch]
    except NotFound:
        return []

"""`spear logs`: what an execution logged, or logs from now on."""

from __future__ import annotations

import click

from spear.cli import exits, terminal
from spear.cli.screens import values
from spear.cli.visits import ids
from spear.cli.visits.listener import listened
from spear.cli.visits.visit import Visit, on_node
from spear.records.execution import LogLine
from spear.telemetry.timetext import time_text


@click.command()
@click.argument("id", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on until the execution has ended.")
@click.option("--after", type=click.IntRange(0), default=0, metavar="SEQ",
              help="Only lines after this one.")  # fmt: skip
@on_node
async def command(visit: Visit, id: str, follow: bool, after: int) -> int:
    """Show the log of an execution: time, level and message; [stdout] and [stderr] are marked.

    --output json gives a JSON document a line, with the message as it was logged. On a terminal
    control characters are made visible.

    \b
    spear logs 3f9a12bc
    spear logs 3f9a12bc -f --output json
    """
    found = await ids.execution_id(visit.node, id)
    shown = terminal.escape if terminal.is_terminal(terminal.STDOUT) else str
    with listened():
        async for batch in visit.node.logs(found, after_seq=after, follow=follow):
            if visit.as_json:
                data = b"".join(values.dump_line(line) for line in batch)
            else:
                text = "".join(shown(text_of(line)) for line in batch)
                data = text.encode("utf-8", "backslashreplace")
            terminal.write(terminal.STDOUT, data)
    return exits.OK


def text_of(line: LogLine) -> str:
    """The line as shown; a newline within it cannot fake another line."""
    mark = line.level if line.stream == "log" else line.stream
    time = f"{time_text(line.time_ms * 10**6)[11:-1]} " if line.time_ms else ""  # 0: not known
    head = f"{time}[{mark}] "
    parts = line.message.removesuffix("\n").split("\n")
    return "".join(f"{head}{part}\n" for part in parts)

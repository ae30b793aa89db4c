"""`spear submit`: hands work to a node and gives the execution's id."""

from __future__ import annotations

import click

from spear.cli import exits
from spear.cli.arguments import UsageError
from spear.cli.running import inputs, outcome
from spear.cli.screens import bars, words
from spear.cli.visits import specs, tasknames
from spear.cli.visits.calls import call_options, invocation_of, key_option, webhook_option
from spear.cli.visits.options import ARGS, INPUT, SET
from spear.cli.visits.visit import Visit, on_node
from spear.errors import AlreadyExists
from spear.records.execution import Execution
from spear.records.task import TaskSpec
from spear.spearlet import taskfile


@click.command()
@click.argument("what", metavar="FILE.wasm|FILE.toml|TASK", required=False, default="")
@click.option("-f", "task_file", metavar="FILE.toml", help="The task file, by its option.")
@INPUT
@ARGS
@key_option
@call_options
@SET
@webhook_option
@click.option("--wait", is_flag=True, help="Wait for the end and give the output, as run does.")
@on_node
async def command(
    visit: Visit, what: str, task_file: str | None, source: str | None, args: tuple[str, ...],
    wait: bool, entries: tuple[str, ...], **call: str,
) -> int:  # fmt: skip
    """Hand work to a node; it goes on by itself and survives this command, a crash and a restart.

    A module is run as it is, a registered task by its name. A task file is registered first, or
    updated if it changed. The execution's id is printed.

    \b
    spear submit answer.wasm --input README.md -- Ada
    spear submit -f spear.toml --wait
    id=$(spear submit greet --key monday); spear wait $id; spear result $id

    With --wait, the exit code is that of `spear run`.
    """
    if task_file:  # then all words are arguments
        args, what = ((what, *args) if what else args), task_file
    if not what:
        raise UsageError("nothing to submit: FILE.wasm, FILE.toml, or the name of a task")
    file = taskfile.read(what) if specs.is_task_file(what) else None
    if file and not call["key"]:
        call["key"] = file.idempotency_key
    invocation = invocation_of(args, **call)  # type: ignore[arg-type]
    payload = inputs.node_payload(source)
    config = inputs.entries(entries)
    if config and not (file or specs.is_module(what)):
        raise UsageError(
            "--set is for a module or a task file; of a registered task it is changed by "
            "spear task update --set"
        )
    task = await (_filed(visit, file, config) if file else _named(visit, what, config))
    async with tasknames.nearest(visit.node, what):
        accepted = await visit.node.submit(task, payload, invocation)
    if wait:
        return await _to_the_end(visit, accepted)
    visit.named(accepted, accepted.id, f"task {words.one_line(accepted.task_name)} is submitted")
    return exits.OK


async def _filed(visit: Visit, file: taskfile.TaskFile, config: dict[str, str]) -> str:
    """The name of the file's task, which is registered as the file and `config` say now."""
    spec = specs.changed(await specs.filed(visit.node, file), {"config": config})
    try:
        task = await visit.node.register(spec)
    except AlreadyExists:
        task = await visit.node.update(spec)
        visit.tell(f"task {words.one_line(task.name)} is at version {task.version} now")
    return task.name


async def _named(visit: Visit, what: str, config: dict[str, str]) -> str | TaskSpec:
    """A task by its name, or the spec of a module, which is run as it is."""
    if not specs.is_module(what):
        return what
    return specs.changed(await specs.spec_of(visit.node, what), {"config": config})


async def _to_the_end(visit: Visit, accepted: Execution) -> int:
    visit.tell(f"execution {accepted.id} {words.durability(accepted)}")
    with bars.waiting(f"waiting for {words.id_end(accepted.id)}"):
        ended = await visit.node.wait(accepted.id)
    return await outcome.show_call(visit, ended)

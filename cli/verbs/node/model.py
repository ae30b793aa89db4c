"""`spear model`: the model backends of a node, or those configured here where none runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from spear import config as configuration
from spear.cli import document, exits, terminal
from spear.cli.screens import tables, words
from spear.cli.visits.options import CONFIG, OUTPUT, duration_ns
from spear.cli.visits.visit import Visit, on_node
from spear.errors import ModelError, NoBackend, NotFound, Unreachable
from spear.records.models import KINDS, ModelInfo, ModelTest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.hostcalls.llm.models import Models
    from spear.records.node import Node

T = TypeVar("T")
_NO_MODEL = "--model NAME asks for a model where the backend has none of its own"
_WITHOUT_NODE = "no node runs here: this is by the configuration and environment of this command"


@click.group()
def command() -> None:
    """List, add and try model backends."""


@command.command("ls")
@on_node
async def ls(visit: Visit) -> int:
    """List the backends, with why one cannot be asked.

    \b
    spear model ls
    """
    found = await _asked(visit, lambda node: node.models(), _listed)
    visit.show_all(tables.MODELS, found)
    return exits.OK


@command.command("test")
@click.argument("name")
@click.option("--prompt", metavar="TEXT", default="", help="What to ask (default: a few words).")
@click.option("--model", metavar="NAME", default="",
              help="Which model (default: the backend's own).")  # fmt: skip
@click.option("--timeout", metavar="DURATION", default="60s", show_default=True,
              help="How long the answer may take.")  # fmt: skip
@on_node
async def test(visit: Visit, name: str, prompt: str, model: str, timeout: str) -> int:
    """Ask the backend NAME for a few words.

    Shows the answer, how long it took and what it used.

    \b
    spear model test gpt --prompt "Say hello"
    """
    timeout_ns = duration_ns("--timeout", timeout)
    try:
        found = await _asked(
            visit,
            lambda node: node.test_model(name, prompt, model=model, timeout_ns=timeout_ns),
            lambda models: models.test(name, prompt, model=model, timeout_ns=timeout_ns),
        )
    except NotFound as error:
        raise NotFound(f"{error}{_newer(visit, name)}") from error
    except ModelError as error:
        from spear.hostcalls.llm.choice.routing import MODEL_MISSING

        lacks_model = isinstance(error, NoBackend) and MODEL_MISSING in str(error)
        return _failed(visit, error, _NO_MODEL if lacks_model else "")
    visit.answer(found, _text_of(found))
    return exits.OK


@command.command("add")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="What it speaks.")
@click.option("--base-url", metavar="URL", default="",
              help="Where it is (default: Ollama's and Anthropic's own).")  # fmt: skip
@click.option("--hosting", type=click.Choice(["local", "remote"]), default=None,
              help="Whose machine it is on (default: by the URL).")  # fmt: skip
@click.option("--model", metavar="NAME", default="",
              help="Its only model (default: any; an agent then names one).")  # fmt: skip
@click.option("--key-env", metavar="VARIABLE", default="",
              help="The environment variable that holds its key, on the node.")  # fmt: skip
@click.option("--weight", type=int, default=None, help="Its part among equals (default: 100).")
@click.option("--priority", type=int, default=None, help="Higher is asked first (default: 0).")
@click.option("--concurrency", type=int, default=None, help="Requests at once (default: any).")
@click.option("--requests-per-minute", type=int, default=None,
              help="Requests a minute (default: any).")  # fmt: skip
@click.option("--timeout", metavar="DURATION", default=None,
              help="How long one request may take (default: as the agent says).")  # fmt: skip
@CONFIG
@OUTPUT
@click.pass_context
def add(
    context: click.Context, /, name: str, path: str | None, output: str, **given: object
) -> None:
    """Add a backend to the configuration file.

    What the file holds is kept as it is; a node takes the backend when it is started next. The key
    itself goes into no file: name the variable.

    \b
    spear model add gpt --kind openai_chat_completion --base-url https://api.openai.com/v1 \\
        --model gpt-4o-mini --key-env OPENAI_API_KEY
    """
    from spear.cli.running.backends import added

    file = added(name, given, path)
    if output == "json":
        from spear.cli.screens import values

        terminal.write(terminal.STDOUT, values.dump({"name": name, "file": file}))
    else:
        asked = f"{name}{'' if given['model'] else ' --model NAME'}"
        said = words.one_line(
            f"{name} is in {file}: spear model test {asked} tries it, a node takes it when it is "
            "started"
        )
        terminal.write(terminal.STDOUT, f"{said}\n".encode("utf-8", "backslashreplace"))
    context.exit(exits.OK)


async def _asked(
    visit: Visit, of_node: Callable[[Node], Awaitable[T]], of_here: Callable[[Models], Awaitable[T]]
) -> T:
    """What the node says; where none runs and none was asked for, what would be here."""
    try:
        return await of_node(visit.node)
    except Unreachable:
        if visit.address is not None:
            raise
    from spear.cli.running.backends import models_here

    visit.tell(_WITHOUT_NODE)
    models = models_here(visit.config_path, visit.clock)
    try:
        return await of_here(models)
    finally:
        await models.close()


def _newer(visit: Visit, name: str) -> str:
    """What to do where this machine's node read the configuration before it had the backend."""
    configured = visit.address is None and configuration.load(visit.config_path, refusals=[]).llm
    if not configured or all(one.spec.name != name for one in configured.backends):
        return ""
    return "; it is configured since the node was started: spear node drain, then spear up"


async def _listed(models: Models) -> list[ModelInfo]:
    await models.refresh()
    return models.list()


def _failed(visit: Visit, error: ModelError, hint: str) -> int:
    if visit.as_json:
        content = {"code": document.code_of(error), "message": str(error), "hint": hint}
        terminal.write(terminal.STDOUT, document.dump({"error": content}))
    else:
        terminal.say_error(str(error), hint)
    return exits.FAILED


def _text_of(found: ModelTest) -> str:
    tokens = f"{found.prompt_tokens} + {found.completion_tokens} tokens"
    cost = f", {found.cost_nano_usd / 1e9:.9f} USD" if found.cost_nano_usd else ""
    answer = words.one_line(found.answer)
    model = words.one_line(found.model)
    return f"{answer}\n{model}: {words.length(found.latency_ns)}, {tokens}{cost}\n"

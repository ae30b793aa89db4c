"""The command line as a click tree: which verb lies in which file, help and completion.

The rule: SECTIONS is the one list of verbs, by the folder of cli/verbs that holds them; a verb's
file gives it as `command` and is imported when the verb is used. `run` is never run from here:
main.py goes to its file at once.
"""

from __future__ import annotations

import contextlib
import difflib
import io
from collections.abc import Sequence
from importlib import import_module

import click

from spear import __version__
from spear.cli import document, exits, terminal
from spear.cli.arguments import asks_for
from spear.errors import ObjectInUse, SpearError, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.cli.visits.dial import Dial

SECTIONS: dict[str, tuple[str, dict[str, str]]] = {
    "work": ("Work", {
        "run": "Run a WASM module, here or on a node.",
        "submit": "Hand work to a node; it goes on by itself.",
        "invoke": "Call a registered task and wait for its output.",
        "ls": "List executions, tasks, artifacts, instances or schedules.",
        "status": "Show the node, or one execution or task.",
        "wait": "Wait for the end of an execution.",
        "result": "Give the output of an execution.",
        "logs": "Show the log of an execution, or follow it.",
        "cancel": "End an execution wherever it is.",
        "rm": "Forget an ended execution.",
    }),
    "kept": ("What a node keeps", {
        "task": "Register, look at, change and remove tasks.",
        "schedule": "Have a node invoke a task by itself.",
        "artifact": "Put, look at, get and remove the bytes that tasks run.",
        "object": "Values that agents and you share, under names.",
        "instance": "Look at and end the environments that run executions.",
    }),
    "node": ("The node", {
        "up": "Start a node.",
        "node": "Look at a node, drain it, back it up, restore it.",
        "model": "List, add and try model backends.",
        "gc": "Remove what a node needs no more.",
    }),
    "machine": ("This machine", {
        "doctor": "Show what this machine offers and what is missing.",
        "config": "Look at the configuration.",
        "completion": "Print the completion script of a shell.",
    }),
}  # fmt: skip
_FOLDER_OF = {verb: folder for folder, (_, verbs) in SECTIONS.items() for verb in verbs}


class _Verbs(click.Group):
    """Finds verbs by SECTIONS."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(_FOLDER_OF)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        if name not in _FOLDER_OF:
            return None
        module = import_module(f"spear.cli.verbs.{_FOLDER_OF[name]}.{name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, context: click.Context, words: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = words[0]
        if name in _FOLDER_OF or name.startswith("-"):
            return super().resolve_command(context, words)
        near = self._near(context, name)
        advice = f": did you mean {' or '.join(near)}?" if near else ""
        raise click.UsageError(f"no verb {name!r}{advice}", context)

    def _near(self, context: click.Context, name: str) -> list[str]:
        """Verbs that are written alike, else those that have such a verb below them."""
        if near := difflib.get_close_matches(name, _FOLDER_OF, 2):
            return [f"spear {verb}" for verb in near]
        groups = ((verb, self.get_command(context, verb)) for verb in _FOLDER_OF)
        return [
            f"spear {verb} {name}"
            for verb, group in groups
            if isinstance(group, click.Group) and name in group.commands
        ]

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        for title, verbs in SECTIONS.values():
            with formatter.section(title):
                formatter.write_dl(list(verbs.items()), col_max=12)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="spear %(version)s")
def spear() -> None:
    """SPEAR runs AI agents as small sandboxed programs.

    \b
    spear run agent.wasm -- Ada       run one, here and now
    spear up --detach                 start a node in the background
    spear task register agent.wasm    register a task there
    spear invoke agent -- Ada         call it, as often as you like
    """


def invoke(arguments: Sequence[str], *, dial: Dial | None = None) -> int:
    """Runs the tree; errors become one sentence and the contract's exit codes. `dial` stands for
    the way to a node. Raises OSError where stdout cannot be written."""
    said = io.BytesIO()  # what click prints goes out by the same door as all else
    text = io.TextIOWrapper(said, "utf-8", errors="backslashreplace", write_through=True)
    try:
        with contextlib.redirect_stdout(text):
            return _invoke(arguments, dial)
    finally:
        terminal.write(terminal.STDOUT, said.getvalue())


def _invoke(arguments: Sequence[str], dial: Dial | None) -> int:
    as_json = asks_for(arguments, "--output", "json")
    try:
        result = spear.main(list(arguments), prog_name="spear", standalone_mode=False, obj=dial)
    except click.exceptions.NoArgsIsHelpError as error:
        terminal.say(error.format_message() + "\n")
        return exits.WRONG_USE
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "spear"
        hint = f"{command} --help shows what is accepted"
        if command == "spear" and isinstance(error, click.NoSuchOption):
            hint = "options stand behind the verb, as in: spear ls --output json"
        _tell("USAGE_ERROR", error.format_message(), hint, as_json=as_json)
        return exits.WRONG_USE
    except (click.Abort, KeyboardInterrupt):
        return exits.INTERRUPTED
    except SpearError as error:
        _tell(document.code_of(error), str(error), _hint_of(error), _when(error), as_json=as_json)
        return exits.of_error(error)
    return result if isinstance(result, int) else exits.OK


def _tell(
    code: str, sentence: str, hint: str, when: dict[str, int] | None = None, *, as_json: bool
) -> None:
    """What went wrong: to people on stderr, to programs as the one document on stdout."""
    if as_json:
        content = {"code": code, "message": sentence, "hint": hint, **(when or {})}
        terminal.write(terminal.STDOUT, document.dump({"error": content}))
    else:
        terminal.say_error(sentence, hint)


def _when(error: SpearError) -> dict[str, int]:
    """When to come back, where that is known."""
    after_ms = getattr(error, "retry_after_ms", 0)
    return {"retry_after_ms": after_ms} if after_ms else {}


def _hint_of(error: SpearError) -> str:
    """What to do about it, where every verb has the same advice."""
    if isinstance(error, Unreachable):
        return "spear up starts a node; spear doctor looks for one"
    if isinstance(error, ObjectInUse):
        return "spear object rm --force removes it all the same"
    return ""

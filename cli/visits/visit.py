"""A verb's visit to a node: the options every such verb has, the connection, and its end.

The rule: a verb's body is a coroutine that gets a Visit and gives an exit code; it talks to a
`Node`, so it does not know whether that is a client, or a stand-in of the tests. An interrupt
cancels the body and with it the call it waits for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import Any

import click

from spear.cli import terminal
from spear.cli.arguments import UsageError
from spear.cli.visits.dial import Where, dial_client
from spear.cli.visits.options import CA, CONFIG, NODE, OUTPUT, TOKEN_FILE
from spear.clock import Clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    import msgspec

    from spear.cli.screens.tables import Kind
    from spear.cli.screens.words import Kept
    from spear.cli.visits.dial import Dial
    from spear.records.node import Node


class Visit:
    """The node and how to show what it says. Text for a person is escaped on terminals. `address`
    and `config_path` are what was asked for, None for the usual."""

    def __init__(
        self, node: Node, *, as_json: bool, clock: Clock, address: str | None = None,
        config_path: str | None = None,
    ) -> None:  # fmt: skip
        self.node, self.as_json, self.clock = node, as_json, clock
        self.address, self.config_path = address, config_path

    def show(self, record: msgspec.Struct) -> None:
        """One record."""
        from spear.cli.screens import details, values

        if self.as_json:
            terminal.write(terminal.STDOUT, values.dump(record))
        else:
            terminal.write(terminal.STDOUT, _encoded(details.text_of(record)))

    def show_all(self, kind: Kind, records: Sequence[Any]) -> None:
        """A list of records of one kind."""
        from spear.cli.screens import tables, values

        if self.as_json:
            terminal.write(terminal.STDOUT, values.dump(records))
        elif not records:
            terminal.say(f"no {kind.plural}\n")
        else:
            text = tables.text_of(kind, records, self.clock.now_ns())
            terminal.write(terminal.STDOUT, _encoded(text))

    def show_first(self, kind: Kind, records: Sequence[Any], limit: int) -> None:
        """As `show_all`, up to the limit; people are told where `records` are more."""
        self.show_all(kind, records[:limit])
        if len(records) > limit:
            self.tell(f"these are the first {limit}; --limit shows more")

    def done(self, record: msgspec.Struct, sentence: str) -> None:
        """What was done: the record for programs, a sentence for people."""
        if self.as_json:
            self.show(record)
        else:
            terminal.write(terminal.STDOUT, _encoded(terminal.escape(sentence) + "\n"))

    def kept(self, record: Kept, sentence: str) -> None:
        """As `done`, of what the node keeps now: with the class of its durability."""
        from spear.cli.screens import words

        self.done(record, f"{sentence} {words.durability(record)}")

    def named(self, record: Kept, name: str, sentence: str) -> None:
        """As `kept`, but stdout gets the name alone, so that a shell can take it."""
        from spear.cli.screens import words

        self.done(record, name)
        self.tell(f"{sentence} {words.durability(record)}")

    def answer(self, value: object, text: str) -> None:
        """Any value for programs; for people `text`, whole lines that are escaped already."""
        from spear.cli.screens import values

        data = values.dump(value) if self.as_json else _encoded(text)
        terminal.write(terminal.STDOUT, data)

    def tell(self, sentence: str) -> None:
        """Beside the result, on stderr, for people only."""
        if not self.as_json:
            terminal.say(sentence + "\n")


def on_node(body: Callable[..., Awaitable[int]]) -> Callable[..., None]:
    """The command's function for click: the body, with the options all such verbs have."""

    @wraps(body)
    def command(
        address: str | None, path: str | None, ca: str | None, token_file: str | None, output: str,
        **given: Any,
    ) -> None:  # fmt: skip
        import asyncio

        context = click.get_current_context()
        dial: Dial = context.obj or dial_client
        as_json = output == "json"

        async def visit() -> int:
            async with dial(Where(address, path, ca, token_file)) as node:
                found = Visit(
                    node, as_json=as_json, clock=Clock(), address=address, config_path=path
                )
                return await body(found, **given)

        try:
            code = asyncio.run(visit())
        except UsageError as error:
            raise click.UsageError(str(error), context) from error
        except UnicodeEncodeError as error:  # of a word that the locale could not read
            sentence = f"{error.object!r} is not text in UTF-8: see the locale (LANG, LC_ALL)"
            raise click.UsageError(sentence, context) from error
        context.exit(code)

    return NODE(CA(TOKEN_FILE(CONFIG(OUTPUT(command)))))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")

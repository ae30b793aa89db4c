"""Options that several verbs have, and how their values are read.

The rule: one spelling and one meaning each, wherever they stand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from spear.errors import InvalidArgument

T = TypeVar("T")
CONFIG = click.option("--config", "path", metavar="FILE", help="Instead of ~/.spear/config.toml.")
OUTPUT = click.option(
    "--output", type=click.Choice(["table", "json"]), default="table", help="How to show it."
)
NODE = click.option(
    "--node", "address", metavar="ADDRESS",
    help="unix:PATH or HOST:PORT instead of the node of this machine.",
)  # fmt: skip
CA = click.option(
    "--ca", metavar="FILE",
    help="Who signs the certificate of the node at ADDRESS (PEM); SPEAR_CA.",
)  # fmt: skip
TOKEN_FILE = click.option(
    "--token-file", metavar="FILE",
    help="The token of the node at ADDRESS; SPEAR_TOKEN_FILE.",
)  # fmt: skip
INPUT = click.option(
    "--input", "source", metavar="FILE|-",
    help="The payload; - is stdin, which is also the default unless it is a terminal.",
)  # fmt: skip
SET = click.option(
    "--set", "entries", metavar="KEY=VALUE", multiple=True,
    help="An entry of the task's config, such as llm.backends=local or budget.tokens=5000.",
)  # fmt: skip
ARGS = click.argument("args", metavar="[-- ARGS]", nargs=-1)


def value_of(flag: str, parse: Callable[[str], T], text: str) -> T:
    """The value of an option. Raises InvalidArgument, which names the option."""
    try:
        return parse(text)
    except InvalidArgument as error:
        raise InvalidArgument(f"{flag}: {error}") from None

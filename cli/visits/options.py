"""Options that several verbs have, and how their values are read.

The rule: one spelling and one meaning each, wherever they stand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from spear.errors import InvalidArgument
from spear.units import parse_duration_ns, parse_size

_LONGEST_NS = 10_000 * 86_400 * 10**9
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


def duration_ns(flag: str, text: str, *, zero: bool = False) -> int:
    """Nanoseconds of an option's duration; `zero`: none is one too. Raises InvalidArgument."""
    found = value_of(flag, parse_duration_ns, text)
    if not (0 if zero else 1) <= found <= _LONGEST_NS:
        least = "0" if zero else "more than 0"
        raise InvalidArgument(f"{flag}: expected {least} and up to 10000d, found {text!r}")
    return found


def size_bytes(flag: str, text: str) -> int:
    """Bytes of an option's size. Raises InvalidArgument."""
    found = value_of(flag, parse_size, text)
    if found <= 0:
        raise InvalidArgument(f"{flag}: expected more than 0, found {text!r}")
    return found

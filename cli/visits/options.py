"""Options that several verbs have, and how their values are read.

The rule: one spelling and one meaning each, wherever they stand.
"""

from __future__ import annotations

import click

CONFIG = click.option("--config", "path", metavar="FILE", help="Instead of ~/.spear/config.toml.")
OUTPUT = click.option(
    "--output", type=click.Choice(["table", "json"]), default="table", help="How to show it."
)
NODE = click.option(
    "--node", "address", metavar="ADDRESS",
    help="unix:PATH or HOST:PORT instead of the node of this machine.",
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

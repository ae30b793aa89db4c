"""`spear up`: starts a node."""

from __future__ import annotations

import click


@click.command()
def command() -> None:
    """Start a node."""

"""A task's name that the node does not know, told with the nearest that it does.

The rule: what else the node refuses is passed on as it is; names are asked for only then.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from spear.cli.visits import paging
from spear.errors import NotFound, SpearError
from spear.records.node import Node

_NAMES_MAX = 2000  # difflib takes 0.1 s for them


@asynccontextmanager
async def nearest(node: Node, task: str) -> AsyncIterator[None]:
    """Around what asks the node for this task. Raises NotFound with the advice."""
    try:
        yield
    except NotFound as error:
        advice = await _advice(node, task)
        if not advice:
            raise
        raise NotFound(f"{error}: {advice}") from error


async def check(node: Node, task: str) -> None:
    """Raises NotFound where no such task is registered."""
    async with nearest(node, task):
        await node.task(task)


async def _advice(node: Node, task: str) -> str:
    """Nothing where the task is there, so that something else was not found."""
    if os.path.isfile(task):
        return f"it is a file: spear task register {task} makes a task of it"
    try:
        names = [found.name for found in await paging.tasks(node, _NAMES_MAX)]
    except SpearError:
        return ""
    if task in names:
        return ""
    near = difflib.get_close_matches(task, names, 1)
    return f"did you mean {near[0]!r}?" if near else "spear ls tasks lists those that are there"

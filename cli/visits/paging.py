"""Lists that come in pages, read up to a limit.

The rule: a verb says how many it wants; how many a node gives at a time is not its affair.
"""

from __future__ import annotations

from spear.records.execution import Execution
from spear.records.node import Node
from spear.records.objects import ObjectInfo
from spear.records.task import Artifact, Task

_PAGE = 1000


async def executions(
    node: Node, limit: int, *, task: str = "", status: str = "", root: str = ""
) -> tuple[list[Execution], bool]:
    """From the newest on, and whether there are more."""
    found: list[Execution] = []
    token = ""
    while len(found) < limit:
        page = await node.executions(
            task=task, status=status, root=root, limit=min(_PAGE, limit - len(found)),
            page_token=token,
        )  # fmt: skip
        found += page.executions
        token = page.next_page_token
        if not token:
            break
    return found, bool(token)


async def tasks(node: Node, limit: int, *, status: str = "") -> list[Task]:
    found: list[Task] = []
    while len(found) < limit:
        wanted = min(_PAGE, limit - len(found))
        page = await node.tasks(status=status, limit=wanted, after=found[-1].name if found else "")
        found += page
        if len(page) < wanted:
            break
    return found


async def artifacts(node: Node, limit: int) -> list[Artifact]:
    found: list[Artifact] = []
    while len(found) < limit:
        wanted = min(_PAGE, limit - len(found))
        page = await node.artifacts(limit=wanted, after=found[-1].digest if found else "")
        found += page
        if len(page) < wanted:
            break
    return found


async def objects(node: Node, limit: int, prefix: str) -> tuple[list[ObjectInfo], bool]:
    found: list[ObjectInfo] = []
    after = ""
    while len(found) < limit:
        page = await node.list_objects(
            prefix, limit=min(_PAGE, limit - len(found)), start_after=after
        )
        found += page.objects
        after = page.next_start_after
        if not after:
            break
    return found, bool(after)

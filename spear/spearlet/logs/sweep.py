"""Keeps the logs of all tasks within the node's limits.

The rule: first each task's own limits, those of tasks that are gone included; then, while all
together are too much, the oldest file goes. The loop is let go between tasks.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from spear.spearlet.logs.tasklog import TaskLog
from spear.telemetry.jsonlog import Log


async def sweep(
    directory: str, bytes_max: int, task_in: Callable[[str], TaskLog], log: Log
) -> int:  # fmt: skip
    """How many files went. `task_in` gives the log in a folder."""
    gone = 0
    sizes: dict[TaskLog, int] = {}
    for folder in _folders(directory):
        task = task_in(folder)
        try:
            gone += task.sweep()
            sizes[task] = task.disk_bytes()
        except FileNotFoundError:  # it was empty
            continue
        except OSError as error:
            log.warn("task log cannot be swept", folder=folder, error=error)
        await asyncio.sleep(0)
    while sum(sizes.values()) > bytes_max and sizes:
        task = min(sizes, key=lambda task: task.oldest_ns)
        before = sizes[task]
        try:
            task.remove_oldest()
            sizes[task] = task.disk_bytes()
        except OSError as error:
            log.warn("task log cannot be swept", error=error)
        if sizes[task] >= before:
            del sizes[task]
            continue
        gone += 1
        await asyncio.sleep(0)
    return gone


def _folders(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []

"""The tree of an execution: what agents called, under who called it.

The rule: pure. A line each, from the root on, oldest first; the one that was asked for is marked.
What is known of a tree is shown; an execution whose caller was forgotten stands at its top.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spear.cli.screens import values, words
from spear.records.execution import Execution
from spear.records.usage import Usage

_UNKNOWN = Usage()


def text_of(root: Execution, below: Sequence[Execution], asked: str) -> str:
    """As a person reads it."""
    return "".join(f"{line}\n" for line in _lines(root, _by_parent(root, below), asked, "", ""))


def _lines(
    one: Execution, children: dict[str, list[Execution]], asked: str, first: str, rest: str
) -> list[str]:
    found = [f"{first}{_line(one)}{'  <-' if one.id == asked else ''}"]
    below = children.get(one.id, [])
    for child in below:
        last = child is below[-1]
        turn, line = ("`- ", "   ") if last else ("|- ", "|  ")
        found += _lines(child, children, asked, rest + turn, rest + line)
    return found


def _line(one: Execution) -> str:
    usage = one.tree_usage or _UNKNOWN
    parts = [
        words.id_end(one.id), words.one_line(one.task_name), one.status,
        words.length(one.duration_ns) if one.duration_ns else "",
        "detached" if one.detached else "",
        _used(usage),
        money(usage.cost_nano_usd) if usage.cost_nano_usd else "",
    ]  # fmt: skip
    return "  ".join(part for part in parts if part)


def _used(usage: Usage) -> str:
    if not usage.calls:
        return ""
    return f"{usage.calls} model call{'s' * (usage.calls > 1)}, {usage.tokens} tokens"


def money(nano_usd: int) -> str:
    """US dollars, to six places."""
    return f"${nano_usd / 1e9:.6f}"


def nested(root: Execution, below: Sequence[Execution]) -> dict[str, Any]:
    """As a program reads it: the record, and in `children` those that it called."""
    children = _by_parent(root, below)

    def plain(one: Execution) -> dict[str, Any]:
        fields: dict[str, Any] = values.plain(one)
        return fields | {"children": [plain(child) for child in children.get(one.id, [])]}

    return plain(root)


def _by_parent(root: Execution, below: Sequence[Execution]) -> dict[str, list[Execution]]:
    """Oldest first; those whose parent is not known stand under the root."""
    known = {root.id, *(one.id for one in below)}
    found: dict[str, list[Execution]] = {}
    for one in sorted(below, key=lambda one: (one.created_ns, one.id)):
        if one.id != root.id:
            parent = one.parent_id if one.parent_id in known else root.id
            found.setdefault(parent, []).append(one)
    return found


def subtree(root: Execution, below: Sequence[Execution]) -> list[Execution]:
    """Of `below`, those that `root` called, directly or not."""
    wanted, found = {root.id}, []
    for one in sorted(below, key=lambda one: one.depth):
        if one.parent_id in wanted:
            wanted.add(one.id)
            found.append(one)
    return found

"""Whether a concurrent history of a store could have happened one operation after another.

Rule: an operation takes effect at one moment between its call and its return; the checker searches
an order that respects those intervals and in which every answer is the one a sequential store
would have given. Depth first with memory of (done, state) pairs already refused: Wing and Gong,
"Testing and Verifying Concurrent Objects", 1993, in the form of Lowe, 2017.

Objects are independent, so a history falls into groups of keys that some transaction connects, and
each group is searched alone: the product of their orders is never looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

ABSENT = (0, b"")
Cell = tuple[int, bytes]  # version and value; version 0: there is no object


@dataclass(frozen=True)
class Operation:
    """What one caller did and learnt.

    `found`: what it read, by key (a cell, or its version alone where only that was compared).
    `left`: what it wrote, by key. An operation that was refused has only `found`. `conflicts`: a
    version that was asked for and refused, by key: the object was at any other one.
    """

    called: int
    returned: int
    found: Mapping[bytes, Cell | int] = field(default_factory=dict)
    left: Mapping[bytes, Cell] = field(default_factory=dict)
    conflicts: Mapping[bytes, int] = field(default_factory=dict)

    def keys(self) -> set[bytes]:
        return set(self.found) | set(self.left) | set(self.conflicts)

    def fits(self, state: Mapping[bytes, Cell], newest: int) -> bool:
        """Whether the answer is the one a store in this state gives.

        `newest` is the greatest version given so far in the group: versions only grow.
        """
        for key, found in self.found.items():
            cell = state.get(key, ABSENT)
            if (cell[0] if isinstance(found, int) else cell) != found:
                return False
        for key, version in self.conflicts.items():
            if state.get(key, ABSENT)[0] == version:
                return False
        return all(cell[0] == 0 or cell[0] > newest for cell in self.left.values())


def linearizable(history: Iterable[Operation], initial: Mapping[bytes, Cell] | None = None) -> bool:
    """Whether some sequential order explains the history, from the `initial` cells on."""
    return all(_explained(group, initial or {}) for group in _groups(list(history)))


def _groups(history: list[Operation]) -> list[list[Operation]]:
    """The history cut into parts that share no key."""
    leader: dict[bytes, bytes] = {}

    def top(key: bytes) -> bytes:
        while leader.setdefault(key, key) != key:
            key = leader[key]
        return key

    for operation in history:
        first, *others = sorted(operation.keys())
        for key in others:
            leader[top(key)] = top(first)
    parts: dict[bytes, list[Operation]] = defaultdict(list)
    for operation in history:
        parts[top(min(operation.keys()))].append(operation)
    return list(parts.values())


def _explained(history: list[Operation], initial: Mapping[bytes, Cell]) -> bool:
    keys = sorted(set().union(*(operation.keys() for operation in history)))
    history = sorted(history, key=lambda operation: operation.called)
    start = tuple(initial.get(key, ABSENT) for key in keys)
    newest = max(version for version, _ in start)
    refused: set[tuple[int, tuple[Cell, ...]]] = set()
    stack = [(0, start, newest, _candidates(history, 0))]
    everything = (1 << len(history)) - 1
    while stack:
        done, state, newest, candidates = stack[-1]
        if done == everything:
            return True
        if not candidates:
            refused.add((done, state))
            stack.pop()
            continue
        at = candidates.pop()
        cells = dict(zip(keys, state, strict=True))
        if not history[at].fits(cells, newest):
            continue
        cells.update(history[at].left)
        after = tuple(cells[key] for key in keys)
        then = done | 1 << at
        if (then, after) not in refused:
            newest = max([newest, *(version for version, _ in history[at].left.values())])
            stack.append((then, after, newest, _candidates(history, then)))
    return False


def _candidates(history: list[Operation], done: int) -> list[int]:
    """Operations that may come next: called before every undone one returned; the last is first.

    The history is sorted by call, so the search stops at the first one called too late.
    """
    soonest_return = None
    found: list[int] = []
    for at, operation in enumerate(history):
        if done >> at & 1:
            continue
        if soonest_return is not None and operation.called > soonest_return:
            break
        found.append(at)
        if soonest_return is None or operation.returned < soonest_return:
            soonest_return = operation.returned
    return found[::-1]

"""Object calls made by a real guest: requests in, answers out.

Rule: every call goes through `tests/guests/objects/object_calls.c`, which also tells whether the
host wrote where it must not; that it did not is checked for each answer.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from guest_runs import ended, guest

from spear._core.executor import Executor
from spear._core.objstore import ObjectStore

ENOENT, ENOMEM, EACCES, EFAULT, EBUSY, EEXIST, EINVAL, ENOSPC, ENOSYS, ESTALE = (
    -2, -12, -13, -14, -16, -17, -22, -28, -38, -116,
)  # fmt: skip
PUT, GET, STAT, LIST, DELETE, ADD_REF, REMOVE_REF, PIN, UNPIN, AWAIT = range(10)
READS = (GET, STAT, LIST)
ROOM = 65536
UNSET = -7  # a version that the host did not write
TIMES = re.compile(rb'"(created|updated)_ms":\d{13}')
REQUEST, ANSWER = struct.Struct("<iiiIIIq"), struct.Struct("<iIIIqqq")


@dataclass(frozen=True)
class Call:
    """One call and its arguments; `number` is a limit or a count, `text` a value or a start."""

    call: int
    name: bytes
    text: bytes = b""
    if_version: int = -1
    flags: int = 0
    number: int = 1
    room: int = ROOM

    def encoded(self) -> bytes:
        head = REQUEST.pack(
            self.call, self.flags, self.number, self.room, len(self.name), len(self.text),
            self.if_version,
        )  # fmt: skip
        return head + self.name + self.text


@dataclass(frozen=True)
class Answer:
    """What a call gave. `len` is what stands in the guest's length; times are the guest's own."""

    result: int
    len: int
    version: int
    out: bytes
    began_ns: int
    ended_ns: int


def put(name: bytes, value: bytes = b"", if_version: int = -1, flags: int = 0) -> Call:
    return Call(PUT, name, value, if_version, flags)


def get(name: bytes, room: int = ROOM) -> Call:
    return Call(GET, name, room=room)


def stat(name: bytes, room: int = ROOM) -> Call:
    return Call(STAT, name, room=room)


def listing(prefix: bytes = b"", after: bytes = b"", limit: int = 1000, room: int = ROOM) -> Call:
    return Call(LIST, prefix, after, number=limit, room=room)


def delete(name: bytes, if_version: int = -1, flags: int = 0) -> Call:
    return Call(DELETE, name, if_version=if_version, flags=flags)


def input_of(calls: Iterable[Call]) -> bytes:
    return b"".join(call.encoded() for call in calls)


def answers_of(calls: Sequence[Call], output: bytes) -> list[Answer]:
    found, at = [], 0
    for call in calls:
        result, length, stained, _, version, began, end = ANSWER.unpack_from(output, at)
        at += ANSWER.size
        assert stained == 0, f"{call} wrote {stained} bytes that it must not"
        size = length if call.call in READS and result >= 0 else 0
        found.append(Answer(result, length, version, output[at : at + size], began, end))
        at += size
    assert at == len(output)
    return found


def ask(
    node: Executor, store: ObjectStore | None, calls: Sequence[Call], *, task: str = "me",
    grants: Sequence[str] = (), **more: Any,
) -> list[Answer]:  # fmt: skip
    """Has one guest make the calls, one after the other."""
    run = node.start(
        guest("object_calls"), stdin=input_of(calls), objects=store, task=task,
        object_grants=grants, output_bytes_max=1 << 30, **more,
    )  # fmt: skip
    outcome = ended(run)
    assert outcome.exit_code == 0, outcome
    return answers_of(calls, run.output)


def results(*args: Any, **more: Any) -> list[int]:
    return [answer.result for answer in ask(*args, **more)]


def timeless(json: bytes) -> bytes:
    """The JSON with its times replaced by ones of the same length."""
    return TIMES.sub(rb'"\1_ms":1111111111111', json)

"""The rows of a node's metadata: their keys, and the values in msgpack.

The rule: every key and every encoding of the node stands here. Times in keys are 8 bytes, big
endian, so that the order of keys is the order of time.

    task/<id>                         Task as it is now
    task_version/<id>/<version>       TaskSpec of that version
    artifact/<digest>                 Artifact
    live/<id>                         LiveRow: an execution that has not ended, and its input
    exec/<id>                         Execution that has ended
    exec_time/<created><id>           plain executions by time: when it ended, whether anything but
                                      its record belongs to it, its bytes, the task's id
    exec_held/<created><id>           the same of held ones, which later plain ones do not push out;
                                      those of earlier versions stand in exec_time as well
    tree/<root>/<created><id>         executions that agents called, by the root of their tree; the
                                      value as in exec_time
    idem/<owner>/<key>                the execution's id; the owner is a task's id, or NAME@ARTIFACT
    result/<digest>/<id>              that this execution has that result
    object/<key>                      ObjectRow: an object put durably
"""

from __future__ import annotations

from struct import Struct

import msgspec

from spear.records.execution import Execution, Invocation
from spear.records.task import Artifact, Task, TaskSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.kv.interface import LocalKv

PLAIN_BY_TIME, HELD_BY_TIME = BY_TIME = b"exec_time/", b"exec_held/"
_MORE, _ALONE = b"*", b"."  # in a row by time; before format 3 b"+", and:
_ALONE_UNSIZED = b"-"
_TIME_HEAD = Struct(">QcQ")
LIVE, TASKS, ARTIFACTS, OBJECTS = b"live/", b"task/", b"artifact/", b"object/"
ENDED = b"exec/"


class LiveRow(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What is needed to run an execution again after a restart. `spec` is there where no task of
    that version is registered; `input_digest` names an input too large for the row."""

    execution: Execution
    invocation: Invocation = Invocation()
    spec: TaskSpec | None = None
    input: bytes = b""
    input_digest: str = ""


class ObjectRow(msgspec.Struct, omit_defaults=True, kw_only=True):
    """An object that outlives the process; one too large for the row lies in a file."""

    metadata: dict[str, str] = {}
    value: bytes = b""
    digest: str = ""


encode = msgspec.msgpack.Encoder().encode
decode_live = msgspec.msgpack.Decoder(LiveRow).decode
decode_execution = msgspec.msgpack.Decoder(Execution).decode
decode_task = msgspec.msgpack.Decoder(Task).decode
decode_spec = msgspec.msgpack.Decoder(TaskSpec).decode
decode_artifact = msgspec.msgpack.Decoder(Artifact).decode
decode_object = msgspec.msgpack.Decoder(ObjectRow).decode


def live_key(id: str) -> bytes:
    return b"live/" + id.encode()


def execution_key(id: str) -> bytes:
    return ENDED + id.encode()


def newest_id(kv: LocalKv) -> str:
    """The last of the ids of ended executions, in their own order; "" where there is none."""
    found = kv.scan(ENDED, limit=1, reverse=True)
    return found[0][0][len(ENDED) :].decode() if found else ""


def rows_of_end(execution: Execution) -> tuple[int, list[tuple[bytes, bytes]]]:
    """How many bytes it takes; its record and what leads to it."""
    id, record = execution.id.encode(), encode(execution)
    size = bytes_of(execution, record)
    value = time_value(execution, size)
    stamp = execution.created_ns.to_bytes(8, "big") + id  # as stamp_of
    found = [(ENDED + id, record), (by_time(execution) + stamp, value)]
    if execution.depth:
        found.append((tree_key(execution), value))
    if execution.output_digest:
        found.append((result_key(execution.output_digest, execution.id), b""))
    return size, found


def bytes_of(execution: Execution, record: bytes) -> int:
    """Of its record and its result. Results that are alike share a file, and count for each: what
    is there is never more than what was counted."""
    return len(record) + (execution.output_bytes if execution.output_digest else 0)


def by_time(execution: Execution) -> bytes:
    """The index that it is in. Held is what somebody may still ask for who has no answer yet: by
    its key, or by the id that a submission was answered with. An id that the caller of a sync call
    chose holds nothing: clients give one to each call."""
    held = execution.idempotency_key or execution.mode == "async"
    return HELD_BY_TIME if held else PLAIN_BY_TIME


def time_value(execution: Execution, size: int) -> bytes:
    """Enough to list by task, to count, and to forget the record without reading it. Its lines in
    the log are counted of the last attempt alone."""
    more = (
        execution.output_digest or execution.idempotency_key or execution.log_lines
        or execution.attempt > 1 or execution.depth
    )  # fmt: skip
    head = _TIME_HEAD.pack(execution.finished_ns, _MORE if more else _ALONE, size)
    return head + execution.task_id.encode()


def finished_ns_of(value: bytes) -> int:
    return int.from_bytes(value[:8], "big")


def stands_alone(value: bytes) -> bool:
    """Whether nothing but the record has to be forgotten."""
    return value[8:9] in (_ALONE, _ALONE_UNSIZED)


def size_in(value: bytes) -> int | None:
    """How many bytes it takes; None where formats before 3 wrote the row, which do not say."""
    return int.from_bytes(value[9:17], "big") if value[8:9] in (_MORE, _ALONE) else None


def task_id_of(value: bytes) -> bytes:
    return value[9:] if size_in(value) is None else value[17:]


def stamp_of(execution: Execution) -> bytes:
    """What follows the prefix; also the token of a page, in hex."""
    return execution.created_ns.to_bytes(8, "big") + execution.id.encode()


def tree_key(execution: Execution) -> bytes:
    return tree_prefix(execution.root_id) + stamp_of(execution)


def tree_prefix(root: str) -> bytes:
    return b"tree/" + root.encode() + b"/"


def created_ns_of(stamp: bytes) -> int:
    return int.from_bytes(stamp[:8], "big")


def id_of_stamp(stamp: bytes) -> str:
    return stamp[8:].decode()


def task_key(id: str) -> bytes:
    return b"task/" + id.encode()


def task_version_key(id: str, version: int) -> bytes:
    return b"task_version/" + id.encode() + b"/" + version.to_bytes(8, "big")


def task_version_prefix(id: str) -> bytes:
    return b"task_version/" + id.encode() + b"/"


def artifact_key(digest: str) -> bytes:
    return b"artifact/" + digest.encode()


def owner_of(task_name: str, artifact: str) -> str:
    """Whose keys those of executions without a registered task are."""
    return f"{task_name}@{artifact}"


def owner(execution: Execution) -> str:
    return execution.task_id or owner_of(execution.task_name, execution.artifact)


def idempotency_key(owner: str, key: str) -> bytes:
    return b"idem/" + owner.encode() + b"/" + key.encode()


def result_key(digest: str, id: str) -> bytes:
    return result_prefix(digest) + id.encode()


def result_prefix(digest: str) -> bytes:
    return b"result/" + digest.encode() + b"/"


def object_key(key: bytes) -> bytes:
    return b"object/" + key

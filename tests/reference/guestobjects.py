"""The object calls of guests in plain Python: names to keys, errors to numbers, stats to JSON.

Rule: says what the guest ABI says (section 16), over `tests/reference/objstore.py`, each step in
the most obvious way: text is split at its slashes, JSON is made by `json`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from object_runs import (
    ADD_REF,
    DELETE,
    EACCES,
    EBUSY,
    EEXIST,
    EINVAL,
    ENOENT,
    ENOMEM,
    ENOSPC,
    ENOSYS,
    ESTALE,
    GET,
    LIST,
    PIN,
    PUT,
    REMOVE_REF,
    STAT,
    UNSET,
    Call,
)  # fmt: skip

from spear._core.objstore import ObjectStat
from spear.errors import (
    InvalidArgument,
    ObjectInUse,
    ObjectNotFound,
    StoreFull,
    VersionConflict,
)  # fmt: skip
from tests.reference.objstore import ObjectStore

KEY_BYTES_MAX, LIMIT_MAX, REFS_MAX = 1024, 10_000, 2**31 - 1


class Refused(Exception):
    """A call's negative answer."""


def is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def document(stat: ObjectStat) -> dict[str, Any]:
    return {**stat._asdict(), "key": stat.key.decode()}


def dumped(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class Guest:
    """What a guest of `task` gets; `call` gives (result, length, version, what was read)."""

    def __init__(self, store: ObjectStore, task: str, grants: Sequence[str] = ()) -> None:
        self.store, self.task = store, task
        self.reachable = {task, *grants}

    def call(self, call: Call) -> tuple[int, int, int, bytes]:
        self.version = UNSET
        try:
            answer = self._made(call)
        except Refused as refused:
            return refused.args[0], call.room, UNSET, b""
        if isinstance(answer, int):
            return answer, call.room, self.version, b""
        if len(answer) > call.room:
            return ENOSPC, len(answer), UNSET, b""
        return len(answer), len(answer), self.version, answer

    def _key(self, name: bytes, *, whole: bool = True) -> bytes:
        if not is_utf8(name):
            raise Refused(EINVAL)
        if name.startswith(b"/"):
            parts = name.split(b"/", 2)
            if len(parts) < 3 or not parts[1]:
                raise Refused(EINVAL)
            if len(name) <= KEY_BYTES_MAX and parts[1].decode() not in self.reachable:
                raise Refused(EACCES)
            key, rest = name, parts[2]
        elif name.startswith(b"shared/"):
            key, rest = name, name.removeprefix(b"shared/")
        else:
            key, rest = b"/" + self.task.encode() + b"/" + name, name
        if len(key) > KEY_BYTES_MAX or (whole and not rest):
            raise Refused(EINVAL)
        return key

    def _made(self, call: Call) -> int | bytes:
        if call.call == LIST:
            return self._list(call)
        key = self._key(call.name)
        try:
            return self._done(call, key)
        except ObjectNotFound:
            raise Refused(ENOENT) from None
        except ObjectInUse:
            raise Refused(EBUSY) from None
        except StoreFull:
            raise Refused(ENOMEM) from None
        except InvalidArgument:
            raise Refused(EINVAL) from None
        except VersionConflict as conflict:
            exists = call.call == PUT and conflict.expected == 0
            raise Refused(EEXIST if exists else ESTALE) from None

    def _done(self, call: Call, key: bytes) -> int | bytes:
        if call.call == PUT:
            return self._put(call, key)
        if call.call == GET:
            view = self.store.get(key)
            self.version = view.version
            return bytes(view)
        if call.call == STAT:
            return dumped(document(self.store.stat(key)))
        if call.call == DELETE:
            if call.flags not in (0, 1) or call.if_version < -1:
                raise Refused(EINVAL)
            self.store.delete(key, force=call.flags == 1, **self._expected(call))
            return 0
        if call.call in (ADD_REF, REMOVE_REF):
            return self._count(call, key)
        (self.store.pin if call.call == PIN else self.store.unpin)(key)
        return 0

    def _put(self, call: Call, key: bytes) -> int:
        if call.flags not in (0, 1) or call.if_version < -1:
            raise Refused(EINVAL)
        if call.flags == 1:
            raise Refused(ENOSYS)
        self.version = self.store.put(key, call.text, **self._expected(call))
        return 0

    def _expected(self, call: Call) -> dict[str, int]:
        return {} if call.if_version == -1 else {"if_version": call.if_version}

    def _count(self, call: Call, key: bytes) -> int:
        if call.number < 1:
            raise Refused(EINVAL)
        if call.call == REMOVE_REF:
            return self.store.remove_ref(key, call.number)
        if self.store.stat(key).refs + call.number > REFS_MAX:
            raise Refused(EINVAL)
        return self.store.add_ref(key, call.number)

    def _list(self, call: Call) -> bytes:
        prefix = self._key(call.name, whole=False)
        after = self._key(call.text, whole=False) if call.text else None
        if not 1 <= call.number <= LIMIT_MAX:
            raise Refused(EINVAL)
        rows = self.store.list(prefix, 10**9, after)
        shown = [document(row) for row in rows if is_utf8(row.key)]
        return dumped(shown[: call.number])

"""An agent calls another task: what its guest asks becomes a call, and the call's end a result.

The rule: whether it may, how deep and how many, is decided by who runs executions (`Children`);
here a request is read, an error becomes a number of the ABI and a line in the guest's log, and what
has ended is laid out for the guest to read. Nothing here waits for a call that nobody waits for.
"""

from __future__ import annotations

import asyncio
from errno import EACCES, EAGAIN, EBUSY, EINVAL, EIO, ENOENT, ENOSYS, EPERM, ETIMEDOUT
from functools import partial
from typing import Protocol
from weakref import WeakKeyDictionary

import msgspec

from spear._core.handles import TASK_CALL, Handle
from spear.errors import (
    InvalidArgument,
    NotFound,
    PermissionDenied,
    SpearError,
    TaskInactive,
    TooDeep,
    TooMany,
)
from spear.records.execution import Execution, Invocation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable

    from spear._core.door import Answer, Call, Handler
    from spear.hostcalls.agent import Agent

INVOKE, CANCEL, WAIT = 32, 34, 35  # as in table.py
ASYNC, DETACHED = 1, 2
HELD_BYTES_MAX = 64 << 20  # of large results that one guest has not closed
_LARGE_BYTES = 65_536
_NUMBERS: tuple[tuple[type[SpearError], int], ...] = (
    (TooDeep, EPERM),
    (NotFound, ENOENT),
    (TaskInactive, EACCES),
    (PermissionDenied, EACCES),
    (TooMany, EBUSY),
    (InvalidArgument, EINVAL),
)
_WARN = 3
_TIMEOUT_MS_MAX = 365 * 86_400_000


class Called(Protocol):
    """An execution that an agent asked for. `accepted` is there where the answer waits until it
    is kept; `ended` gives its record, with the output."""

    id: str
    task: str
    accepted: asyncio.Future[None] | None
    ended: asyncio.Future[Execution]

    def cancel(self, reason: str) -> None:
        """Raises PermissionDenied where it is not the agent's own."""


class Children(Protocol):
    """Who runs what agents call."""

    def invoke(
        self, agent: Agent, task: str, invocation: Invocation, input: bytes, *, detached: bool
    ) -> Called:
        """Raises PermissionDenied, NotFound, TooDeep, TooMany, InvalidArgument, and what a caller
        of the node gets where there is no room."""


class _Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON of a call, as in the guest ABI."""

    task: str
    function: str = ""
    args: list[str | int | float] | None = None  # of a function: its numbers
    env: dict[str, str] = {}
    timeout_ms: int = 0
    priority: str = ""
    idempotency_key: str = ""


_decode = msgspec.json.Decoder(_Request).decode
_encode = msgspec.json.Encoder().encode


def request_of(text: bytes) -> tuple[str, Invocation]:
    """The task's name, and what the call says beside it. Raises InvalidArgument."""
    try:
        asked = _decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidArgument(f"task_invoke: {error}") from None
    if not asked.task:
        raise InvalidArgument("task_invoke: `task` is empty")
    if not 0 <= asked.timeout_ms <= _TIMEOUT_MS_MAX:
        raise InvalidArgument(f"task_invoke: timeout_ms {asked.timeout_ms}: expected 0 to 365 days")
    numbers, texts = _arguments(asked)
    return asked.task, Invocation(
        function=asked.function,
        call_args=numbers,
        args=texts,
        env=asked.env,
        timeout_ns=asked.timeout_ms * 1_000_000,
        priority=asked.priority,
        idempotency_key=asked.idempotency_key,
    )


def _arguments(asked: _Request) -> tuple[tuple[int | float, ...], tuple[str, ...] | None]:
    given = asked.args
    texts = tuple(one for one in given or () if isinstance(one, str))
    numbers = tuple(one for one in given or () if not isinstance(one, str))
    if asked.function and texts:
        raise InvalidArgument("task_invoke: a function's args are numbers")
    if not asked.function and numbers:
        raise InvalidArgument("task_invoke: args are texts unless there is a function")
    return numbers, None if given is None or asked.function else texts


def about(execution: Execution) -> bytes:
    """How a call ended, for the guest that made it."""
    found: dict[str, object] = {
        "execution_id": execution.id, "task": execution.task_name, "status": execution.status,
        "cause": execution.cause,
    }  # fmt: skip
    if execution.exit_code is not None:
        found["exit_code"] = execution.exit_code
    if execution.error is not None:
        found["error"] = {"code": execution.error.code, "message": execution.error.message}
    if execution.tree_usage is not None:
        found["usage"] = execution.tree_usage
    return _encode(found)


def task_handlers(children: Children) -> dict[int, Handler]:
    """By operation code; `call.context` is the Agent who asks, None where nobody is known."""
    calls = _Calls(children)
    return {INVOKE: calls.invoke, CANCEL: calls.cancel, WAIT: calls.wait}


class TaskCall:
    """What a guest's descriptor of a call stands for. `called` is None once it has ended; `held` is
    what its result counts among its agent's, until it is `closed`."""

    __slots__ = ("agent", "called", "closed", "held")

    def __init__(self, agent: Agent, called: Called) -> None:
        self.agent = agent
        self.called: Called | None = called
        self.held, self.closed = 0, False


class _Calls:
    """The calls of all agents of a node."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._held: WeakKeyDictionary[Agent, int] = WeakKeyDictionary()

    def invoke(self, call: Call) -> Answer | Awaitable[Answer]:
        request, input, flags = call.args
        agent: Agent | None = call.context
        if agent is None:
            return -ENOSYS
        if flags & ~(ASYNC | DETACHED):
            return -EINVAL
        try:
            task, invocation = request_of(request)
            called = self._children.invoke(
                agent, task, invocation, input, detached=bool(flags & DETACHED)
            )
        except SpearError as error:
            return _refused(call, error)
        handle = Handle(TASK_CALL, TaskCall(agent, called), closed=self._closed)
        called.ended.add_done_callback(partial(self._ended, handle))
        if flags & ASYNC:
            return handle if called.accepted is None else _accepted(call, called, handle)
        return _over(called, handle)

    def cancel(self, call: Call) -> int:
        handle, reason = call.args
        called: Called | None = handle.value.called
        if called is None:
            return 0
        try:
            called.cancel(reason.decode("utf-8", "replace") or "its caller cancelled it")
        except SpearError as error:
            return _refused(call, error)
        return 0

    def wait(self, call: Call) -> int | Awaitable[int]:
        handle, timeout_ms = call.args
        called: Called | None = handle.value.called
        if called is None:
            return 0
        if timeout_ms == 0:
            return -ETIMEDOUT
        return _waited(called, None if timeout_ms < 0 else timeout_ms / 1000)

    def _ended(self, handle: Handle, ended: asyncio.Future[Execution]) -> None:
        """The one place where an end becomes a result."""
        call: TaskCall = handle.value
        called, call.called = call.called, None
        assert called is not None
        if ended.cancelled():  # the node's loop is being closed
            handle.finish(-EIO, b"")
        elif (error := ended.exception()) is not None:
            handle.finish(-EIO, b"", _encode(_lost(called, type(error).__name__, str(error))))
        elif call.closed:  # nobody reads it, nor closes it again
            handle.finish(-EIO, b"")
        elif not (execution := ended.result()).completed:
            handle.finish(-EIO, b"", about(execution))
        elif self._hold(call, execution):
            handle.finish(0, execution.output, about(execution))
        else:
            lost = _lost(called, "RESULT_LIMIT", "its output is not held here: close other calls")
            handle.finish(-EIO, b"", _encode(lost | {"status": execution.status}))

    def _hold(self, call: TaskCall, execution: Execution) -> bool:
        """Whether its output may be kept for the guest to read."""
        size = len(execution.output)
        if size > _LARGE_BYTES:
            held = self._held.get(call.agent, 0) + size
            if held > HELD_BYTES_MAX:
                return False
            self._held[call.agent], call.held = held, size
        return size == execution.output_bytes

    def _closed(self, handle: Handle) -> None:
        call: TaskCall = handle.value
        call.closed = True
        if call.held:
            self._held[call.agent] -= call.held
            call.held = 0


def _lost(called: Called, code: str, message: str) -> dict[str, object]:
    return {
        "execution_id": called.id, "task": called.task, "status": "failed", "cause": "internal",
        "error": {"code": code, "message": message},
    }  # fmt: skip


async def _over(called: Called, handle: Handle) -> Handle:
    """The handle once the call has ended. Giving up the wait leaves the call to who ends it."""
    await asyncio.wait([called.ended])
    return handle


async def _accepted(call: Call, called: Called, handle: Handle) -> Handle | int:
    """The handle once the call survives the node."""
    assert called.accepted is not None
    try:
        await asyncio.shield(called.accepted)
    except SpearError as error:
        return _refused(call, error)
    return handle


async def _waited(called: Called, timeout_s: float | None) -> int:
    ended, _ = await asyncio.wait([called.ended], timeout=timeout_s)
    return 0 if ended else -ETIMEDOUT


def _refused(call: Call, error: SpearError) -> int:
    call.log(_WARN, f"{call.name}: {error}")
    for kind, number in _NUMBERS:
        if isinstance(error, kind):
            return -number
    return -EAGAIN if error.retryable else -EIO

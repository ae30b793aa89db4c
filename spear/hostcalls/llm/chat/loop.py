"""AUTO_TOOL_CALL: how one send goes on, from the model's answers and what the tools gave.

The rule: it does nothing itself; it is told what happened, adds to the session what the ABI says
and in its order, and says what is next. A tool that fails is told to the model, which goes on;
only a limit ends a send. The limits are those of the moment the send began; a tool may write into
the session, also by a send of its own.
Source: the guest ABI, section 6.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from spear.hostcalls.llm.chat.documents import failure, message_of, success
from spear.hostcalls.llm.chat.session import Session, SessionFull
from spear.hostcalls.llm.request import Reply

MCP_PREFIXES = ("mcp.", "mcp__")


class Ask(NamedTuple):
    """The model is asked with what the session holds now; `answered` comes next."""


class CallTool(NamedTuple):
    """The guest's function is called; `tool_ended` comes next."""

    offset: int
    arguments: str


class Done(NamedTuple):
    """The send is over; `ok` unless the document is an error."""

    document: bytes
    ok: bool


Step = Ask | CallTool | Done


class ToolCall(NamedTuple):
    """As a model asks for it."""

    id: str
    name: str
    arguments: str


class ToolLoop:
    """Begins with `begin`; each step is answered by the method that the step names."""

    __slots__ = ("_calls", "_calls_max", "_iterations", "_iterations_max", "_pending", "_session")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._calls = self._iterations = 0
        self._calls_max = session.params.tool_calls_max
        self._iterations_max = session.params.iterations_max
        self._pending: deque[ToolCall] = deque()

    def begin(self) -> Step:
        if self._iterations >= self._iterations_max:
            return _error("tool_call_limit", "exceeded max_iterations")
        return Ask()

    def answered(self, reply: Reply) -> Step:
        message = message_of(reply.body)
        calls = tool_calls_of(message)
        if message:
            self._session.answer(_kept(message, bool(calls)))
        if not calls:
            return Done(success(reply), ok=True)
        self._pending.extend(calls)
        return self._next_tool()

    def tool_ended(self, status: int, output: str) -> Step:
        """`status` 0: it gave `output`."""
        if status != 0:
            output = failure(f"tool rc: {status}", "tool_exec_failed").decode()
        return self._result(output) or self._next_tool()

    def _next_tool(self) -> Step:
        """The next that the guest has itself; the others have failed already."""
        while self._pending:
            if self._calls >= self._calls_max:
                return _error("tool_call_limit", "exceeded max_total_tool_calls")
            self._calls += 1
            call = self._pending[0]
            offset = self._session.offsets.get(call.name)
            if offset is not None:
                return CallTool(offset, call.arguments)
            full = self._result(_not_there(call.name))
            if full is not None:
                return full
        self._iterations += 1
        return self.begin()

    def _result(self, content: str) -> Done | None:
        """Tells the model of the call that was next. Done where there is no room for that."""
        try:
            self._session.tool_result(self._pending.popleft().id, content)
        except SessionFull as full:
            return _error("session_full", str(full))
        return None


def _not_there(name: str) -> str:
    if name.startswith(MCP_PREFIXES):
        failed = failure(f"{name}: MCP is not enabled for this session", "mcp_tool_failed")
    else:
        failed = failure(f"unknown tool: {name}", "unknown_tool")
    return failed.decode()


def tool_calls_of(message: dict[str, Any]) -> list[ToolCall]:
    """Empty where they are missing, or one of them is not in the modern form."""
    given = message.get("tool_calls")
    calls = []
    for each in given if isinstance(given, list) else []:
        call = _tool_call(each)
        if call is None:
            return []
        calls.append(call)
    return calls


def _tool_call(given: Any) -> ToolCall | None:
    function = given.get("function") if isinstance(given, dict) else None
    if not isinstance(function, dict):
        return None
    kind: Any = given.get("type")
    id: Any = given.get("id")
    name: Any = function.get("name")
    arguments: Any = function.get("arguments")
    if all(isinstance(text, str) for text in (kind, id, name, arguments)):
        return ToolCall(id, name, arguments)
    return None


def _kept(message: dict[str, Any], with_calls: bool) -> dict[str, Any]:
    """The model's message as later requests carry it."""
    role = message.get("role")
    kept = {
        "role": role if isinstance(role, str) else "assistant",
        "content": message.get("content"),
    }
    return {**kept, "tool_calls": message["tool_calls"]} if with_calls else kept


def _error(code: str, message: str) -> Done:
    return Done(failure(message, code), ok=False)

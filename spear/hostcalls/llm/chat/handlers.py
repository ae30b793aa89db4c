"""Answers the chat calls and `embed_send`: between a guest's descriptors and what sessions do.

The rule: a refusal of the ABI is a negative number and a line in the guest's log; what fails on
the models' side is a response, whose body is an error document. A handler that is cancelled
because its guest has ended leaves nothing behind.
Source: the guest ABI, sections 2, 4, 5 and 6.
"""

from __future__ import annotations

from errno import EACCES, EINVAL, EIO, ENOMEM

from spear._core.handles import CHAT_RESPONSE, CHAT_SESSION, Drafted, Handle
from spear.errors import InvalidArgument, ModelError
from spear.hostcalls.agent import Agent
from spear.hostcalls.llm.chat.asking import Asking, Models
from spear.hostcalls.llm.chat.documents import NO_METRICS, Metrics, failure_of, success
from spear.hostcalls.llm.chat.embedding import read_request
from spear.hostcalls.llm.chat.loop import CallTool, Done, Step, ToolLoop
from spear.hostcalls.llm.chat.params import mcp_status, read_setting
from spear.hostcalls.llm.chat.session import Session, SessionFull
from spear.hostcalls.llm.chat.streaming import Streams
from spear.hostcalls.table import by_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear._core.door import Call, Handler
    from spear.clock import Clock

METRICS, AUTO_TOOL_CALL = 1, 2  # flags of a send
SET_PARAM = 1
WARN = 3


def chat_handlers(models: Models, clock: Clock) -> dict[int, Handler]:
    """By operation code; for one executor, on its loop."""
    chat = Chat(models, clock)
    handlers: dict[str, Handler] = {
        "cchat_create": Drafted(),
        "cchat_write_msg": chat.write_message,
        "cchat_write_fn": chat.write_function,
        "cchat_ctl": chat.control,
        "cchat_send": chat.send,
        "cchat_stream": chat.stream,
        "embed_send": chat.embed,
    }
    found = {by_import(name).op: handler for name, handler in handlers.items()}
    return {op: handler for op, handler in found.items() if op is not None}


class Chat:
    """The handlers; what they keep of an execution is its Agent's."""

    def __init__(self, models: Models, clock: Clock) -> None:
        self._asking = Asking(models, clock)
        self.streams = Streams(self._asking)

    def write_message(self, call: Call) -> int:
        handle, role, content = call.args
        try:
            _session(call, handle).write(_text(role), _text(content))
        except SessionFull as full:
            return _refuse(call, ENOMEM, str(full))
        return 0

    def write_function(self, call: Call) -> int:
        handle, offset, description = call.args
        try:
            complaint = _session(call, handle).tool(offset, description)
        except SessionFull as full:
            return _refuse(call, ENOMEM, str(full))
        if complaint:
            call.log(WARN, complaint)
        return 0

    def control(self, call: Call) -> int:
        """SET_PARAM; a response takes any, and ignores it."""
        handle, command, text = call.args
        if command != SET_PARAM:
            return -EINVAL
        if handle.kind != CHAT_SESSION:
            return 0
        setting = read_setting(text)
        if setting is None:
            return _refuse(call, EIO, 'expected {"key": "...", "value": ...}, found something else')
        status = mcp_status(setting)
        if status != 0:
            off = status == -EACCES
            why = "is not allowed: MCP is off" if off else "has a value of the wrong type"
            return _refuse(call, -status, f"{setting.key!r} {why}")
        try:
            complaint = _session(call, handle).set(setting)
        except SessionFull as full:
            return _refuse(call, ENOMEM, str(full))
        if complaint:
            call.log(WARN, complaint)
        return 0

    def _asked_by(self, call: Call) -> Agent:
        """Who asks a model; at the first time it hears what its task has wrong."""
        agent = _agent(call)
        if not agent.warned:
            agent.warned = True
            for sentence in self._asking.unknown_backends(agent):
                call.log(WARN, sentence)
        return agent

    async def send(self, call: Call) -> Handle:
        handle, flags = call.args
        session, agent = _session(call, handle), self._asked_by(call)
        began_ns, sums = self._asking.now_ns(), Metrics() if flags & METRICS else None
        session.hold()
        try:
            if flags & AUTO_TOOL_CALL:
                done = await self._with_tools(call, agent, handle, sums)
            else:
                reply = await self._asking.chat(agent, session)
                if sums is not None:
                    sums.add(reply)
                done = Done(success(reply), ok=True)
        except ModelError as error:
            call.log(WARN, f"cchat_send: {error}")
            done = Done(failure_of(error), ok=False)
        finally:
            session.let_go()
        _caught_up(handle, session)
        if sums is None or not done.ok:
            return _response(done.document, NO_METRICS)
        return _response(done.document, sums.document(self._asking.now_ns() - began_ns))

    async def _with_tools(
        self, call: Call, agent: Agent, handle: Handle, sums: Metrics | None
    ) -> Done:
        """Raises ModelError."""
        session: Session = handle.value
        loop = ToolLoop(session)
        step: Step = loop.begin()
        while not isinstance(step, Done):
            if isinstance(step, CallTool):
                _caught_up(handle, session)
                status, output = await _tool(call, session, step)
                _caught_up(handle, session)  # a tool may write into the session
                step = loop.tool_ended(status, output)
                continue
            reply = await self._asking.chat(agent, session)
            if sums is not None:
                sums.add(reply)
            step = loop.answered(reply)
        return step

    def stream(self, call: Call) -> Handle | int:
        handle, flags = call.args
        if flags & AUTO_TOOL_CALL:
            return _refuse(call, EINVAL, "a stream calls no tools by itself: leave flag 2 out")
        try:
            return self.streams.open(
                call, self._asked_by(call), _session(call, handle), metrics=bool(flags & METRICS)
            )
        except SessionFull as full:
            return _refuse(call, ENOMEM, str(full))

    async def embed(self, call: Call) -> Handle | int:
        text, flags = call.args
        began_ns, sums = self._asking.now_ns(), Metrics()
        try:
            request, timeout_ms = read_request(text)
        except InvalidArgument as error:
            return _refuse(call, EINVAL, str(error))
        agent = self._asked_by(call)
        try:
            reply = await self._asking.embed(agent, request, timeout_ms)
        except ModelError as error:
            call.log(WARN, f"embed_send: {error}")
            return _response(failure_of(error), NO_METRICS)
        sums.add(reply)
        about = sums.document(self._asking.now_ns() - began_ns) if flags & METRICS else NO_METRICS
        return _response(success(reply), about)


async def _tool(call: Call, session: Session, step: CallTool) -> tuple[int, str]:
    params = session.params
    return await call.tool(
        step.offset, step.arguments.encode(), params.arena, params.tool_output_bytes_max
    )


def _response(document: bytes, about: bytes) -> Handle:
    handle = Handle(CHAT_RESPONSE)
    handle.finish(0, document, about)
    return handle


def _let_go(handle: Handle) -> None:
    handle.value.let_go()


def _refuse(call: Call, error: int, sentence: str) -> int:
    call.log(WARN, f"{call.name.rpartition('.')[2]}: {sentence}")
    return -error


def _agent(call: Call) -> Agent:
    if not isinstance(call.context, Agent):
        raise RuntimeError("a guest without an Agent as its context asks for a model")
    return call.context


def _session(call: Call, handle: Handle) -> Session:
    """With all that its guest has written there."""
    if handle.value is None:
        agent = _agent(call)
        agent.room = agent.room or handle.room
        assert agent.room is not None
        handle.value = Session(agent.room)
        handle.when_closed(_let_go)
    session: Session = handle.value
    _caught_up(handle, session)
    return session


def _caught_up(handle: Handle, session: Session) -> None:
    """What came of drafts is in the session, and the guest may write more of them."""
    for draft in handle.drafts(session.drafts_left):
        session.draft(*draft)


def _text(data: bytes) -> str:
    """Invalid bytes become U+FFFD."""
    return data.decode(errors="replace")

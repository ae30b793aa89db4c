"""A conversation that a guest builds up: its messages, its tools, its parameters.

The rule: all sessions of one execution together hold at most SESSION_BYTES_MAX of what guests and
tools put in, and one more answer of a model each; what does not fit is refused and leaves the
session as it was. Nothing here asks a model.
Source: the guest ABI, sections 4 and 5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from spear._core.drafts import (
    DRAFTS_MAX,
    ENTRY_BYTES,
    MESSAGE,
    SESSION_BYTES_MAX,
    STRUCTURE,
    Room,
)
from spear.hostcalls.llm.chat.params import Params, Setting, read_setting

STREAMED_BYTES_MAX = 64 << 20  # of the requests and answers of all streams that go on at once
STREAM_BYTES = 1 << 20  # what a stream's answer counts, of which nobody knows how large it will be
MESSAGES_MAX, TOOLS_MAX, SETTINGS_MAX = 16_384, 1024, 1024


class SessionFull(Exception):
    """The sentence says what does not fit, and where the limit is."""


class Session:
    """`messages` and `tools` are in OpenAI's form; read them, and add by the methods. `bytes` is
    never less than the text of a request that carries them and the parameters."""

    __slots__ = (
        "_holders", "_room", "_sizes", "_taken", "bytes", "messages", "offsets", "params", "tools",
    )  # fmt: skip

    def __init__(self, room: Room) -> None:
        self._room, self.bytes, self._taken = room, 0, 0
        self._holders = 1  # its descriptor, and each send
        self._sizes: dict[str, int] = {}  # of the parameters
        self.messages: list[dict[str, Any]] = []
        self.tools: list[dict[str, Any]] = []
        self.offsets: dict[str, int] = {}  # of the guest's functions, by their tools' names
        self.params = Params()

    def draft(self, kind: int, first: bytes, second: bytes, size: int) -> None:
        """What the guest was told is taken: a message, or a parameter that needs no word. So it is
        never refused, whatever an answer has added since. `size` is what a message counts; a
        parameter counts what is sent of it, as budgets do."""
        if kind == MESSAGE:
            self._take(size)
            self.messages.append({"role": first.decode(), "content": second.decode()})
        else:
            setting = read_setting(first)
            assert setting is not None
            size = _size({setting.key: setting.value})
            self._take(size - self._sizes.get(setting.key, 0), STRUCTURE)
            self._keep(setting, size)

    @property
    def drafts_left(self) -> int:
        """How many more drafts fit for certain, beside as many as may be there and the entry of
        the call that asks."""
        left = min(MESSAGES_MAX - len(self.messages), SETTINGS_MAX - len(self._sizes))
        return left - DRAFTS_MAX - 1

    def write(self, role: str, content: str) -> None:
        """A message of the guest. Raises SessionFull."""
        self._add({"role": role, "content": content})

    def tool_result(self, call_id: str, content: str) -> None:
        """Raises SessionFull."""
        self._add({"role": "tool", "content": content, "tool_call_id": call_id})

    def answer(self, message: dict[str, Any]) -> None:
        """A message that is always taken, as a model's is."""
        self._take(_size(message))
        self.messages.append(message)

    def tool(self, offset: int, text: bytes) -> str:
        """Offers function `offset` of the guest's table. A sentence where it is of no use, else "".
        Raises SessionFull."""
        description = text.decode(errors="replace")
        try:
            tool = msgspec.json.decode(description)
        except (msgspec.MsgspecError, RecursionError) as error:
            return f"the tool at {offset} is left out, its description is not JSON: {error}"
        if not isinstance(tool, dict):
            return f"the tool at {offset} is left out, its description is no JSON object"
        name = _name(tool)
        if name in self.offsets:
            return f"the tool at {offset} is left out: {name!r} is offered already, the first wins"
        size = len(description.encode()) + ENTRY_BYTES
        self._make_room(len(self.tools), TOOLS_MAX, "tools", size, STRUCTURE)
        if "function" not in tool and name:
            tool = {"type": "function", "function": tool}
        self.tools.append(tool)
        if name:
            self.offsets[name] = offset
        return ""

    def set(self, setting: Setting) -> str:
        """As Params.set. Raises SessionFull."""
        old, size = self._sizes.get(setting.key, 0), _size({setting.key: setting.value})
        count = len(self._sizes) - (old > 0)
        self._make_room(count, SETTINGS_MAX, "parameters", size, STRUCTURE, old)
        return self._keep(setting, size)

    def _keep(self, setting: Setting, size: int) -> str:
        self._sizes[setting.key] = size
        return self.params.set(setting)

    @property
    def full(self) -> bool:
        """Then it is asked nothing more."""
        return self._room.taken >= SESSION_BYTES_MAX

    def hold(self) -> None:
        """Somebody works with it, whoever closes it meanwhile; `let_go` ends that."""
        self._holders += 1

    def hold_for_stream(self) -> Callable[[], None]:
        """As `hold`, with what the stream may take, so that many of them stay bounded; what it
        gives ends that. Raises SessionFull."""
        size, room = self.bytes + STREAM_BYTES, self._room
        if room.streamed + size > STREAMED_BYTES_MAX:
            raise SessionFull(
                f"the streams of this execution that go on count {room.streamed} bytes, and this "
                f"one {size}, of at most {STREAMED_BYTES_MAX} at once: close one"
            )
        room.streamed += size
        self.hold()

        def end() -> None:
            room.streamed -= size
            self.let_go()

        return end

    def let_go(self) -> None:
        """By its descriptor, and by each who holds it; with the last one its room is free."""
        self._holders -= 1
        if self._holders == 0:
            self._room.add(-self._taken)
            self._taken = 0

    def _add(self, message: dict[str, Any]) -> None:
        self._make_room(len(self.messages), MESSAGES_MAX, "messages", _size(message))
        self.messages.append(message)

    def _make_room(
        self, count: int, count_max: int, what: str, size: int, times: int = 1, freed: int = 0
    ) -> None:
        if count >= count_max:
            raise SessionFull(f"a session holds at most {count_max} {what}: make a new one")
        more = (size - freed) * times
        if self._room.taken + more > SESSION_BYTES_MAX:
            raise SessionFull(
                f"{more} bytes more do not fit: the sessions of this execution hold "
                f"{self._room.taken} bytes of at most {SESSION_BYTES_MAX}; close what is done"
            )
        self._take(size - freed, times)

    def _take(self, size: int, times: int = 1) -> None:
        self.bytes += size
        self._taken += size * times
        self._room.add(size * times)


def _size(message: dict[str, Any]) -> int:
    """Of its text in a request, at least."""
    return len(msgspec.json.encode(message)) + ENTRY_BYTES


def _name(tool: dict[str, Any]) -> str:
    """Of `{"type": "function", "function": {"name": ...}}` or `{"name": ...}`; "" for others."""
    function = tool.get("function", tool)
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else ""

"""Drafts against what Python does with the same: nothing is taken that Python would speak of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spear._core.drafts import SETTING, Drafts, Room
from spear.hostcalls.llm.chat.params import Params, mcp_status, read_setting
from spear.hostcalls.llm.chat.session import Session

texts = st.one_of(
    st.binary(max_size=40), st.text(max_size=40).map(lambda t: t.encode("utf-8", "surrogatepass"))
)
keys = st.sampled_from(
    ["model", "backend", "timeout_ms", "tool_arena_ptr", "max_iterations", "max_tool_calls",
     "max_total_tool_calls", "max_tool_output_bytes", "mcp.enabled", "mcp.x", "temperature", "stop",
     "messages", "stream", ""]
)  # fmt: skip
values = st.sampled_from(
    ['"m"', '""', "0", "1", "12", "-1", "01", "1.5", "1e3", "true", "null", "[]", '"a\\"b"',
     '"\\u0041"',     '"é"', "999999999", "9999999999", '"', "", "5 "]
)  # fmt: skip
spaces = st.sampled_from(["", "", "", " ", "\t", "\n"])


@given(texts, texts)
def test_a_message_counts_what_python_counts_for_it(role: bytes, content: bytes) -> None:
    room, other = Room(), Room()
    drafts = Drafts(room)
    if drafts.message(role, content):
        Session(other).write(role.decode(), content.decode())
        assert room.taken == other.taken
        assert drafts.take(0) == [(0, role, content, other.taken)]
        assert room.taken == 0
    else:
        assert any("\ufffd" in text.decode(errors="replace") for text in (role, content))


@given(keys, values, st.lists(spaces, min_size=6, max_size=6), st.binary(max_size=1))
def test_a_parameter_is_taken_only_where_python_says_nothing(
    key: str, value: str, gaps: list[str], tail: bytes
) -> None:
    text = (
        f'{{{gaps[0]}"key"{gaps[1]}:{gaps[2]}"{key}"{gaps[3]},"value":{gaps[4]}{value}{gaps[5]}}}'
    )
    room, other = Room(), Room()
    drafts = Drafts(room)
    if not drafts.setting(text.encode() + tail):
        assert room.taken == 0
        return
    setting = read_setting(text.encode() + tail)
    assert setting is not None
    assert mcp_status(setting) == 0
    assert Params().set(setting) == ""
    session = Session(other)
    session.set(setting)
    assert 0 < other.taken <= room.taken
    ((*draft, size),) = drafts.take(0)
    assert [*draft, size] == [SETTING, text.encode() + tail, b"", 0]
    drafted = Session(room)
    drafted.draft(*draft, size)
    assert (drafted.bytes, room.taken) == (session.bytes, other.taken)


@given(st.binary(max_size=60))
def test_no_bytes_are_a_parameter_that_python_does_not_know(text: bytes) -> None:
    if Drafts(Room()).setting(b'{"key":"' + text):
        assert read_setting(b'{"key":"' + text) is not None

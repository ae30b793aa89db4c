from __future__ import annotations

import msgspec
import pytest

from spear._core.drafts import Room
from spear.hostcalls.llm.chat import session as sessions
from spear.hostcalls.llm.chat.params import Setting
from spear.hostcalls.llm.chat.session import Session, SessionFull

SUM = b'{"type":"function","function":{"name":"sum","parameters":{}}}'


def test_messages_keep_their_order_and_shape() -> None:
    session = Session(Room())
    session.write("system", "be kind")
    session.write("user", "")
    session.tool_result("c1", "3")
    assert session.messages == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": ""},
        {"role": "tool", "content": "3", "tool_call_id": "c1"},
    ]


def test_the_first_registration_of_a_name_wins() -> None:
    session = Session(Room())
    assert session.tool(7, SUM) == ""
    assert "the first wins" in session.tool(8, b'{"name":"sum"}')
    assert session.offsets == {"sum": 7}
    assert session.tools == [msgspec.json.decode(SUM)]


def test_a_bare_description_is_offered_as_a_function() -> None:
    session = Session(Room())
    session.tool(3, b'{"name":"f"}')
    assert session.tools == [{"type": "function", "function": {"name": "f"}}]
    assert session.offsets == {"f": 3}


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[1]", b"3", b"[" * 100_000])
def test_a_tool_that_is_no_json_object_is_left_out_and_told(text: bytes) -> None:
    session = Session(Room())
    assert "left out" in session.tool(1, text)
    assert session.tools == []
    assert session.offsets == {}


def test_a_tool_without_a_name_goes_upstream_as_it_is() -> None:
    session = Session(Room())
    assert session.tool(1, b'{"type":"web_search"}') == ""
    assert session.tools == [{"type": "web_search"}]
    assert session.offsets == {}


def test_bytes_are_never_fewer_than_a_request_has() -> None:
    session = Session(Room())
    session.write("user", '"\n' * 50)
    session.tool(1, SUM)
    session.set(Setting("stop", ["x", {"é": 1e300}]))
    session.tool(2, b'{"description":"' + b"\xff" * 50 + b'"}')
    parts = [session.messages, session.tools, session.params.extra()]
    assert session.bytes >= sum(len(msgspec.json.encode(part)) for part in parts)


def test_what_does_not_fit_is_refused_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "SESSION_BYTES_MAX", 300)
    room = Room()
    session, other = Session(room), Session(room)
    other.write("user", "x" * 100)
    taken = room.taken
    for fill in (
        lambda: session.write("user", "y" * 100),
        lambda: session.tool(1, b'{"name":"' + b"n" * 200 + b'"}'),
        lambda: session.set(Setting("k", "v" * 300)),
        lambda: session.tool_result("c", "y" * 100),
    ):
        with pytest.raises(SessionFull):
            fill()
    assert (room.taken, session.messages, session.tools) == (taken, [], [])
    assert session.params.extra() == {}


def test_counts_are_limited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MESSAGES_MAX", "TOOLS_MAX", "SETTINGS_MAX"):
        monkeypatch.setattr(sessions, name, 1)
    session = Session(Room())
    session.write("user", "a")
    session.tool(1, b"{}")
    session.set(Setting("a", 1))
    session.set(Setting("a", 2))  # the same key again is no more
    for fill in (
        lambda: session.write("user", "b"),
        lambda: session.tool(1, b"{}"),
        lambda: session.set(Setting("b", 1)),
    ):
        with pytest.raises(SessionFull, match="at most 1"):
            fill()


def test_a_key_that_is_set_again_takes_the_room_of_its_last_value() -> None:
    room, fresh = Room(), Room()
    session = Session(room)
    for size in (1000, 10, 500):
        session.set(Setting("k", "v" * size))
    Session(fresh).set(Setting("k", "v" * 500))
    assert room.taken == fresh.taken


def test_an_answer_is_always_taken_and_then_the_session_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "SESSION_BYTES_MAX", 100)
    session = Session(Room())
    session.answer({"role": "assistant", "content": "x" * 200})
    assert session.full


def test_its_room_is_free_once_nobody_holds_it() -> None:
    room = Room()
    session = Session(room)
    session.write("user", "a")
    session.hold()
    session.let_go()  # its descriptor was closed inside a send
    session.write("user", "b")
    assert room.taken > 0
    session.let_go()
    assert room.taken == 0

"""What guests write into sessions in place: what is taken, what goes to Python, what it counts."""

from __future__ import annotations

import pytest

from spear._core.drafts import (
    DRAFTS_MAX,
    ENTRY_BYTES,
    MESSAGE,
    SESSION_BYTES_MAX,
    SETTING,
    Drafts,
    Room,
)


def test_drafts_are_given_in_their_order_and_once() -> None:
    room = Room()
    drafts = Drafts(room)
    assert drafts.message(b"system", "schön".encode())
    assert drafts.setting(b'{"key":"model","value":"m"}')
    assert drafts.message(b"", b"")
    assert room.taken > 0
    assert drafts.take(DRAFTS_MAX) == [
        (MESSAGE, b"system", "schön".encode(), 24 + 6 + 6 + ENTRY_BYTES),
        (SETTING, b'{"key":"model","value":"m"}', b"", 0),
        (MESSAGE, b"", b"", 24 + ENTRY_BYTES),
    ]
    assert (drafts.take(DRAFTS_MAX), room.taken) == ([], 0)


@pytest.mark.parametrize(
    "text",
    [
        '{"key":"model","value":"m"}',
        '{ "key" : "backend" , "value" : "b" }',
        '{"key":"temperature","value":1}',
        '{"key":"tool_choice2","value":0}',
        '{"key":"max_tokens","value":123456789}',
        '{"key":"timeout_ms","value":5}',
        '{"key":"user","value":""}',
    ],
)
def test_a_plain_parameter_is_taken(text: str) -> None:
    assert Drafts(Room()).setting(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "null", '{"key":"model"}', '{"key":"","value":"m"}', '{"value":"m","key":"k"}',
        '{"key":"model","value":"m"},', '{"key":"model","value":"m"}}',
        '{"key":"model","value":"m"',
        '{"key":"model","value":"m","more":1}', '{"key":"model","value":5}',
        '{"key":"backend","value":0}', '{"key":"max_tokens","value":"5"}',
        '{"key":"tool_arena_ptr","value":"5"}', '{"key":"timeout_ms","value":"1"}',
        '{"key":"mcp.enabled","value":"x"}', '{"key":"k","value":01}', '{"key":"k","value":-1}',
        '{"key":"k","value":1.5}', '{"key":"k","value":1234567890}', '{"key":"k","value":}',
        '{"key":"k","value":null}', '{"key":"k","value":true}', '{"key":"k","value":[]}',
        '{"key":"k","value":"\\n"}', '{"key":"k","value":"\u00e9"}', '{"key":"k","value":"\x7f"}',
        '{"k\\u0065y":"k","value":1}', '{"key":"k" "value":1}', '{"key","k","value":1}',
        '{"key":"k","value":"m}', '{"key":"k","value":"',
    ],
)  # fmt: skip
def test_any_other_parameter_is_pythons(text: str) -> None:
    room = Room()
    assert not Drafts(room).setting(text.encode())
    assert room.taken == 0


@pytest.mark.parametrize(
    "text", [b"\xff", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"]
)
def test_what_is_not_utf8_is_pythons(text: bytes) -> None:
    room = Room()
    drafts = Drafts(room)
    assert not drafts.message(b"user", text)
    assert not drafts.message(text, b"hello")
    assert room.taken == 0


def test_a_session_takes_so_many_and_then_python_is_to_look() -> None:
    drafts = Drafts(Room())
    assert all(drafts.message(b"user", b"x") for _ in range(DRAFTS_MAX))
    assert not drafts.message(b"user", b"x")
    assert not drafts.setting(b'{"key":"k","value":1}')
    assert len(drafts.take(2)) == DRAFTS_MAX
    assert [drafts.message(b"user", b"x") for _ in range(3)] == [True, True, False]
    drafts.take(-5)
    assert not drafts.message(b"user", b"x")
    drafts.take(1 << 30)
    assert [drafts.message(b"u", b"x") for _ in range(DRAFTS_MAX + 1)][-2:] == [True, False]


def test_large_messages_are_pythons() -> None:
    drafts = Drafts(Room())
    assert drafts.message(b"user", b"x" * 60_000)
    assert not drafts.message(b"user", b"x" * (1 << 16))


def test_what_has_no_room_is_pythons_and_changes_nothing() -> None:
    room = Room()
    size = 24 + 4 + 5 + 64
    room.add(SESSION_BYTES_MAX - size)
    drafts, other = Drafts(room), Drafts(room)
    assert drafts.message(b"user", b"hello")
    assert not other.message(b"user", b"")
    assert not other.setting(b'{"key":"k","value":1}')
    assert room.taken == SESSION_BYTES_MAX
    drafts.take(DRAFTS_MAX)
    assert other.message(b"user", b"hello")


def test_drafts_that_nobody_took_give_their_room_back() -> None:
    room = Room()
    drafts = Drafts(room)
    drafts.message(b"user", b"hello")
    drafts.setting(b'{"key":"k","value":1}')
    assert room.taken > 0
    del drafts
    assert room.taken == 0


def test_without_memory_to_take_them_they_stay() -> None:
    """Whichever allocation fails, what a guest wrote is there again for the next one who takes."""
    capi = pytest.importorskip("_testcapi")
    room = Room()
    texts = [b"%d" % number * 600 for number in range(9)]  # of sizes that no free list keeps
    failed = 0
    for at in range(200):
        drafts = Drafts(room)
        for text in texts:
            assert drafts.message(b"user-" * 20, text)
        taken = room.taken
        capi.set_nomemory(at, at + 1)
        try:
            found = drafts.take(DRAFTS_MAX)
        except MemoryError:
            found = None
        finally:
            capi.remove_mem_hooks()
        if found is None:
            failed += 1
            assert room.taken == taken
            found = drafts.take(DRAFTS_MAX)
        assert [content for _, _, content, _ in found] == texts
        assert room.taken == 0
        if failed < at:  # none failed any more
            break
    assert len(texts) < failed < at

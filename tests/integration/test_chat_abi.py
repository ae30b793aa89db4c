"""The chat imports as a guest in another language may use them: pointers to nothing, bytes that are
no text, any order of calls, tools by any number.

The rule: real handlers and a model over HTTP; what is expected stands in the guest ABI, sections 1,
2, 4 and 5. A body leaves one number a call; bytes are seen by logging them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from chat_node import ChatNode, chat_node, openai
from handle_guests import EBADF, EFAULT, EINVAL, EIO, ENOSPC, HUP, IN, handle_guest

from tests.fakes.openai import OpenAiFake
from tests.fakes.step import Call, Step

TOOLS = """
(type $tool (func (param i32 i32 i32 i32) (result i32)))
(table (export "table") 6 funcref)
(elem (i32.const 1) $same $later $other $no_text)
(global $tries (mut i32) (i32.const 0))
(func $same (type $tool)
  (memory.copy (local.get 2) (local.get 0) (local.get 1))
  (i32.store (local.get 3) (local.get 1)) (i32.const 0))
(func $later (type $tool)
  (global.set $tries (i32.add (global.get $tries) (i32.const 1)))
  (i32.store (local.get 3) (i32.const 4))
  (if (i32.eq (global.get $tries) (i32.const 1)) (then (return (i32.const -28))))
  (i32.store (local.get 2) (i32.const 0x64636261)) (i32.const 0))
(func $other (param i32) (result i32) (i32.const 0))
(func $no_text (type $tool)
  (i32.store8 (local.get 2) (i32.const 255)) (i32.store (local.get 3) (i32.const 1)) (i32.const 0))
"""
NEW = "(local.set $a (call $create))"
WRITE = "(call $write (local.get $a) {})"
HELLO = WRITE.format("(i32.const 4096) (i32.const 5) (i32.const 4096) (i32.const 5)")
SEND = "(local.set $b (call $send (local.get $a) (i32.const {})))"
ROOM = "(call $room (i32.const 4000))"
RECV = f"{ROOM} (call $recv (local.get $b) (i32.const 64) (i32.const 0))"
METRICS = f"{ROOM} (call $ctl (local.get $b) (i32.const 2) (i32.const 64) (i32.const 0))"
SHOW = "(drop (call $show))"


@pytest.fixture
async def fake() -> AsyncIterator[OpenAiFake]:
    async with OpenAiFake() as made:
        yield made  # type: ignore[misc]


@pytest.fixture
async def node(fake: OpenAiFake) -> AsyncIterator[ChatNode]:
    async with chat_node(openai(fake.url)) as made:
        yield made


def data(at: int, text: bytes) -> str:
    shown = "".join(f"\\{byte:02x}" for byte in text)
    return f'(data (i32.const {at}) "{shown}")'


async def calls(node: ChatNode, body: str, results: int, more: str = "") -> tuple[Any, list[str]]:
    """What the body leaves, and what it logged."""
    run = node.start(handle_guest(body, results, more), entry="go")
    assert (await run).cause == "exit"
    return run.value, [line.message for line in run.read_logs()]


def numbers(*values: int) -> str:
    return " ".join(f"(i32.const {value})" for value in values)


async def test_nothing_may_lie_anywhere_and_something_only_inside(node: ChatNode) -> None:
    end = 131_072  # of the guest's memory
    places = [(0, 0, 0, 0), (end, 0, end, 0), (0, 0, end - 2, 2), (end + 1, 0, 0, 0),
              (0, 0, end - 2, 3), (-1, 0, 0, 0), (0, -1, 0, 0)]  # fmt: skip
    body = NEW + "".join(WRITE.format(numbers(*place)) for place in places)
    found, _ = await calls(node, body, len(places))
    assert found == (0, 0, 0, EFAULT, EFAULT, EFAULT, EFAULT)


async def test_bytes_that_are_no_text_become_text(node: ChatNode, fake: OpenAiFake) -> None:
    more = data(8192, b"us\xffer") + data(8200, b"he\xc3llo\xf0\x9f")
    more += data(8300, b'{"key":"a\xff","value":"\xc3"}')
    body = f"""{NEW} {WRITE.format(numbers(8192, 5, 8200, 8))} (call $room (i32.const 24))
      (call $ctl (local.get $a) (i32.const 1) (i32.const 8300) (i32.const 0)) {SEND.format(0)}"""
    assert await calls(node, body, 2, more) == ((0, 0), [])
    (seen,) = fake.requests
    assert seen.document == {
        "model": "m", "messages": [{"role": "us\ufffder", "content": "he\ufffdllo\ufffd"}],
        "a\ufffd": "\ufffd",
    }  # fmt: skip


async def test_what_is_closed_keeps_what_can_still_be_read(node: ChatNode) -> None:
    close = "(call $close (local.get ${}))"
    look = "(call $look (local.get $c) (i32.const 0))"
    watch = "(call $watch (local.get $c) (i32.const 1) (local.get ${}) (i32.const 31))"
    body = f"""{NEW} {HELLO} {SEND.format(1)} (local.set $c (call $epoll))
      {watch.format("b")} {watch.format("a")} {look} {close.format("b")} {look}
      {close.format("b")} {close.format("a")} {close.format("a")} {close.format("c")}
      (call $close (i32.const 7)) {HELLO} (call $send (local.get $a) (i32.const 0))
      (call $stream (local.get $a) (i32.const 0))
      (call $fn (local.get $a) {numbers(1, 4096, 5)})
      {METRICS} (i32.const 0) (i32.gt_s) {SHOW} {RECV} (i32.const 0) (i32.gt_s)
      (call $create)"""
    found, (metrics,) = await calls(node, body, 18)
    assert found[:11] == (0, 0, 0, IN, 0, HUP, 0, 0, 0, EBADF, EBADF)
    assert found[11:] == (EBADF, EBADF, EBADF, EBADF, 1, 1, 1003)
    assert metrics.startswith('{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18,')


@pytest.mark.parametrize("flags", [0, 4, 1 << 30])
async def test_a_flag_that_nobody_knows_changes_nothing(flags: int, node: ChatNode) -> None:
    body = f"{NEW} {HELLO} {SEND.format(flags)} {METRICS} {SHOW}"
    assert await calls(node, body, 2) == ((0, 2), ["{}"])


@pytest.mark.parametrize("answer", [b"[1,2]", b'"text"', b"null", b'{"foo":1}', b'{"choices":[]}'])
@pytest.mark.parametrize("flags", [0, 2])
async def test_an_answer_that_is_no_completion_is_given_as_it_came(
    flags: int, answer: bytes, node: ChatNode, fake: OpenAiFake
) -> None:
    fake.script(Step(body=answer))
    _, (document,) = await calls(node, f"{NEW} {HELLO} {SEND.format(flags)} {RECV} {SHOW}", 2)
    spear = '"_spear":{"backend":"fake","model":"m"}'
    whole = answer.decode()
    wrapped = f'{{{spear},"result":{whole}}}'
    assert document == (f"{whole[:-1]},{spear}}}" if whole.startswith("{") else wrapped)


async def test_a_request_for_vectors_of_nothing_is_none(node: ChatNode) -> None:
    body = "".join(
        f"(call $embed {numbers(*given)})" for given in ((0, 0, 0), (-1, 0, 0), (0, -1, 0))
    )
    assert (await calls(node, body, 3))[0] == (EINVAL, EFAULT, EFAULT)


FAILED = '{{"error":{{"code":"tool_exec_failed","message":"tool rc: {}"}}}}'


@pytest.mark.parametrize(
    ("offsets", "said"),
    [
        ((1,), '{"a":1}'),
        ((1, 3), '{"a":1}'),  # the first of a name wins
        ((2,), "abcd"),  # it says how much room it needs, and is called once more
        ((0,), FAILED.format(EINVAL)),
        ((3,), FAILED.format(EINVAL)),  # another signature
        ((4,), FAILED.format(EIO)),
        ((5,), FAILED.format(EINVAL)),
        ((6,), FAILED.format(EINVAL)),
        ((-1,), FAILED.format(EFAULT)),
        ((-(2**31),), FAILED.format(EFAULT)),
    ],
)
async def test_a_tool_is_a_place_in_the_guests_table(
    offsets: tuple[int, ...], said: str, node: ChatNode, fake: OpenAiFake
) -> None:
    fake.script(Step(calls=(Call("f", {"a": 1}),)), Step(text="done"))
    given = [b'{"name":"f"}', b'{"key":"tool_arena_ptr","value":30000}',
             b'{"key":"tool_arena_len","value":1000}']  # fmt: skip
    more = TOOLS + "".join(data(20_000 + 100 * n, text) for n, text in enumerate(given))
    body = f"{NEW} {HELLO}"
    for offset in offsets:
        body += f"(call $fn (local.get $a) {numbers(offset, 20_000, len(given[0]))})"
    for n, text in enumerate(given[1:], 1):
        body += f"(call $room (i32.const {len(text)}))"
        body += f"(call $ctl (local.get $a) {numbers(1, 20_000 + 100 * n, 0)})"
    found, _ = await calls(node, body + SEND.format(2), 3 + len(offsets), more)
    assert set(found) == {0}
    first, second = fake.requests
    assert len(first.document["tools"]) == 1
    assert [one["content"] for one in second.document["messages"] if one["role"] == "tool"] == [
        said
    ]


async def test_a_response_without_room_says_how_much_and_is_whole_then(node: ChatNode) -> None:
    small = "(call $room (i32.const 10)) (call $recv (local.get $b) (i32.const 64) (i32.const 0))"
    again = "(call $recv (local.get $b) (i32.const 64) (i32.const 0))"
    body = f"{NEW} {HELLO} {SEND.format(0)} {small} (i32.load (i32.const 0)) {again} {SHOW} {RECV}"
    (_, refused, needed, size, more), (document,) = await calls(node, body, 5)
    assert refused == ENOSPC
    assert needed == size == more == len(document.encode())

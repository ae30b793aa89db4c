"""The layout of bodies, and what is refused of them."""

from __future__ import annotations

import contextlib
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spear.errors import FrameError, InvalidArgument
from spear.protocol import message as wire


def test_the_header_lies_as_the_contract_says() -> None:
    body = wire.pack(wire.RESPONSE, wire.LAST, 0x01020304, 0x1122334455667788, b"rest")
    assert body == bytes.fromhex("01 04 0200 04030201 8877665544332211") + b"rest"
    assert wire.HEADER_BYTES == 16
    assert list(wire.TYPES) == list(range(1, 10))
    assert (wire.CALL, wire.STREAM, wire.CANCEL) == (128, 129, 130)


def test_a_call_lies_as_the_contract_says() -> None:
    payload = wire.pack_call(b"/a/B", 1000, b"message")
    assert payload == bytes.fromhex("0400") + b"/a/B" + bytes.fromhex("e8030000") + b"message"
    assert wire.unpack_call(bytes(16) + payload) == ("/a/B", 1000, b"message")


def test_a_welcome_says_all_that_the_contract_names() -> None:
    """A client of other making reads its window there, and knows no default of ours."""
    body = wire.pack_map(wire.WELCOME, wire.Welcome())
    assert msgspec.msgpack.decode(body[wire.HEADER_BYTES :]) == {
        "session": "", "features": [], "window": 64, "heartbeat_ms": 0, "resume": None,
    }  # fmt: skip


def test_a_cancel_names_the_request() -> None:
    body = wire.pack_cancel(7)
    assert body == wire.pack(wire.REQUEST, wire.NO_ANSWER, 130, 0, struct.pack("<Q", 7))
    assert wire.unpack_cancel(body) == 7
    for wrong in (body[:-1], body + b"x"):
        with pytest.raises(FrameError, match="a cancel with"):
            wire.unpack_cancel(wrong)


@given(st.binary(max_size=40), st.integers(0, 2**32 - 1), st.binary(max_size=40))
def test_a_call_survives(path: bytes, deadline_ms: int, message: bytes) -> None:
    body = bytes(16) + wire.pack_call(path, deadline_ms, message)
    if path.isascii():
        assert wire.unpack_call(body) == (path.decode(), deadline_ms, message)
    else:
        with pytest.raises(FrameError, match="not ASCII"):
            wire.unpack_call(body)


def test_a_call_cut_anywhere_is_refused() -> None:
    body = bytes(16) + wire.pack_call(b"/a/B", 5, b"")
    for size in range(16, len(body)):
        with pytest.raises(FrameError, match="cut"):
            wire.unpack_call(body[:size])


def test_a_path_has_a_limit_both_ways() -> None:
    longest = b"p" * wire.PATH_BYTES_MAX
    assert wire.unpack_call(bytes(16) + wire.pack_call(longest, 0, b""))[0] == longest.decode()
    with pytest.raises(InvalidArgument, match="1025 bytes"):
        wire.pack_call(longest + b"p", 0, b"")
    beyond = struct.pack("<H", 1025) + b"p" * 1025 + bytes(4)
    with pytest.raises(FrameError, match="more than 1024"):
        wire.unpack_call(bytes(16) + beyond)


def test_a_deadline_beyond_the_field_is_cut_and_one_below_zero_refused() -> None:
    assert wire.unpack_call(bytes(16) + wire.pack_call(b"/", 1 << 40, b""))[1] == (1 << 32) - 1
    with pytest.raises(InvalidArgument, match="deadline of -1 ms"):
        wire.pack_call(b"/", -1, b"")


def test_a_greeting_survives_and_unknown_keys_are_skipped() -> None:
    hello = wire.Hello(client="c", version="1", token="t", features=("a", "b"))
    assert wire.greeting(wire.Hello, wire.pack_map(wire.HELLO, hello)) == hello
    more = msgspec.msgpack.encode({"client": "c", "later": [1, {"x": None}]})
    assert wire.greeting(wire.Hello, bytes(16) + more) == wire.Hello(client="c")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc0",
        b"\x81",
        msgspec.msgpack.encode({"client": 1}),
        msgspec.msgpack.encode(["client"]),
        b"\x81\xa6client\xa1\xff",  # not UTF-8
        b"\x80" + bytes(wire.GREETING_BYTES_MAX),
    ],
)
def test_a_greeting_that_is_no_such_map_is_refused(payload: bytes) -> None:
    with pytest.raises(FrameError, match="hello"):
        wire.greeting(wire.Hello, bytes(16) + payload)


def test_a_greeting_of_any_depth_is_skipped_or_refused() -> None:
    """As deep as the interpreter's stack allows; never deeper."""
    deep = b"\x81\xa1x" + b"\x91" * (wire.GREETING_BYTES_MAX - 4) + b"\xc0"
    with contextlib.suppress(FrameError):
        assert wire.greeting(wire.Hello, bytes(16) + deep) == wire.Hello()


def test_only_requests_that_want_an_answer_are_requests() -> None:
    assert wire.is_request(wire.pack(wire.REQUEST, 0, wire.CALL, 1))
    assert not wire.is_request(wire.pack_cancel(1))
    assert not wire.is_request(wire.pack(wire.DATA, 0, 1, 1))
    assert not wire.is_request(b"\x01\x03")

from __future__ import annotations

import pytest

from spear._core.endpoints import Channel
from spear._core.outlets import Outlet
from spear._core.plainstream import PlainStream

PLAIN = b'{"id":"c","choices":[{"index":0,"delta":{"content":"abc"},"finish_reason":null}]}'
EVENT = b'{"type":"delta","content":"abc"}'


def sent(document: bytes, end: bytes = b"\n\n") -> bytes:
    """One event in one chunk of HTTP."""
    return framed(b"data: " + document + end)


def framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def opened(room: int = 16) -> tuple[PlainStream, Outlet]:
    outlet = Outlet(Channel(), [], lambda _: None, room)
    stream = PlainStream(outlet)
    stream.begin(1 << 20, 1 << 20)
    return stream, outlet


@pytest.mark.parametrize(
    "read",
    [
        sent(PLAIN),
        sent(PLAIN, b"\r\n\r\n"),
        sent(PLAIN.replace(b"{", b"{ ").replace(b":", b"\t: ")),
        sent(
            b'{"choices":[{"delta":{"role":"assistant","content":"abc","refusal":null}}],"x":[{}]}'
        ),
        sent(
            b'{"usage":null,"error":null,"created":1,"choices":[{"delta":{"content":"a\\u0062c"}}]}'
        ),
        sent(
            b'{"x":{"\\n":[true,false,"\\"",-0]},"choices":[{"delta":{"content":"abc"}}]}'
        ).replace(b"-0", b"10"),
    ],
)
def test_a_chunk_with_some_text_and_nothing_else_is_plain(read: bytes) -> None:
    stream, outlet = opened()
    assert stream.take(read)
    assert (outlet.held, stream.text(), stream.end()) == ([EVENT], "abc", len(read))


@pytest.mark.parametrize(
    "read",
    [
        sent(PLAIN.replace(b"null", b'"stop"')),
        sent(PLAIN.replace(b'"index":0', b'"index":1')),
        sent(PLAIN.replace(b'"index":0', b'"index":01')),
        sent(PLAIN.replace(b'"abc"', b'"abc","tool_calls":[]')),
        sent(PLAIN.replace(b'"abc"', b'"abc","thought":null')),
        sent(PLAIN.replace(b'"abc"', b'"abc","content":"d"')),
        sent(PLAIN.replace(b'"abc"', b"null")),
        sent(PLAIN.replace(b'"abc"', b'"\\ud800"')),
        sent(PLAIN.replace(b'"abc"', b'"\xff"')),
        sent(PLAIN.replace(b'"abc"', b'"\xc1\x81"')),
        sent(PLAIN.replace(b'"abc"', b'"\xc3"')),
        sent(PLAIN.replace(b'"abc"', b'"\x80"')),
        sent(PLAIN.replace(b'"abc"', b'"\xe0\x80\x80"')),
        sent(PLAIN.replace(b'"abc"', b'"\xed\xa0\x80"')),
        sent(PLAIN.replace(b'"abc"', b'"\xe2\x82"')),
        sent(PLAIN.replace(b'"abc"', b'"\xf0\x80\x80\x80"')),
        sent(PLAIN.replace(b'"abc"', b'"\xf4\x90\x80\x80"')),
        sent(PLAIN.replace(b'"abc"', b'"\xf0\x9f\x98"')),
        sent(PLAIN.replace(b'"abc"', b'"\xf5\x80\x80\x80"')),
        sent(PLAIN.replace(b'"abc"', b'"\\uD83D\\u0041"')),
        sent(PLAIN.replace(b'"abc"', b'"\\uDE00"')),
        sent(PLAIN.replace(b'"abc"', b'"\\u00g0"')),
        sent(PLAIN.replace(b'"abc"', b'"\\u00"')),
        sent(PLAIN.replace(b'"abc"', b'"\\x"')),
        sent(PLAIN.replace(b'"abc"', b'"\x1f"')),
        sent(PLAIN.replace(b'"abc"', b'"%s"' % (b"x" * 8193))),
        sent(PLAIN.replace(b'"content"', b'"c\\u006fntent"')),
        sent(PLAIN.replace(b'"id":"c"', b'"usage":{}')),
        sent(PLAIN.replace(b'"id":"c"', b'"error":"e"')),
        sent(PLAIN.replace(b'"id":"c"', b'"id":1.5')),
        sent(PLAIN.replace(b'"id":"c"', b'"id":' + b"[" * 20 + b"]" * 20)),
        sent(PLAIN.replace(b'"id":"c"', b'"choices":[]')),
        sent(PLAIN[:-1]),
        sent(PLAIN + b"}"),
        sent(b"[DONE]"),
        sent(PLAIN, b"\n"),
        sent(PLAIN, b"\r\r"),
        framed(b": note\n\n"),
        framed(b"data:" + PLAIN + b"\n\n"),
        framed(b"event: x\ndata: " + PLAIN + b"\n\n"),
        framed(b"data: " + PLAIN + b"\n\ndata"),
        b"0" + sent(PLAIN),
        sent(PLAIN).replace(b"\r\n", b";x=1\r\n", 1),
        sent(PLAIN).replace(b"\r\n", b"\n", 1),
        sent(PLAIN)[:-1],
        sent(PLAIN) + b"0\r\n\r\n",
        sent(PLAIN) + b"\r\n",
        b"ffffffff\r\n",
        b"\r\n",
        b"5",
    ],
)
def test_what_is_anything_else_is_left_and_so_is_what_came_with_it(read: bytes) -> None:
    stream, outlet = opened()
    for whole in (read, sent(PLAIN) + read):
        assert not stream.take(whole)
    assert (outlet.held, stream.text(), stream.end()) == ([], "", 0)


def test_a_text_of_nothing_is_no_event() -> None:
    stream, outlet = opened()
    assert stream.take(sent(PLAIN.replace(b"abc", b"")))
    assert (outlet.held, stream.text()) == ([], "")


def test_limits_are_met_before_anything_is_taken() -> None:
    read = sent(PLAIN)
    for bytes_max, characters_max in ((2 * len(read) - 1, 9), (9000, 5)):
        stream, outlet = opened()
        stream.begin(bytes_max, characters_max)
        assert [stream.take(read) for _ in range(2)] == [True, False]
        assert (outlet.held, stream.end()) == ([EVENT], len(read))
    stream.begin(len(read), 3)
    assert stream.take(read)
    assert not stream.take(read)


def test_it_takes_nothing_before_it_begins_and_after_its_end() -> None:
    outlet = Outlet(Channel(), [], lambda _: None, 16)
    stream = PlainStream(outlet)
    assert not stream.take(sent(PLAIN))
    stream.begin(9000, 9000)
    stream.end()
    assert not stream.take(sent(PLAIN))


def test_an_outlet_without_room_is_given_nothing() -> None:
    stream, outlet = opened(room=3)
    assert stream.take(sent(PLAIN) * 2)
    assert not stream.take(sent(PLAIN) * 2)
    assert stream.take(sent(PLAIN))
    outlet.held.clear()
    outlet.moving = object()  # type: ignore[assignment]
    assert not stream.take(sent(PLAIN))


def test_the_text_is_given_once() -> None:
    stream, _ = opened()
    stream.take(sent(PLAIN) * 2)
    assert (stream.text(), stream.text()) == ("abcabc", "")
    stream.take(sent(PLAIN.replace(b"abc", "Grüße 世界 😀".encode())))
    assert stream.text() == "Grüße 世界 😀"

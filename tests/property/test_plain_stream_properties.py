"""The short way of plain chunks: what it takes it reads as the parsers do; the rest it leaves."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from spear._core.endpoints import Channel
from spear._core.outlets import Outlet
from spear._core.plainstream import PlainStream
from spear.hostcalls.llm.chat.documents import delta_event
from tests.fuzz.fuzz_plain_streams import fuzz


def opened() -> tuple[PlainStream, Outlet]:
    outlet = Outlet(Channel(), [], lambda _: None, 16)
    stream = PlainStream(outlet)
    stream.begin(1 << 20, 1 << 20)
    return stream, outlet


def chunk_of(text: str, plain: bool) -> bytes:
    document = json.dumps({"choices": [{"delta": {"content": text}}]}, ensure_ascii=not plain)
    data = b"data: " + document.encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


@given(st.lists(st.text(), max_size=16), st.booleans())
def test_any_text_comes_as_the_event_that_the_chat_writes(texts: list[str], plain: bool) -> None:
    stream, outlet = opened()
    read = b"".join(chunk_of(text, plain) for text in texts)
    assert stream.take(read)
    assert outlet.held == [delta_event(text) for text in texts if text]
    assert (stream.text(), stream.end()) == ("".join(texts), len(read))


@given(st.lists(st.text(max_size=5), min_size=1, max_size=3), st.booleans(), st.integers(1))
def test_a_read_that_ends_elsewhere_than_a_chunk_is_left_whole(
    texts: list[str], plain: bool, at: int
) -> None:
    stream, outlet = opened()
    chunks = [chunk_of(text, plain) for text in texts]
    read = b"".join(chunks)
    cut = at % len(read)
    ends = {sum(map(len, chunks[:count])) for count in range(len(chunks))}
    assert stream.take(read[:cut]) == (cut in ends)
    assert bool(outlet.held) <= (cut in ends)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_without_harm(data: bytes) -> None:
    stream, outlet = opened()
    before = chunk_of("a", plain=True)
    assert not stream.take(before[:-9] + data + before[-9:]) or outlet.held


def test_a_guest_sees_no_difference() -> None:
    assert fuzz(400, 1) > 800

"""Streams: who may send, and how much."""

from __future__ import annotations

import pytest

from spear.errors import FrameError, InvalidArgument
from spear.protocol import message as wire
from spear.protocol.message import HEADER_BYTES, pack
from spear.protocol.session import Call, Credited, Data, Response, Session
from spear.protocol.streams import (
    CREDIT_BYTES,
    CREDIT_BYTES_MAX,
    CREDIT_STEP_BYTES,
    MESSAGE_BYTES_MAX,
    Stream,
)
from tests.sessions import deliver, joined


def opened(*, last: bool = False) -> tuple[Session, Session, Stream, Stream]:
    """Host and peer, and the stream of the peer as the host and as the peer has it."""
    host, peer = joined()
    ours = peer.open_stream(b"/a/B", 0, b"first", last=last)
    (event,) = deliver(peer, host)
    assert isinstance(event, Call)
    assert (event.payload, event.path) == (b"first", "/a/B")
    assert event.stream is not None
    return host, peer, event.stream, ours


def test_messages_go_both_ways_until_the_answer() -> None:
    host, peer, theirs, ours = opened()
    peer.send_data(ours, b"second")
    peer.send_data(ours, b"third", last=True)
    host.send_data(theirs, b"back")
    host.respond(theirs.request_id, b"")
    assert deliver(peer, host) == []  # late: it has answered
    assert deliver(host, peer) == [Data(3, b"back", False), Response(3, 0, b"")]


def test_data_carries_the_low_bits_of_its_request_and_the_last_flag() -> None:
    _, peer, _, ours = opened()
    ours.request_id = 3
    peer.send_data(ours, b"x", last=True)
    assert peer.outgoing == [pack(wire.DATA, wire.LAST, 3, 3, b"x")]


def test_the_last_of_a_side_ends_that_side_alone() -> None:
    host, peer, theirs, ours = opened(last=True)
    assert theirs.received_last
    with pytest.raises(InvalidArgument, match="ended"):
        peer.send_data(ours, b"more")
    with pytest.raises(FrameError, match="after its last"):
        host.receive(pack(wire.DATA, 0, 3, 3, b"more"))
    host, peer, theirs, ours = opened(last=True)
    host.send_data(theirs, b"answer")
    assert deliver(host, peer) == [Data(3, b"answer", False)]


def test_a_sender_without_credit_waits_for_what_was_taken() -> None:
    host, peer, theirs, ours = opened()
    sent = 0
    while ours.writable:
        peer.send_data(ours, bytes(1000))
        sent += 1
    assert sent == -(-CREDIT_BYTES // (1000 + HEADER_BYTES))
    with pytest.raises(InvalidArgument, match="no credit"):
        peer.send_data(ours, b"")
    events = deliver(peer, host)
    assert len(events) == sent
    step = -(-CREDIT_STEP_BYTES // (1000 + HEADER_BYTES))
    for _ in range(step - 1):
        host.consumed(theirs, bytes(1000))
    assert host.outgoing == []
    host.consumed(theirs, bytes(1000))
    assert deliver(host, peer) == [Credited(3)]
    assert ours.writable
    assert ours.credit == theirs.allowance


def test_whatever_was_sent_and_taken_a_sender_can_go_on() -> None:
    """No message is so large, and no step so coarse, that both would wait for the other."""
    for size in (0, 1, CREDIT_STEP_BYTES - HEADER_BYTES - 1, CREDIT_BYTES, MESSAGE_BYTES_MAX - 16):
        host, peer, theirs, ours = opened()
        for _ in range(300 if size < CREDIT_STEP_BYTES else 10):
            assert ours.writable
            peer.send_data(ours, bytes(size))
            for event in deliver(peer, host):
                assert isinstance(event, Data)
                host.consumed(theirs, event.payload)
            deliver(host, peer)


def test_empty_messages_use_up_credit_too() -> None:
    host, _, theirs, _ = opened()
    with pytest.raises(FrameError, match="credit for 0"):
        for _ in range(CREDIT_BYTES // HEADER_BYTES + 1):
            host.receive(pack(wire.DATA, 0, 3, 3))
    assert theirs.allowance == 0


def test_who_sends_beyond_its_credit_or_the_limit_is_refused() -> None:
    host, _, _, _ = opened()
    with pytest.raises(FrameError, match="in a stream with credit"):
        host.receive(pack(wire.DATA, 0, 3, 3, bytes(MESSAGE_BYTES_MAX - HEADER_BYTES + 1)))
    _, peer, _, ours = opened()
    with pytest.raises(InvalidArgument, match="limit in a stream"):
        peer.send_data(ours, bytes(MESSAGE_BYTES_MAX - HEADER_BYTES + 1))


def test_credit_without_end_is_refused() -> None:
    host, _, _, _ = opened()
    with pytest.raises(FrameError, match="credit beyond"):
        host.receive(pack(wire.CREDIT, 0, CREDIT_BYTES_MAX - CREDIT_BYTES + 1, 3))


def test_a_unary_call_has_no_stream() -> None:
    host, peer = joined()
    peer.call(b"/a/B", 0, b"")
    deliver(peer, host)
    for kind in (wire.DATA, wire.CREDIT):
        fresh, other = joined()
        other.call(b"/a/B", 0, b"")
        deliver(other, fresh)
        with pytest.raises(FrameError, match="opened none"):
            fresh.receive(pack(kind, 0, 3, 3))


def test_nothing_is_given_for_what_was_the_last() -> None:
    host, _, theirs, _ = opened(last=True)
    host.consumed(theirs, bytes(CREDIT_BYTES))
    assert host.outgoing == []


def test_nothing_is_said_in_a_stream_that_has_ended() -> None:
    host, peer, theirs, ours = opened()
    host.respond(3, b"")
    host.send_data(theirs, b"late")
    (event,) = deliver(host, peer)
    assert event == Response(3, 0, b"")
    peer.send_data(ours, b"late")
    assert peer.outgoing == []

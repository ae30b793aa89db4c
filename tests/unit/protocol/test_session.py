"""The session's table: what may come when, and what ends it."""

from __future__ import annotations

import pytest

from spear.errors import (
    AnswerTooLarge,
    FrameError,
    InvalidArgument,
    NotFound,
    QueueFull,
    Unauthenticated,
)
from spear.protocol import message as wire
from spear.protocol.message import Hello, Refusal, Welcome, pack
from spear.protocol.session import (
    CLOSED,
    FRAME_BYTES_MIN,
    HOST,
    NEW,
    OPEN,
    PEER,
    SILENT_INTERVALS_MAX,
    STEPS,
    Aborted,
    Call,
    Cancelled,
    Ended,
    Greeted,
    Request,
    Response,
    Session,
    Signalled,
    Welcomed,
)
from spear.protocol.status import CODES, error_of_code
from tests.sessions import deliver, joined

CALL_BODY = wire.pack_call(b"/a/B", 0, b"")


def session_in(role: str, state: str) -> Session:
    host, peer = joined()
    session = host if role == HOST else peer
    if state == NEW:
        session = Session(role)
    if state == CLOSED:
        session.close()
        session.outgoing.clear()
    return session


def refusal_in(session: Session) -> Refusal:
    """What it tells the other side at the end: an error frame, then an orderly close."""
    error, close = session.outgoing[-2:]
    assert close == b""
    assert wire.HEADER.unpack_from(error)[1:3] == (wire.ERROR, 0)
    assert wire.HEADER.unpack_from(error)[4] == 0
    return wire.greeting(Refusal, error)


@pytest.mark.parametrize("kind", wire.TYPES)
@pytest.mark.parametrize(("role", "state"), [key for key in STEPS if key[1] != CLOSED])
def test_what_the_table_does_not_allow_ends_the_session_and_says_why(
    role: str, state: str, kind: int
) -> None:
    session = session_in(role, state)
    if kind in STEPS[role, state]:
        return
    with pytest.raises(FrameError, match=wire.TYPES[kind]):
        session.receive(pack(kind, 0, 0, 0))
    assert session.state == CLOSED
    refusal = refusal_in(session)
    assert refusal.version == wire.VERSION
    assert wire.TYPES[kind] in refusal.message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\x02" + pack(wire.REQUEST, 0, 128, 1)[1:], "version 2 of the protocol, 1"),
        (b"\x00" + pack(wire.REQUEST, 0, 128, 1)[1:], "version 0"),
        (pack(10, 0, 0, 0), "type 10"),
        (pack(0, 0, 0, 0), "type 0"),
        (pack(wire.REQUEST, 1, 128, 1, CALL_BODY), "flags 0x1"),
        (pack(wire.HEARTBEAT, 0x8000, 0, 0), "flags 0x8000"),
        (b"x", "a body of 1 bytes"),
        (b"x" * 15, "a body of 15 bytes"),
        (pack(wire.REQUEST, 0, 128, 2, CALL_BODY), "request 2"),  # the host's parity
        (pack(wire.REQUEST, 0, 128, 0, CALL_BODY), "request 0"),
        (pack(wire.REQUEST, wire.NO_ANSWER, 128, 1, CALL_BODY), "no answer"),
        (pack(wire.REQUEST, 0, 128, 1, CALL_BODY[:-1]), "cut"),
        (pack(wire.RESPONSE, 0, 0, 2), "answer to request 2"),
        (pack(wire.DATA, 0, 1, 1), "request 1, which was never made"),
        (pack(wire.DATA, 0, 0, 0), "request 0, which was never made"),
        (pack(wire.CREDIT, 0, 10, 4), "request 4, which was never made"),
        (pack(wire.ERROR, 0, 3, 9), "request 9, which was never made"),
        (pack(wire.ERROR, 0, 3, 0, b"\xc1"), "refusal"),
    ],
)
def test_what_is_wrong_in_itself_ends_the_session(body: bytes, words: str) -> None:
    host, _ = joined()
    with pytest.raises(FrameError, match=words):
        host.receive(body)
    assert host.state == CLOSED
    assert words in refusal_in(host).message


def test_the_other_side_hears_why() -> None:
    host, peer = joined()
    with pytest.raises(FrameError):
        host.receive(b"\x07" * 16)
    (event,) = deliver(host, peer)
    assert isinstance(event, Ended)
    assert event.code == CODES["INVALID_ARGUMENT"]
    assert event.refusal is not None
    assert event.refusal.version == 1
    assert peer.state == CLOSED


def test_a_closed_session_hears_nothing_and_says_nothing() -> None:
    for role in (HOST, PEER):
        session = session_in(role, CLOSED)
        for kind in (*wire.TYPES, 77):
            assert session.receive(pack(kind, 0, 0, 0)) is None
        assert session.receive(b"") is None
        assert session.receive(b"x") is None
        session.close()
        session.refuse(NotFound("x"))
        assert session.outgoing == []


def test_a_greeting() -> None:
    host, peer = Session(HOST), Session(PEER)
    peer.hello(Hello(client="c", version="1", token="t"))
    assert deliver(peer, host) == [Greeted(Hello(client="c", version="1", token="t"))]
    assert host.state == NEW
    host.welcome(Welcome(window=5, heartbeat_ms=100))
    assert deliver(host, peer) == [Welcomed(Welcome(window=5, heartbeat_ms=100))]
    assert (host.state, peer.state) == (OPEN, OPEN)
    assert (host.window, peer.peer_window, host.heartbeat_ms, peer.heartbeat_ms) == (5, 5, 100, 100)


def test_a_second_hello_is_refused() -> None:
    host, peer = joined()
    peer.hello(Hello())
    with pytest.raises(FrameError, match="hello"):
        deliver(peer, host)


def test_a_refused_greeting_ends_both_sides() -> None:
    host, peer = Session(HOST), Session(PEER)
    peer.hello(Hello())
    deliver(peer, host)
    host.refuse(Unauthenticated("who are you"))
    (event,) = deliver(host, peer)
    assert event == Ended(
        CODES["UNAUTHENTICATED"], Refusal(message="who are you", reason="UNAUTHENTICATED")
    )
    assert (host.state, peer.state) == (CLOSED, CLOSED)


@pytest.mark.parametrize("welcome", [Welcome(window=0), Welcome(window=-1),
                                     Welcome(heartbeat_ms=-5)])  # fmt: skip
def test_a_welcome_that_allows_nothing_is_refused(welcome: Welcome) -> None:
    peer = Session(PEER)
    with pytest.raises(FrameError, match="a welcome with window"):
        peer.receive(wire.pack_map(wire.WELCOME, welcome))


def test_calls_both_ways_with_ids_of_their_own() -> None:
    host, peer = joined()
    assert [peer.call(b"/a/B", 5, b"p"), host.call(b"/c/D", 0, b"h")] == [3, 2]
    assert deliver(peer, host) == [Call(3, "/a/B", 5, b"p", None)]
    assert deliver(host, peer) == [Call(2, "/c/D", 0, b"h", None)]
    assert (host.asked, host.answering, peer.asked, peer.answering) == (1, 1, 1, 1)
    host.respond(3, b"to the peer")
    peer.respond_error(2, NotFound("no such thing"))
    assert deliver(host, peer) == [Response(3, 0, b"to the peer")]
    (answer,) = deliver(peer, host)
    assert isinstance(answer, Response)
    error = error_of_code(answer.status, answer.payload)
    assert (type(error), str(error)) == (NotFound, "no such thing")
    assert (host.asked, host.answering, peer.asked, peer.answering) == (0, 0, 0, 0)


def test_a_request_has_exactly_one_answer() -> None:
    host, peer = joined()
    request_id = peer.call(b"/a/B", 0, b"")
    deliver(peer, host)
    host.respond(request_id, b"1")
    host.respond(request_id, b"2")
    assert deliver(host, peer) == [Response(request_id, 0, b"1")]
    with pytest.raises(FrameError, match="not open"):
        peer.receive(pack(wire.RESPONSE, 0, 0, request_id))


def test_an_id_is_good_once() -> None:
    host, _ = joined()
    host.receive(pack(wire.REQUEST, 0, 128, 7, CALL_BODY))
    host.respond(7, b"")
    for again in (7, 5):
        session = host if again == 7 else joined()[0]
        if again == 5:
            session.receive(pack(wire.REQUEST, 0, 128, 7, CALL_BODY))
        with pytest.raises(FrameError, match="ids grow"):
            session.receive(pack(wire.REQUEST, 0, 128, again, CALL_BODY))


def test_a_cancel_reaches_what_is_open_and_nothing_else() -> None:
    host, peer = joined()
    request_id = peer.call(b"/a/B", 0, b"")
    deliver(peer, host)
    peer.cancel(request_id)
    assert deliver(peer, host) == [Cancelled(request_id)]
    host.respond(request_id, b"too late to stop")
    peer.cancel(request_id)  # they cross
    assert deliver(peer, host) == []
    assert deliver(host, peer) == [Response(request_id, 0, b"too late to stop")]
    peer.cancel(request_id)
    assert peer.outgoing == []
    host.receive(wire.pack_cancel(999))  # was never made: no matter


def test_an_error_frame_ends_a_request_on_both_sides() -> None:
    host, peer = joined()
    request_id = peer.call(b"/a/B", 0, b"")
    deliver(peer, host)
    assert peer.receive(pack(wire.ERROR, 0, 5, request_id, b"why")) == Aborted(
        request_id, 5, b"why"
    )
    assert host.receive(pack(wire.ERROR, 0, 1, request_id)) == Aborted(request_id, 1, b"")
    assert (peer.asked, host.answering) == (0, 0)
    host.respond(request_id, b"")
    assert host.outgoing == []
    assert host.receive(pack(wire.ERROR, 0, 1, request_id)) is None  # late


def test_other_operations_come_as_they_are() -> None:
    host, _ = joined()
    assert host.receive(pack(wire.REQUEST, 0, 17, 3, b"\x80")) == Request(3, 17, b"\x80")
    assert host.answering == 1


def test_signals_go_to_peers_only() -> None:
    host, peer = joined()
    host.signal(2)
    assert deliver(host, peer) == [Signalled(2)]
    peer.signal(2)
    with pytest.raises(FrameError, match="signal"):
        deliver(peer, host)


def test_a_close_is_answered_by_a_close() -> None:
    host, peer = joined()
    peer.close()
    assert deliver(peer, host) == [Ended()]
    assert host.outgoing == [b""]
    assert deliver(host, peer) == []
    host.respond(3, b"")
    assert host.outgoing == []


def test_a_silent_peer_is_dead_after_its_intervals() -> None:
    host, peer = joined()
    assert all(host.tick() for _ in range(SILENT_INTERVALS_MAX))
    deliver(host, peer)
    assert not host.tick()
    peer.tick()
    deliver(peer, host)  # its heartbeat
    assert host.tick()


def test_what_no_frame_holds_is_refused_and_asked_for_otherwise() -> None:
    peer = Session(PEER, frame_bytes_max=FRAME_BYTES_MIN)
    peer.receive(wire.pack_map(wire.WELCOME, Welcome()))
    room = FRAME_BYTES_MIN - 16 - 2 - len("/a/B") - 4
    with pytest.raises(InvalidArgument, match="as a stream"):
        peer.call(b"/a/B", 0, bytes(room + 1))
    with pytest.raises(InvalidArgument, match="as a stream"):
        peer.open_stream(b"/a/B", 0, bytes(room + 1), last=True)
    assert (peer.asked, peer.outgoing) == (0, [])
    peer.call(b"/a/B", 0, bytes(room))
    assert len(peer.outgoing[0]) == FRAME_BYTES_MIN


def test_an_answer_too_large_is_an_error_in_its_place() -> None:
    host = Session(HOST, frame_bytes_max=FRAME_BYTES_MIN)
    host.receive(wire.pack_map(wire.HELLO, Hello()))
    host.welcome(Welcome())
    host.outgoing.clear()
    for request_id, size in ((1, FRAME_BYTES_MIN - 16), (3, FRAME_BYTES_MIN - 15)):
        host.receive(pack(wire.REQUEST, 0, 128, request_id, CALL_BODY))
        host.respond(request_id, bytes(size))
    fits, error = host.outgoing
    assert len(fits) == FRAME_BYTES_MIN
    with pytest.raises(AnswerTooLarge, match="65521 bytes, the limit of one message is 65520"):
        raise error_of_code(wire.HEADER.unpack_from(error)[3], error[16:])


def test_a_limit_that_holds_no_error_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="need 65536"):
        Session(HOST, frame_bytes_max=FRAME_BYTES_MIN - 1)


def test_an_error_with_when_to_come_back_crosses_whole() -> None:
    host, peer = joined()
    request_id = peer.call(b"/a/B", 0, b"")
    deliver(peer, host)
    host.respond_error(request_id, QueueFull("full", 250))
    (answer,) = deliver(host, peer)
    assert isinstance(answer, Response)
    error = error_of_code(answer.status, answer.payload)
    assert isinstance(error, QueueFull)
    assert error.retry_after_ms == 250

"""Two sessions, joined by frames in any cut, against what was said at the other end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples

from spear._core.framing import FrameDecoder, encode_many
from spear.errors import FrameError
from spear.protocol.session import Call, Cancelled, Data, Response, Session
from tests.fuzz.fuzz_protocol import fuzz
from tests.sessions import joined

LIMIT = 1 << 16
STEP = st.tuples(
    st.sampled_from(["call", "stream", "data", "answer", "cancel"]),
    st.booleans(),  # whether the host does it
    st.binary(max_size=20),
    st.integers(0, 10),  # which of what is open
)


class End:
    """One side with its decoder; keeps what it asked, what it was asked, and what it heard."""

    def __init__(self, session: Session) -> None:
        self.session, self.decoder = session, FrameDecoder(LIMIT)
        self.said: list[object] = []
        self.heard: list[object] = []
        self.asked: list[tuple[int, object]] = []
        self.open: list[tuple[int, object]] = []

    def act(self, what: str, payload: bytes, which: int) -> None:
        session = self.session
        if what == "call":
            request_id = session.call(b"/a/B", 7, payload)
            self.said.append(("call", request_id, payload, False))
            self.asked.append((request_id, None))
        elif what == "stream":
            stream = session.open_stream(b"/a/B", 7, payload, last=False)
            self.said.append(("call", stream.request_id, payload, True))
            self.asked.append((stream.request_id, stream))
        elif what == "cancel" and self.asked:
            session.cancel(self.asked[which % len(self.asked)][0])
        elif what == "answer" and self.open:
            request_id, _ = self.open.pop(which % len(self.open))
            session.respond(request_id, payload)
            self.said.append(("answer", request_id, payload))
        elif what == "data":
            streams = [s for _, s in self.open + self.asked if s is not None]
            if streams:
                stream = streams[which % len(streams)]
                before = len(session.outgoing)
                session.send_data(stream, payload)
                if len(session.outgoing) > before:
                    self.said.append(("data", stream.request_id, payload))

    def take(self, chunk: bytes) -> None:
        for frame in self.decoder.receive(chunk):
            event = self.session.receive(frame)
            if isinstance(event, Call):
                self.open.append((event.request_id, event.stream))
                self.heard.append(
                    ("call", event.request_id, event.payload, event.stream is not None)
                )
            elif isinstance(event, Response):
                self.asked = [a for a in self.asked if a[0] != event.request_id]
                self.heard.append(("answer", event.request_id, event.payload))
            elif isinstance(event, Data):
                self.heard.append(("data", event.request_id, event.payload))
            else:
                assert event is None or isinstance(event, Cancelled)


def wire_between(source: End, target: End, sizes: list[int]) -> None:
    """All that `source` has to say, cut at these sizes in turn."""
    data = encode_many(source.session.outgoing)
    source.session.outgoing.clear()
    for size in sizes:
        if not data:
            return
        target.take(data[:size])
        data = data[size:]
    target.take(data)


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(STEP, max_size=30), st.lists(st.integers(1, 60), max_size=40), st.integers(1, 5))
def test_what_one_side_says_the_other_hears_in_order(steps, sizes, every):
    host, peer = map(End, joined())
    for number, (what, at_host, payload, which) in enumerate(steps):
        (host if at_host else peer).act(what, payload, which)
        if number % every == 0:
            wire_between(host, peer, sizes)
            wire_between(peer, host, sizes)
    for _ in range(2):
        wire_between(host, peer, sizes)
        wire_between(peer, host, sizes)
    for one, other in ((host, peer), (peer, host)):
        # Data that crossed the answer of its stream is late, and skipped.
        assert [s for s in one.said if s[0] != "data"] == [h for h in other.heard if h[0] != "data"]
        sent = [s for s in one.said if s[0] == "data"]
        assert all(h in sent for h in other.heard if h[0] == "data")
    assert host.session.asked == peer.session.answering == len(peer.open)
    assert peer.session.asked == host.session.answering == len(host.open)


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(STEP, max_size=10), st.binary(min_size=1, max_size=60))
def test_garbage_after_a_conversation_ends_it_and_nothing_else(steps, garbage):
    host, peer = map(End, joined())
    for what, _, payload, which in steps:
        peer.act(what, payload, which)
    heard_alone = len(peer.said)
    data = encode_many(peer.session.outgoing) + garbage
    try:
        for at in range(len(data)):
            host.take(data[at : at + 1])
    except FrameError:
        assert host.decoder.failed or host.session.state == "closed"
    assert host.heard[:heard_alone] == peer.said


def test_seeded_streams():
    fuzz(runs=200, seed=1)

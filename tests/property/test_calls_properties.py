"""Calls at both ends of a connection against sessions that go by their steps alone; the bytes of a
call against the struct module."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples

from spear.errors import InvalidArgument
from spear.protocol import message as wire
from spear.protocol.session import FRAME_BYTES_MIN, PEER, Session
from tests.fuzz.fuzz_calls import fuzz
from tests.sessions import joined

MESSAGES = st.binary(max_size=200) | st.integers(0, FRAME_BYTES_MIN).map(bytes)


def test_seeded_calls():
    fuzz(runs=300, seed=1)


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=1100), st.integers(-1, 1 << 34), MESSAGES)
def test_a_call_has_the_bytes_of_its_layout(path, deadline_ms, payload):
    session = Session(PEER, frame_bytes_max=FRAME_BYTES_MIN)
    try:
        request = wire.pack_call(path, deadline_ms, payload)
    except InvalidArgument as error:
        with pytest.raises(InvalidArgument, match=str(error)):
            session.call(path, deadline_ms, payload)
        return
    whole = wire.pack(wire.REQUEST, 0, wire.CALL, 3, request)
    if len(whole) > FRAME_BYTES_MIN:
        with pytest.raises(InvalidArgument, match="send it as a stream"):
            session.call(path, deadline_ms, payload)
        assert session.outgoing == []
        assert session.asked == 0
    else:
        assert session.call(path, deadline_ms, payload) == 3
        assert session.outgoing == [whole]
        assert session.asked == 1


@settings(max_examples=examples(100), deadline=None)
@given(MESSAGES, st.sampled_from([0, 5, 16, (1 << 32) - 1]))
def test_an_answer_has_the_bytes_of_its_layout(payload, status):
    host, _ = joined()
    host.respond(3, payload, status)
    assert host.outgoing == [], "nothing was asked"
    host.receive(wire.pack(wire.REQUEST, 0, wire.CALL, 3, wire.pack_call(b"/a/B", 0, b"")))
    host.respond(3, payload, status)
    assert host.outgoing == [wire.pack(wire.RESPONSE, 0, status, 3, payload)]
    host.respond(3, payload, status)
    assert len(host.outgoing) == 1, "it is answered once"
    host.close()

"""Two sessions joined without a transport, for tests."""

from __future__ import annotations

from spear.protocol.message import Hello, Welcome
from spear.protocol.session import HOST, PEER, Event, Greeted, Session


def deliver(source: Session, target: Session) -> list[Event]:
    """All that `source` has to say, said to `target`."""
    bodies, source.outgoing = source.outgoing, []
    return [event for event in map(target.receive, bodies) if event is not None]


def joined(window: int = 64) -> tuple[Session, Session]:
    """A host and a peer after their greeting."""
    host, peer = Session(HOST, window=window), Session(PEER)
    peer.hello(Hello(client="test"))
    (event,) = deliver(peer, host)
    assert isinstance(event, Greeted)
    host.welcome(Welcome(window=window))
    deliver(host, peer)
    return host, peer

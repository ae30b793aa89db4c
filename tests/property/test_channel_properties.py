"""A channel does what the plain version does, whatever is done with it in whatever order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples

from spear._core.endpoints import Channel
from spear.errors import ChannelClosed, InvalidArgument, QueueFull
from tests.reference import channel as reference

ERRORS = {reference.Full: QueueFull, reference.Closed: ChannelClosed,
          reference.NeverFits: InvalidArgument}  # fmt: skip
PUT = st.tuples(st.just("put"), st.binary(max_size=12))
OTHERS = st.tuples(st.sampled_from(["get", "get", "get", "close", "fail", "drop"]))


def done(call, *args):
    """What a call gives, or the class of what it raises."""
    try:
        return call(*args)
    except (*ERRORS, QueueFull, ChannelClosed, InvalidArgument) as error:
        return ERRORS.get(type(error), type(error))


@settings(max_examples=examples(400), deadline=None)
@given(
    items_max=st.integers(1, 5), bytes_max=st.integers(1, 20), drop_oldest=st.booleans(),
    steps=st.lists(st.one_of(PUT, PUT, PUT, OTHERS), max_size=40),
)  # fmt: skip
def test_a_channel_is_what_the_plain_one_is(items_max, bytes_max, drop_oldest, steps):
    ours = Channel(items_max=items_max, bytes_max=bytes_max, drop_oldest=drop_oldest)
    plain = reference.Channel(items_max, bytes_max, drop_oldest)
    for name, *args in steps:
        call = {"put": ours.put_nowait, "get": ours.get_nowait}.get(name) or getattr(ours, name)
        assert done(call, *args) == done(getattr(plain, name), *args), name
        assert (len(ours), ours.size_bytes, ours.dropped) == (
            len(plain.items), plain.size_bytes, plain.dropped,
        )  # fmt: skip
        assert (ours.closed, ours.failed) == (plain.closed, plain.failed)

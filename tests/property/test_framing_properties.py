"""Frames against the plain-Python reference, for any payloads, cuts and doors."""

from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples

from spear._core.framing import FrameDecoder, encode, encode_many, encode_parts
from spear.errors import FrameError
from tests.fuzz.fuzz_framing import fuzz
from tests.reference import framing as reference

LIMIT = 300
payloads = st.lists(st.binary(max_size=LIMIT), max_size=30)
cuts = st.lists(st.integers(0, 400), max_size=60)
noise = st.one_of(
    st.binary(max_size=200),
    st.integers(0, 2**64 - 1).map(lambda n: n.to_bytes(8, "little") + b"rest"),
)


def parts_of(data: bytes, sizes: list[int]) -> list[bytes]:
    parts = []
    for size in sizes:
        parts.append(data[:size])
        data = data[size:]
    return [*parts, data]


def through_buffer(decoder: FrameDecoder, data: bytes) -> list[bytes]:
    decoder.get_buffer(-1)[: len(data)] = data
    return decoder.buffer_updated(len(data))


def outcome(step, data: bytes) -> list[bytes] | None:
    try:
        return step(data)
    except FrameError:
        return None


@given(payloads)
def test_encoding_is_the_references(items):
    assert encode_many(items) == reference.encode_many(items)
    assert b"".join(encode_parts(items)) == reference.encode_many(items)
    assert b"".join(encode(item) for item in items) == reference.encode_many(items)


@given(payloads, cuts)
def test_any_cut_gives_the_same_frames(items, sizes):
    decoder = FrameDecoder(LIMIT)
    frames = [f for part in parts_of(encode_many(items), sizes) for f in decoder.receive(part)]
    assert frames == items
    assert decoder.buffered == 0


@settings(max_examples=examples(300))
@given(payloads, noise, cuts, st.lists(st.booleans(), min_size=1))
def test_every_step_gives_what_the_reference_gives(items, tail, sizes, doors):
    ours, theirs = FrameDecoder(LIMIT), reference.FrameDecoder(LIMIT)
    for index, part in enumerate(parts_of(encode_many(items) + tail, sizes)):
        by_buffer = doors[index % len(doors)]
        step = (lambda data: through_buffer(ours, data)) if by_buffer else ours.receive
        assert outcome(step, part) == outcome(theirs.receive, part)
        assert ours.failed == theirs.failed
        assert ours.buffered == theirs.buffered


def test_the_fuzzer_finds_nothing_in_its_short_form():
    assert fuzz(runs=300, seed=1) > 0

import array
import asyncio
import contextlib
import gc
import pickle
import socket
import struct

import pytest

from spear._core.framing import FRAME_BYTES_MAX, FrameDecoder, encode, encode_many, encode_parts
from spear.errors import FrameError, InvalidArgument

LIMIT = 1 << 20
STREAM = [b"", b"a", b"hello", b"", bytes(range(256)) * 3, b"z" * 70_000]


def prefix(length: int) -> bytes:
    return struct.pack("<Q", length)


def fill(decoder: FrameDecoder, data: bytes) -> list[bytes]:
    """Bytes through the buffer door, as a socket would bring them."""
    frames = []
    while data:
        buffer = decoder.get_buffer(-1)
        part = data[: len(buffer)]
        buffer[: len(part)] = part
        data = data[len(part) :]
        frames += decoder.buffer_updated(len(part))
    return frames


def test_a_frame_is_a_little_endian_u64_and_the_payload():
    assert encode(b"abc") == b"\x03\0\0\0\0\0\0\0abc"
    assert encode(b"") == bytes(8)
    assert encode_many([]) == b""
    assert encode_many([b"abc", b""]) == encode(b"abc") + encode(b"")


@pytest.mark.parametrize(
    "payload",
    [
        bytearray(b"abcd"),
        memoryview(b"abcd"),
        memoryview(b"a-b-c-d-")[::2],
        array.array("I", [0x64636261]),
    ],
)
def test_any_bytes_like_payload_is_encoded(payload):
    assert encode(payload) == encode(b"abcd")
    assert encode_many([b"x", payload]) == encode(b"x") + encode(b"abcd")
    assert encode_many(iter([payload])) == encode(b"abcd")
    assert encode_many((payload, payload)) == encode(b"abcd") * 2


def test_parts_are_the_frames_and_large_payloads_are_not_copied():
    large, view = b"L" * 16_384, memoryview(bytearray(b"v" * 20_000))
    parts = encode_parts([b"a", b"b", large, large, b"", view, b"end"])
    assert b"".join(parts) == encode_many([b"a", b"b", large, large, b"", view, b"end"])
    assert [len(part) for part in parts] == [26, 16_384, 8, 16_384, 16, 20_000, 11]
    assert parts[1] is large
    assert parts[5] == view
    assert encode_parts([]) == []
    with pytest.raises(InvalidArgument, match="a payload has 16384 bytes"):
        encode_parts([large], 16_383)
    with pytest.raises(InvalidArgument, match="a payload has 2 bytes"):
        encode_parts([b"ab"], 1)


def test_encode_many_leaves_the_given_list_alone():
    payloads = [bytearray(b"a"), b"b"]
    encode_many(payloads)
    assert payloads == [bytearray(b"a"), b"b"]
    payloads[0] += b"more"  # no view is left behind


def test_encode_refuses_what_it_cannot_send():
    with pytest.raises(InvalidArgument, match="a payload has 4 bytes, the limit of a frame is 3"):
        encode(b"abcd", 3)
    with pytest.raises(InvalidArgument, match="a payload has 4 bytes"):
        encode_many([b"a", b"abcd"], frame_bytes_max=3)
    with pytest.raises(TypeError):
        encode("text")
    with pytest.raises(TypeError):
        encode_many([b"a", 5])
    with pytest.raises(TypeError):
        encode_many(5)
    assert FRAME_BYTES_MAX == 64 << 20


def test_a_stream_is_decoded_whole_and_with_trailing_bytes():
    decoder = FrameDecoder(LIMIT)
    assert decoder.receive(encode_many(STREAM) + prefix(9) + b"par") == STREAM
    assert decoder.buffered == 11
    assert decoder.receive(b"ts are") == [b"parts are"]
    assert decoder.buffered == 0


def test_a_stream_is_decoded_byte_by_byte():
    decoder = FrameDecoder(LIMIT)
    data = encode_many(STREAM)
    assert [f for at in range(len(data)) for f in decoder.receive(data[at : at + 1])] == STREAM


def test_a_stream_cut_in_two_anywhere_gives_the_same_frames():
    frames = [b"", b"abc", b"d" * 20, b""]
    data = encode_many(frames)
    for cut in range(len(data) + 1):
        decoder = FrameDecoder(20)
        assert decoder.receive(data[:cut]) + decoder.receive(data[cut:]) == frames
        decoder = FrameDecoder(20)
        assert fill(decoder, data[:cut]) + decoder.receive(data[cut:]) == frames


@pytest.mark.parametrize("wrap", [bytearray, memoryview, lambda b: array.array("B", b)])
def test_any_bytes_like_chunk_is_received_and_not_kept(wrap):
    decoder = FrameDecoder(LIMIT)
    chunk = wrap(bytearray(encode_many([b"one", b"two"])[:-1]))
    assert decoder.receive(chunk) == [b"one"]
    memoryview(chunk)[:] = bytes(len(chunk))
    assert decoder.receive(b"o") == [b"two"]


def test_an_empty_chunk_changes_nothing():
    decoder = FrameDecoder(LIMIT)
    assert decoder.receive(b"") == []
    assert decoder.receive(prefix(3)) == []
    assert decoder.receive(b"") == []
    assert decoder.receive(b"abc") == [b"abc"]


def test_many_empty_frames_in_one_chunk():
    assert FrameDecoder(0).receive(bytes(8 * 100_000)) == [b""] * 100_000


def test_a_payload_of_exactly_the_limit_is_legal():
    assert FrameDecoder(5).receive(encode(b"12345")) == [b"12345"]


@pytest.mark.parametrize("length", [6, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("cut", [0, 1, 7, 8])
def test_an_announcement_beyond_the_limit_raises_for_ever(length, cut):
    decoder = FrameDecoder(5)
    data = prefix(length) + b"x"
    if cut < 8:
        assert decoder.receive(data[:cut]) == []
    with pytest.raises(FrameError, match=f"announced a frame of {length} bytes, the limit is 5"):
        decoder.receive(data[cut % 8 :])
    assert decoder.failed
    assert decoder.buffered == 0
    for call in (
        lambda: decoder.receive(b""),
        decoder.get_buffer,
        lambda: decoder.buffer_updated(0),
        lambda: decoder.receive(encode(b"ok")),
    ):
        with pytest.raises(FrameError, match=f"{length} bytes"):
            call()


@pytest.mark.parametrize("through", [FrameDecoder.receive, fill])
def test_frames_before_a_refused_one_are_returned_first(through):
    decoder = FrameDecoder(5)
    assert through(decoder, encode_many([b"a", b"b"]) + prefix(6) + b"123456") == [b"a", b"b"]
    assert decoder.failed
    with pytest.raises(FrameError, match="6 bytes"):
        through(decoder, b"x")


def test_a_frame_completed_before_a_refused_one_is_returned_first():
    decoder = FrameDecoder(5)
    assert decoder.receive(prefix(3) + b"ab") == []
    assert decoder.receive(b"c" + prefix(6)) == [b"abc"]
    with pytest.raises(FrameError):
        decoder.receive(b"")


def test_a_large_frame_is_received_in_its_own_memory():
    decoder = FrameDecoder(LIMIT)
    assert fill(decoder, prefix(LIMIT)) == []
    buffer = decoder.get_buffer(-1)
    assert len(buffer) == LIMIT
    assert not buffer.readonly
    buffer[:] = b"w" * LIMIT
    assert decoder.buffer_updated(1) == []
    assert decoder.buffered == 9
    buffer = decoder.get_buffer(1)
    assert len(buffer) == LIMIT - 1
    (frame,) = decoder.buffer_updated(LIMIT - 1)
    assert frame == b"w" * LIMIT


def test_the_end_of_a_large_frame_comes_together_with_what_follows():
    decoder = FrameDecoder(LIMIT)
    decoder.receive(prefix(LIMIT) + bytes(LIMIT - 10))
    assert len(decoder.get_buffer(-1)) > 10
    assert fill(decoder, bytes(10) + encode(b"next")) == [bytes(LIMIT), b"next"]


def test_a_view_of_a_finished_frame_is_dead():
    decoder = FrameDecoder(LIMIT)
    decoder.receive(prefix(LIMIT))
    view = decoder.get_buffer(-1)
    view[:] = bytes(LIMIT)
    (frame,) = decoder.buffer_updated(LIMIT)
    with pytest.raises(ValueError, match="released"):
        view[0] = 1
    assert frame == bytes(LIMIT)


def test_a_view_outlives_its_decoder():
    decoder = FrameDecoder(LIMIT)
    decoder.receive(prefix(LIMIT))
    tail, staging = decoder.get_buffer(-1), FrameDecoder(LIMIT).get_buffer(-1)
    del decoder
    gc.collect()
    tail[-1] = staging[-1] = 1


def test_receive_is_refused_while_a_socket_holds_the_lent_memory():
    decoder = FrameDecoder(LIMIT)
    decoder.receive(prefix(LIMIT))
    view = decoder.get_buffer(-1)
    with contextlib.closing(Holder(view)), pytest.raises(BufferError):
        decoder.receive(b"x")
    assert decoder.buffer_updated(1) == []
    assert decoder.buffered == 9
    assert decoder.receive(b"x") == []
    assert decoder.buffered == 10


def test_a_frame_may_finish_while_the_loop_still_holds_its_memory():
    decoder = FrameDecoder(LIMIT)
    decoder.receive(prefix(LIMIT))
    view = decoder.get_buffer(-1)
    view[:] = b"w" * LIMIT
    with contextlib.closing(Holder(view)):  # as uvloop does
        assert decoder.buffer_updated(LIMIT) == [b"w" * LIMIT]


class Holder:
    """Holds memory by address, as a loop does during a read."""

    def __init__(self, view: memoryview) -> None:
        self.buffer = pickle.PickleBuffer(view)

    def close(self) -> None:
        self.buffer.release()


def test_receive_ends_a_loan():
    decoder = FrameDecoder(LIMIT)
    decoder.get_buffer(-1)
    assert decoder.receive(encode(b"a")) == [b"a"]
    with pytest.raises(RuntimeError, match="no buffer is lent"):
        decoder.buffer_updated(1)


def test_a_buffer_is_reported_once_and_within_its_size():
    decoder = FrameDecoder(LIMIT)
    with pytest.raises(RuntimeError, match="no buffer is lent"):
        decoder.buffer_updated(0)
    size = len(decoder.get_buffer(-1))
    for wrong in (-1, size + 1):
        with pytest.raises(InvalidArgument, match=f"{wrong} bytes reported"):
            decoder.buffer_updated(wrong)
    assert decoder.buffer_updated(0) == []
    with pytest.raises(RuntimeError, match="no buffer is lent"):
        decoder.buffer_updated(0)


def test_asking_for_a_buffer_again_is_harmless():
    decoder = FrameDecoder(LIMIT)
    decoder.get_buffer(-1)
    decoder.get_buffer(-1)[:9] = encode(b"a")
    assert decoder.buffer_updated(9) == [b"a"]
    decoder.receive(prefix(LIMIT))
    decoder.get_buffer(-1)
    assert len(decoder.get_buffer(-1)) == LIMIT


def test_an_announcement_alone_commits_no_memory():
    decoders = [FrameDecoder(FRAME_BYTES_MAX) for _ in range(64)]
    before = resident_bytes()
    for decoder in decoders:
        assert decoder.receive(prefix(FRAME_BYTES_MAX) + b"x") == []
    assert resident_bytes() - before < 64 * (1 << 20)  # 4 GiB were announced


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def test_no_memory_for_an_announced_frame_ends_the_stream():
    decoder = FrameDecoder(2**62)
    with pytest.raises(MemoryError):
        decoder.receive(prefix(2**62))
    assert decoder.failed
    with pytest.raises(FrameError, match="no memory"):
        decoder.receive(b"")


@pytest.mark.parametrize("wrong", [-1, 2**63, 2**64])
def test_a_limit_out_of_range_is_refused(wrong):
    with pytest.raises(InvalidArgument, match="frame_bytes_max is"):
        FrameDecoder(wrong)


@pytest.mark.parametrize("wrong", [None, 1.0, "5", True])
def test_a_limit_of_the_wrong_type_is_refused(wrong):
    with pytest.raises(TypeError, match="frame_bytes_max must be an int"):
        FrameDecoder(wrong)


@pytest.mark.parametrize("wrong", ["text", 5, None, [b"a"]])
def test_a_chunk_of_the_wrong_type_changes_nothing(wrong):
    decoder = FrameDecoder(LIMIT)
    decoder.receive(prefix(1))
    with pytest.raises(TypeError, match="bytes-like"):
        decoder.receive(wrong)
    with pytest.raises(BufferError):
        decoder.receive(memoryview(b"abcd")[::2])
    assert decoder.receive(b"a") == [b"a"]


def test_a_finalizer_that_calls_the_decoder_harms_nothing():
    decoder = FrameDecoder(LIMIT)
    seen = []

    class Meddler:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            try:
                seen.append(decoder.receive(b""))
            except RuntimeError as error:
                seen.append(error)

    data = encode_many([b"a", b"bc"] * 20)
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(200):
            Meddler()
            assert decoder.receive(data) == [b"a", b"bc"] * 20
    finally:
        gc.set_threshold(*threshold)
    assert all(item == [] or "in use" in str(item) for item in seen)


class Collector(asyncio.BufferedProtocol):
    def __init__(self) -> None:
        decoder = FrameDecoder(LIMIT)
        self.get_buffer = decoder.get_buffer
        self.buffer_updated = lambda size: self.frames.extend(decoder.buffer_updated(size))
        self.frames: list[bytes] = []
        self.closed = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(exc)


async def through_a_socket() -> list[bytes]:
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    transport, protocol = await loop.create_connection(Collector, sock=near)
    _, writer = await asyncio.open_connection(sock=far)
    writer.write(encode_many([*STREAM, b"L" * LIMIT, b"end"]))
    writer.close()
    await writer.wait_closed()
    assert await protocol.closed is None
    transport.close()
    return protocol.frames


@pytest.mark.parametrize("loop_name", ["asyncio", "uvloop"])
def test_it_fits_the_buffered_protocol_of_both_loops(loop_name):
    module = pytest.importorskip(loop_name)
    with asyncio.Runner(loop_factory=module.new_event_loop) as runner:
        assert runner.run(through_a_socket()) == [*STREAM, b"L" * LIMIT, b"end"]

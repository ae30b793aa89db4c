"""Frames read from sockets and sent to them by descriptor."""

import socket
import threading

import pytest

from spear._core.framing import FrameDecoder, encode, encode_many
from spear._core.socketframes import SMALL_BYTES, read_frames, send_frame
from spear.errors import FrameError, InvalidArgument

LIMIT = 1 << 22


@pytest.fixture
def pair():
    near, far = socket.socketpair()
    near.setblocking(False)
    yield near, far
    near.close()
    far.close()


def test_a_read_gives_the_frames_that_it_completes(pair):
    near, far = pair
    decoder = FrameDecoder(LIMIT)
    whole = encode_many([b"one", b"", b"three"])
    far.sendall(whole[:-2])
    assert read_frames(decoder, near.fileno()) == [b"one", b""]
    assert decoder.buffered == len(encode(b"three")) - 2
    far.sendall(whole[-2:])
    assert read_frames(decoder, near.fileno()) == [b"three"]


def test_nothing_there_and_the_end_differ(pair):
    near, far = pair
    decoder = FrameDecoder(LIMIT)
    assert read_frames(decoder, near.fileno()) == []
    far.close()
    assert read_frames(decoder, near.fileno()) is None


def test_a_large_frame_is_received_in_place_however_it_is_cut(pair):
    near, far = pair
    decoder = FrameDecoder(LIMIT)
    payload = bytes(range(256)) * (3 << 12)
    sender = threading.Thread(target=far.sendall, args=(encode(payload) + encode(b"after"),))
    sender.start()
    found: list[bytes] = []
    while len(found) < 2:
        found += read_frames(decoder, near.fileno()) or []
    sender.join()
    assert found == [payload, b"after"]


def test_reads_and_lent_buffers_may_be_mixed(pair):
    near, far = pair
    decoder = FrameDecoder(LIMIT)
    far.sendall(encode(b"abcdef"))
    near.setblocking(True)
    size = near.recv_into(decoder.get_buffer()[:11])
    assert decoder.buffer_updated(size) == []
    decoder.get_buffer()
    assert read_frames(decoder, near.fileno()) == [b"abcdef"]
    with pytest.raises(RuntimeError, match="no buffer is lent"):
        decoder.buffer_updated(1)


def test_a_frame_beyond_the_limit_is_refused_and_nothing_read_after_it(pair):
    near, far = pair
    decoder = FrameDecoder(3)
    far.sendall(encode(b"abc") + encode(b"abcd"))
    assert read_frames(decoder, near.fileno()) == [b"abc"]
    assert decoder.failed
    with pytest.raises(FrameError, match="4 bytes"):
        read_frames(decoder, near.fileno())


def test_errors_of_the_system_are_raised(pair):
    near, far = pair
    with pytest.raises(OSError, match="descriptor"):
        read_frames(FrameDecoder(LIMIT), -1)
    with pytest.raises(OSError, match="descriptor"):
        send_frame(-1, b"")
    far.close()
    with pytest.raises(BrokenPipeError):
        send_frame(near.fileno(), b"nobody reads this")


@pytest.mark.parametrize("size", [0, 1, SMALL_BYTES])
def test_what_is_sent_is_the_frame(pair, size):
    near, far = pair
    payload = bytes(i % 251 for i in range(size))
    assert send_frame(near.fileno(), payload) == 0
    near.shutdown(socket.SHUT_WR)
    received = b"".join(iter(lambda: far.recv(1 << 16), b""))
    assert received == encode(payload)


def test_only_small_payloads_are_sent(pair):
    with pytest.raises(InvalidArgument, match="limit"):
        send_frame(pair[0].fileno(), bytes(SMALL_BYTES + 1))


def test_what_the_system_does_not_take_is_told(pair):
    near, far = pair
    payload = b"x" * SMALL_BYTES
    whole = len(encode(payload))
    sent, left = 0, 0
    while not left:
        left = send_frame(near.fileno(), payload)
        sent += whole - left
    assert 0 < left <= whole
    near.close()
    received = b"".join(iter(lambda: far.recv(1 << 16), b""))
    assert len(received) == sent
    assert (encode(payload) * (sent // whole + 1)).startswith(received)

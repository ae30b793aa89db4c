"""Seeded random streams against the decoder: frames, cuts, damage and misuse in any order.

    python tests/fuzz/fuzz_framing.py --runs 10000 --seed 1

Rule: a run depends on its seed alone. A failing run prints the seed that repeats it.
"""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]

from spear._core.framing import FrameDecoder, encode_many  # noqa: E402
from spear.errors import FrameError, InvalidArgument  # noqa: E402
from tests.fuzz import seeded  # noqa: E402
from tests.reference import framing as reference  # noqa: E402

LIMITS = (0, 1, 7, 64, 5000, 700_000)  # the last is beyond the memory that a socket fills first
EDGES = (0, 1, 7, 8, 9, 63, 64, 65, 4096, 262_143, 262_144, 262_145, 600_000)


def stream(rng: random.Random, limit: int) -> bytes:
    """A legal stream, then perhaps damage."""
    sizes = [
        min(limit, rng.choice(EDGES) if rng.random() < 0.2 else rng.randrange(100))
        for _ in range(rng.randrange(12))
    ]
    data = bytearray(encode_many([rng.randbytes(size) for size in sizes]))
    damage = rng.randrange(5)
    if damage == 0 and data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif damage == 1:
        data += struct.pack("<Q", rng.choice((limit + 1, 2**32, 2**63, 2**64 - 1)))
        data += rng.randbytes(rng.randrange(30))
    elif damage == 2:
        data = data[: rng.randrange(len(data) + 1)]
    return bytes(data)


def through_buffer(rng: random.Random, decoder: FrameDecoder, data: bytes) -> int:
    """Lend, fill as far as it fits, say so; how many bytes went."""
    view = decoder.get_buffer(rng.choice((-1, 0, 1, 65_536)))
    size = min(len(view), len(data))
    view[:size] = data[:size]
    return size


def misuse(rng: random.Random, decoder: FrameDecoder) -> None:
    """Calls that must be refused and change nothing."""
    calls = (
        (InvalidArgument, lambda: (decoder.get_buffer(), decoder.buffer_updated(1 << 40))),
        (InvalidArgument, lambda: (decoder.get_buffer(), decoder.buffer_updated(-1))),
        (TypeError, lambda: decoder.receive("text")),
        (RuntimeError, lambda: (decoder.receive(b""), decoder.buffer_updated(1))),
    )
    error, call = rng.choice(calls)
    try:
        call()
    except error:
        return
    except FrameError:
        assert decoder.failed
        return
    raise AssertionError(f"{error.__name__} was not raised")


def step(rng: random.Random, ours: FrameDecoder, theirs, data: bytes) -> int:
    """One chunk into both decoders; how many of its bytes went in."""
    size = rng.choice((1, 2, 7, 8, 9, 100, 70_000, 300_000))
    chunk = data[:size]
    try:
        if rng.random() < 0.5:
            chunk = chunk[: through_buffer(rng, ours, chunk)]
            frames = ours.buffer_updated(len(chunk))
        else:
            frames = ours.receive(rng.choice((bytes, bytearray, memoryview))(chunk))
    except FrameError:
        frames = None
    try:
        wanted = theirs.receive(chunk)
    except FrameError:
        wanted = None
    assert frames == wanted, (frames, wanted)
    assert (ours.failed, ours.buffered) == (theirs.failed, theirs.buffered)
    return len(chunk)


def run(seed: int) -> int:
    """One stream, decoded; how many bytes it had."""
    rng = random.Random(seed)
    limit = rng.choice(LIMITS)
    data = stream(rng, limit)
    ours, theirs = FrameDecoder(limit), reference.FrameDecoder(limit)
    at = 0
    while at < len(data):
        if rng.random() < 0.05:
            misuse(rng, ours)
        at += step(rng, ours, theirs, data[at:])
    return len(data)


def fuzz(runs: int, seed: int) -> int:
    """Bytes decoded in `runs` streams; raises with the seed of the stream that fails."""
    return seeded.total(run, runs, seed)


def main() -> None:
    arguments = seeded.asked(__doc__)
    total = fuzz(arguments.runs, arguments.seed)
    print(
        f"{arguments.runs} streams from seed {arguments.seed}, {total} bytes: all as the reference"
    )


if __name__ == "__main__":
    main()

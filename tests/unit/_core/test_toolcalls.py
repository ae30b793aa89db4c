"""How one call of a tool lies in the guest's arena: section 5 of the ABI, worked out by hand."""

from __future__ import annotations

import pytest

from spear._core.toolcalls import arena_plan

EFAULT, ENOSPC = -14, -28
END = 2**31 - 1


def align8(size: int) -> int:
    return -(-size // 8) * 8


@pytest.mark.parametrize(
    ("given", "plan"),
    [
        ((1000, 1024, 0, 100), (1000, 1008, 100, 1112)),
        ((1000, 1024, 7, 100), (1000, 1008, 100, 1112)),
        ((1000, 1024, 8, 100), (1000, 1016, 100, 1120)),
        ((1000, 1024, 8, 4096), (1000, 1016, 1000, 2016)),
        ((1001, 1024, 8, 4096), (1001, 1017, 1000, 2017)),  # the places keep the arena's own shift
        ((8, 20, 0, 100), (8, 16, 4, 24)),
    ],
)
def test_each_part_has_its_place(given: tuple[int, ...], plan: tuple[int, ...]):
    assert arena_plan(*given) == plan


@pytest.mark.parametrize(
    ("arena", "size"),
    [(0, 1024), (-8, 1024), (1024, 0), (1024, -1), (2**31, 16), (END, 1), (1024, END),
     (-(2**63), 2**63 - 1), (2**63 - 1, 2**63 - 1)],
)  # fmt: skip
def test_what_is_no_arena_is_refused(arena: int, size: int):
    assert arena_plan(arena, size, 0, 100) == EFAULT


@pytest.mark.parametrize(
    ("size", "args", "out_max"),
    [(16, 0, 100), (1024, 1024, 100), (1024, 1016, 100), (1024, 2**62, 100), (1024, 0, 0),
     (1024, 0, -1), (8, 0, 1)],
)  # fmt: skip
def test_an_arena_without_room_is_too_small(size: int, args: int, out_max: int):
    assert arena_plan(1024, size, args, out_max) == ENOSPC


def test_every_small_arena_is_laid_out_as_the_abi_says():
    """Against its text, for all sizes around the edges."""
    seen = set()
    for size in range(1, 90):
        for args in range(size + 3):
            for out_max in (1, 3, 8, 15, 1000):
                out_at = 64 + align8(args + 1)
                out_cap = min(size - (out_at - 64) - 8, out_max)
                len_at = out_at + align8(out_cap)
                fits = out_cap > 0 and len_at + 4 <= 64 + size
                want = (64, out_at, out_cap, len_at) if fits else ENOSPC
                assert arena_plan(64, size, args, out_max) == want, (size, args, out_max)
                seen.add(fits)
    assert seen == {True, False}

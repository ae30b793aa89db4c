"""Programs in memory: what was asked for last is at hand, and is never taken for another."""

from __future__ import annotations

from typing import Any

from spear._core.aotcache import digest_of
from spear.runtime.stub import StubRuntime
from spear.spearlet.node.programs import Programs

FIRST, SECOND = b"stub 1", b"stub 2"


def programs(bytes_max: int = 1000) -> Programs:
    nowhere: Any = None
    return Programs(StubRuntime(), nowhere, bytes_max)


async def test_each_is_found_by_its_digest_and_whether_it_is_metered():
    made = programs()
    assert made.ready(digest_of(FIRST), False) is None
    for wasm in (FIRST, SECOND):
        for metered in (False, True):
            await made.load(digest_of(wasm), metered, wasm)
    for _ in range(2):
        found = [
            made.ready(digest_of(wasm), metered)
            for wasm in (FIRST, SECOND)
            for metered in (False, False, True)
        ]
        assert found[0] is found[1]
        assert len(set(map(id, found))) == 4
        assert [one.metered for one in found if one] == [False, False, True] * 2


async def test_what_is_used_over_and_over_stays_when_others_come():
    made = programs(bytes_max=2 * len(FIRST))
    await made.load(digest_of(FIRST), False, FIRST)
    kept = made.ready(digest_of(FIRST), False)
    for number in range(2, 6):
        wasm = b"stub %d" % number
        await made.load(digest_of(wasm), False, wasm)
        assert made.ready(digest_of(FIRST), False) is kept
    assert made.stats()["count"] == 2


async def test_what_no_longer_fits_is_let_go():
    made = programs(bytes_max=len(FIRST))
    await made.load(digest_of(FIRST), False, FIRST)
    assert made.ready(digest_of(FIRST), False) is not None
    await made.load(digest_of(SECOND), False, SECOND)
    assert made.ready(digest_of(FIRST), False) is None

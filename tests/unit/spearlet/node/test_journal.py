"""The journal: one write a turn, what is told after it, and what one fault may not take along."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from node_runs import Died, Life, Store

from spear.errors import KvFull
from spear.kv.memory import open_memory
from spear.spearlet.node.journal import Journal


async def turns(count: int = 4) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_is_gathered_is_written_once_when_it_is_settled() -> None:
    store = Life(Store())
    journal, told = Journal(store), list[int]()  # type: ignore[arg-type]

    def again(error: Exception | None) -> None:
        journal.put(b"c", b"")
        journal.then(lambda error: told.append(3))

    journal.gather()
    journal.put(b"a", b"")
    journal.then(lambda error: told.append(1))
    journal.put(b"b", b"")
    journal.then(again)
    assert store.writes == 0
    journal.settle()
    assert (store.writes, told) == (2, [1, 3])


async def test_rounds_without_an_end_leave_the_loop_its_turn() -> None:
    store = Life(Store())
    journal, count = Journal(store), 0  # type: ignore[arg-type]

    def again(error: Exception | None) -> None:
        nonlocal count
        count += 1
        if count < 100:
            journal.put(b"%d" % count, b"")
            journal.then(again)

    journal.gather()
    journal.put(b"0", b"")
    journal.then(again)
    journal.settle()
    assert count < 20
    await turns(100)
    assert count == 100


async def test_a_settling_that_is_cut_short_leaves_the_journal_open() -> None:
    store = Life(Store())
    journal, told = Journal(store), list[int]()  # type: ignore[arg-type]
    store.dies_after = 0
    journal.gather()
    journal.put(b"a", b"")
    journal.then(lambda error: told.append(1))
    with pytest.raises(Died):
        journal.settle()
    store.dies_after, store.dead = 1 << 60, False
    journal.put(b"b", b"")
    journal.then(lambda error: told.append(2))
    await turns()
    assert told == [2]


async def test_who_waits_for_a_write_that_fails_is_told_why() -> None:
    store = Life(Store())
    journal, told = Journal(store), list[object]()  # type: ignore[arg-type]
    store.full = True
    for power in (False, True):
        journal.put(b"a", b"")
        journal.then(told.append, power=power)
    await turns()
    assert [type(error) for error in told] == [KvFull, KvFull]


def wrong(_: Exception | None) -> None:
    raise RuntimeError("planted")


@pytest.mark.parametrize("power", [False, True])
async def test_one_that_raises_keeps_nothing_from_the_others(power: bool):
    said: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: said.append(what["exception"]))
    journal = Journal(open_memory())
    journal.put(b"a", b"1")
    journal.then(wrong)
    journal.then(wrong, power=True)
    async with asyncio.timeout(10):
        await journal.kept(power=power)
    await journal.close()
    assert [str(error) for error in said] == ["planted", "planted"]

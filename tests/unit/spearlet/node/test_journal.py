"""The journal: one write a turn, what is told after it, and what one fault may not take along."""

from __future__ import annotations

import asyncio

import pytest
from node_runs import Died, Life, Store

from spear.errors import KvFull
from spear.spearlet.node.journal import Journal


async def turns(count: int = 4) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def faults() -> list[BaseException]:
    """What the loop is told of from now on."""
    found: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: found.append(context["exception"])
    )
    return found


def fails(error: Exception | None) -> None:
    raise RuntimeError("planted")


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


@pytest.mark.parametrize("power", [False, True])
async def test_one_who_fails_as_he_is_told_keeps_nobody_else_from_it(power: bool) -> None:
    found = faults()
    journal, told = Journal(Life(Store())), list[str]()  # type: ignore[arg-type]
    journal.gather()
    journal.put(b"a", b"")
    journal.then(fails, power=power)
    journal.then(lambda error: told.append("beside it"), power=power)
    journal.settle()
    await turns()
    assert told == ["beside it"]
    journal.put(b"b", b"")
    journal.then(lambda error: told.append("after it"), power=power)
    await turns()
    assert told == ["beside it", "after it"]
    assert [str(fault) for fault in found] == ["planted"]
    await journal.close()


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

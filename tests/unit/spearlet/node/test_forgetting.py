"""What has ended is forgotten within its bounds; plain calls push out nothing but plain calls."""

from __future__ import annotations

from pathlib import Path

import pytest
from manual_clock import ManualClock
from node_runs import Bench, answer, bench

from spear.errors import LogUnavailable, NotFound
from spear.kv.batch import Batch
from spear.records.execution import Execution, Invocation
from spear.runtime.stub import StubRun
from spear.spearlet.logs.store import LogStore
from spear.spearlet.node import rows
from spear.spearlet.node.ages import Ages
from spear.spearlet.node.services import NodeServices

KEY = Invocation(idempotency_key="pay")


async def kept(node: Bench) -> list[str]:
    """The ids that are left after a round of forgetting, the newest first, read page by page."""
    assert node.node is not None
    await node.node._housekeeping.turn()
    found, token = [], ""
    while True:
        page = await node.services.executions(limit=2, page_token=token)
        found += [execution.id for execution in page.executions]
        token = page.next_page_token
        if not token:
            assert node.services._history.count == len(found)
            return found


async def timed(node: Bench) -> NodeServices:
    """Started, with guests that end at the time of the node's clock."""

    def guest(run: StubRun) -> None:
        run.finish(started_ns=node.clock.now_ns(), duration_ns=0)

    node.guest = guest
    return await node.ready()


async def plain(node: Bench, count: int) -> list[str]:
    ids = []
    for _ in range(count):
        node.clock.advance(1_000_000)
        ids.append((await node.services.invoke("work")).id)
    return ids


@pytest.mark.parametrize("quick", [False, True])
async def test_plain_calls_push_out_neither_a_key_nor_what_was_submitted(
    tmp_path: Path, quick: bool
):
    async with bench(tmp_path, answer, **{"history.count": 3}) as node:
        services = await node.ready()
        keyed = await services.invoke("work", b"keyed", KEY)
        submitted = await services.submit("work", b"submitted")
        assert (await services.wait(submitted.id)).durability == "power"
        if quick:
            node.trust()
        made = await plain(node, 8)
        assert await kept(node) == [*made[:-4:-1], submitted.id, keyed.id]
        services = await node.crash()
        made += await plain(node, 8)
        assert await kept(node) == [*made[:-4:-1], submitted.id, keyed.id]
        assert (await services.wait(submitted.id)).output == b"submitted"
        assert (await services.invoke("work", b"again", KEY)).id == keyed.id


async def test_what_is_held_has_a_bound_of_its_own(tmp_path: Path):
    async with bench(tmp_path, answer, **{"history.count": 3}) as node:
        services = await node.ready()
        (one,) = await plain(node, 1)
        held = []
        for n in range(8):
            node.clock.advance(1_000_000)
            key = Invocation(idempotency_key=f"key-{n}")
            held.append((await services.invoke("work", b"", key)).id)
        assert await kept(node) == [*held[:-4:-1], one]
        services = await node.crash()
        assert await kept(node) == [*held[:-4:-1], one]
        key = Invocation(idempotency_key="key-4")  # forgotten, and its key with it
        assert (await services.invoke("work", b"", key)).id not in held


async def test_what_is_held_is_forgotten_after_the_retention(tmp_path: Path):
    async with bench(tmp_path, **{"history.retention": "1h"}) as node:
        services = await timed(node)
        keyed = await services.invoke("work", b"", KEY)
        node.clock.advance(3599 * 10**9)
        assert await kept(node) == [keyed.id]
        node.clock.advance(2 * 10**9)
        assert await kept(node) == []
        assert (await services.invoke("work", b"", KEY)).id != keyed.id


def as_before(node: Bench, execution: Execution) -> None:
    """Its row by time as versions wrote it that knew one kind."""
    stamp = rows.stamp_of(execution)
    batch = Batch()
    value = rows.time_value(execution, 0)
    flag = b"-" if rows.stands_alone(value) else b"+"
    batch.put(rows.PLAIN_BY_TIME + stamp, value[:8] + flag + rows.task_id_of(value))
    batch.delete(rows.HELD_BY_TIME + stamp)
    node.rows.write(batch)


async def test_rows_of_earlier_versions_are_listed_removed_and_forgotten(tmp_path: Path):
    async with bench(tmp_path, answer, **{"history.count": 3}) as node:
        services = await node.ready()
        old = []
        for n in range(2):
            node.clock.advance(1_000_000)
            key = Invocation(idempotency_key=f"key-{n}")
            old.append(await services.invoke("work", b"", key))
            as_before(node, old[-1])
        services = await node.crash()
        (new,) = await plain(node, 1)
        assert await kept(node) == [new, old[1].id, old[0].id]
        await services.remove(old[1].id)
        assert await kept(node) == [new, old[0].id]
        made = await plain(node, 3)
        assert await kept(node) == made[::-1]
        with pytest.raises(NotFound):
            await services.execution(old[0].id)
        assert (await services.invoke("work", b"", KEY)).id != old[0].id


async def test_a_log_that_cannot_be_removed_leaves_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Else what is still there would run again under the same key."""

    def refuse(logs: LogStore, id: str, task: str) -> None:
        raise LogUnavailable(f"{id} of {task}")

    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        keyed = await services.invoke("work", b"", KEY)
        monkeypatch.setattr(LogStore, "remove", refuse)
        with pytest.raises(LogUnavailable):
            await services.remove(keyed.id)
        await services._parts.journal.kept()  # whatever the removal put
        assert (await services.invoke("work", b"", KEY)).id == keyed.id
        monkeypatch.undo()
        await services.remove(keyed.id)
        assert (await services.invoke("work", b"", KEY)).id != keyed.id


# ---- the clock is set


HOUR = 3600 * 10**9


async def test_a_clock_set_forward_forgets_nothing_before_its_time(tmp_path: Path):
    async with bench(tmp_path, **{"history.retention": "1h"}) as node:
        services = await timed(node)
        keyed = await services.invoke("work", b"", KEY)
        (old,) = await plain(node, 1)
        node.clock.advance(HOUR // 2)
        assert await kept(node) == [old, keyed.id]
        node.clock.set_by(1000 * HOUR)
        (new,) = await plain(node, 1)
        assert await kept(node) == [new, old, keyed.id]
        node.clock.advance(HOUR // 2 - 10**9)
        assert await kept(node) == [new, old, keyed.id]
        node.clock.advance(2 * 10**9)
        assert await kept(node) == [new]
        node.clock.advance(HOUR // 2)
        assert await kept(node) == []


async def test_a_clock_set_while_the_node_was_away_forgets_nothing_before_its_time(tmp_path: Path):
    async with bench(tmp_path, **{"history.retention": "1h"}) as node:
        services = await timed(node)
        keyed = await services.invoke("work", b"", KEY)
        node.clock.advance(HOUR // 2)
        (old,) = await plain(node, 1)
        node.clock.set_by(1000 * HOUR)
        await node.crash()
        assert await kept(node) == [old, keyed.id]
        node.clock.advance(HOUR // 2)
        assert await kept(node) == [old]
        node.clock.advance(HOUR // 2 + 1)
        assert await kept(node) == []


async def test_a_node_that_starts_often_still_forgets(tmp_path: Path):
    async with bench(tmp_path, **{"history.retention": "1h"}) as node:
        await timed(node)
        made: list[str] = []
        for _ in range(6):
            node.clock.advance(HOUR // 4)
            made += await plain(node, 1)
            await node.crash()
            assert await kept(node) == made[:-5:-1]


def test_each_jump_lengthens_a_life_by_no_more_than_one_retention():
    clock = ManualClock()
    ages, made = Ages(clock), clock.now_ns()
    for _ in range(3):
        clock.set_by(1000 * HOUR)
        clock.advance(1)
        now_ns = ages.now_ns()
        assert ages.counted_ns(made) <= now_ns
        between = now_ns - 2
        assert made < ages.counted_ns(made) <= ages.counted_ns(between) <= now_ns
    assert now_ns - ages.counted_ns(made) == 3


def test_a_jump_that_is_taken_back_leaves_ages_as_they_were():
    clock = ManualClock()
    ages = Ages(clock)
    made = clock.now_ns()
    clock.set_by(1000 * HOUR)
    ages.now_ns()
    clock.set_by(-1000 * HOUR)
    clock.advance(HOUR)
    assert ages.now_ns() - ages.counted_ns(made) == HOUR
    assert ages.now_ns() - ages.counted_ns(clock.now_ns()) == 0


def test_time_that_passes_and_a_clock_that_is_adjusted_are_no_jumps():
    clock = ManualClock()
    ages, made = Ages(clock), clock.now_ns()
    for _ in range(100):
        clock.advance(5 * 10**9)
        clock.set_by(10**9)
        ages.now_ns()
        assert ages.counted_ns(made) == made
    clock.advance(HOUR)
    assert ages.now_ns() - ages.counted_ns(made) == HOUR + 600 * 10**9

"""`history.size` bounds what ended executions take, whatever ends, is removed, or dies when.

Rule: the model knows the rows of the store and the order in which executions ended. What is kept of
each kind is the longest run of its newest that fits: held ones within all bytes, plain ones within
what those leave.
"""

from __future__ import annotations

import asyncio
import random
from itertools import chain
from pathlib import Path

import pytest
from node_runs import Bench, Store, answer, bench, until

from spear.errors import KvFull, LogUnavailable, NotFound, SpearError
from spear.kv.batch import Batch
from spear.records.execution import Execution, Invocation
from spear.spearlet.node import rows
from spear.spearlet.node.housekeeping import Housekeeping

SEEDS, STEPS = 40, 40
COUNT_MAX, BYTES_MAX = 6, 400_000
SIZES = (0, 10, 3_000, 60_000, 70_000, 200_000, 500_000)  # of outputs, two beyond the inline limit
BOUNDS = {"history.count": COUNT_MAX, "history.size": BYTES_MAX}


def taken_by(store: Store, id: str) -> int:
    """Record and result, as they lie in the store."""
    row = store.get(rows.execution_key(id))
    assert row is not None
    execution = rows.decode_execution(row)
    return len(row) + (execution.output_bytes if execution.output_digest else 0)


def ids_in(store: Store, index: bytes) -> list[str]:
    """The oldest first."""
    return [rows.id_of_stamp(key[len(index) :]) for key, _ in store.scan(index)]


class Model:
    """What must be there: by kind, the oldest first, each with its bytes."""

    def __init__(self) -> None:
        self.kinds: dict[bytes, dict[str, int]] = {index: {} for index in rows.BY_TIME}

    def ended(self, node: Bench, execution: Execution, *, held: bool) -> None:
        index = rows.HELD_BY_TIME if held else rows.PLAIN_BY_TIME
        self.kinds[index][execution.id] = taken_by(node.rows, execution.id)

    def trim(self) -> None:
        left = BYTES_MAX
        for index in (rows.HELD_BY_TIME, rows.PLAIN_BY_TIME):
            kept = self.kinds[index]
            while kept and (len(kept) > COUNT_MAX or sum(kept.values()) > left):
                del kept[next(iter(kept))]
            left -= sum(kept.values())

    def remove(self, id: str) -> None:
        for kept in self.kinds.values():
            kept.pop(id, None)

    def ids(self) -> list[str]:
        return list(chain(*self.kinds.values()))

    def check(self, node: Bench) -> None:
        history = node.services._history
        for index, kept in self.kinds.items():
            assert ids_in(node.rows, index) == list(kept)
        assert {key for key, _ in node.rows.scan(b"exec/")} == set(
            map(rows.execution_key, self.ids())
        )
        assert history.count == len(self.ids())
        assert history.bytes_taken == sum(sum(kept.values()) for kept in self.kinds.values())


async def end_one(node: Bench, model: Model, draw: random.Random) -> None:
    node.clock.advance(1_000_000)
    output = draw.randbytes(1) * draw.choice(SIZES)  # often the same: results share files
    kind = draw.choice(("plain", "plain", "chosen", "keyed", "submitted"))
    if kind == "submitted":
        accepted = await node.services.submit("work", output)
        execution = await node.services.wait(accepted.id)
    elif kind == "keyed":
        key = Invocation(idempotency_key=f"key-{draw.random()}")
        execution = await node.services.invoke("work", output, key)
    elif kind == "chosen":  # which holds nothing
        chosen = Invocation(execution_id=f"{draw.getrandbits(128):032x}")
        execution = await node.services.invoke("work", output, chosen)
    else:
        execution = await node.services.invoke("work", output)
    model.ended(node, execution, held=kind in ("keyed", "submitted"))


async def trim(node: Bench, model: Model, at_once: int) -> None:
    history, before = node.services._history, len(model.ids())
    gone = await asyncio.gather(*(history.trim() for _ in range(at_once)))
    model.trim()
    assert sum(gone) == before - len(model.ids())


async def act(node: Bench, model: Model, draw: random.Random) -> None:
    step = draw.choice(("end",) * 6 + ("trim", "trims", "remove", "crash"))
    if step == "end":
        if draw.random() < 0.3:
            node.trust()
        await end_one(node, model, draw)
    elif step == "remove" and model.ids():
        id = draw.choice(model.ids())
        await asyncio.gather(node.services.remove(id), node.services.remove(id))
        model.remove(id)
    elif step == "crash":
        await node.crash()
    else:
        await trim(node, model, at_once=3 if step == "trims" else 1)
    model.check(node)


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_it_is_as_the_model_says(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Housekeeping, "start", lambda _: None)
    draw, model = random.Random(seed), Model()
    async with bench(tmp_path, answer, **BOUNDS) as node:
        await node.ready()
        for _ in range(STEPS):
            await act(node, model, draw)
        await trim(node, model, at_once=2)
        model.check(node)
        assert node.services._history.bytes_taken <= BYTES_MAX
        await only_named_results(node)


async def only_named_results(node: Bench) -> None:
    """Whose executions are there are there, and no others."""
    await node.services.collect_garbage()
    digests = set()
    for key, row in node.rows.scan(b"exec/"):
        execution = rows.decode_execution(row)
        pieces = [piece async for piece in node.services.read_result(execution.id)]
        assert sum(map(len, pieces)) == execution.output_bytes
        if execution.output_digest:
            digests.add(execution.output_digest)
            row = node.rows.get(rows.result_key(execution.output_digest, key[5:].decode()))
            assert row is not None
    named = {path.parent.name + path.name for path in (node.folder / "results").rglob("??/*")}
    assert {name[-64:] for name in named} == digests


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_a_death_in_the_midst_of_forgetting_leaves_whole_executions_and_right_sums(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Housekeeping, "start", lambda _: None)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # of who waits for the dead
    draw, model = random.Random(seed), Model()
    async with bench(tmp_path, answer, **BOUNDS) as node:
        await node.ready()
        for _ in range(3):
            for _ in range(2 * COUNT_MAX):
                await end_one(node, model, draw)
            node.store.dies_after = node.store.writes + draw.randrange(4)
            trimming = asyncio.ensure_future(node.services._history.trim())
            for _ in range(draw.randrange(12)):
                await asyncio.sleep(0)
            await node.crash(power=draw.random() < 0.5)
            trimming.cancel()
            await asyncio.gather(trimming, return_exceptions=True)
            history = node.services._history
            there = [*ids_in(node.rows, b"exec_time/"), *ids_in(node.rows, b"exec_held/")]
            assert sorted(there) == sorted(key[5:].decode() for key, _ in node.rows.scan(b"exec/"))
            assert history.count == len(there)
            assert history.bytes_taken == sum(taken_by(node.rows, id) for id in there)
            for id in set(model.ids()) - set(there):
                model.remove(id)
            await trim(node, model, at_once=1)
            model.check(node)
            await only_named_results(node)


# ---- what it counts


async def test_rows_of_earlier_formats_are_counted_by_their_records(tmp_path: Path):
    async with bench(tmp_path, answer, **BOUNDS) as node:
        services = await node.ready()
        execution = await services.invoke("work", bytes(100_000))
        batch, key = Batch(), rows.by_time(execution) + rows.stamp_of(execution)
        value = node.rows.get(key)
        assert value is not None
        batch.put(key, value[:8] + b"+" + rows.task_id_of(value))
        node.rows.write(batch)
        services = await node.crash()
        assert services._history.bytes_taken == taken_by(node.rows, execution.id) > 100_000
        page = await services.executions(task="work")
        assert [found.id for found in page.executions] == [execution.id]
        await services.remove(execution.id)
        assert (await services.stats())["history"] == {"count": 0, "bytes": 0}


async def test_an_end_that_is_not_kept_takes_nothing_until_it_is(tmp_path: Path):
    async with bench(tmp_path) as node:
        services = await node.ready()
        running = asyncio.ensure_future(services.invoke("work", bytes(100)))
        run = await node.run()
        node.store.full = True
        answer(run)
        execution = await running
        assert (await services.stats())["history"] == {"count": 0, "bytes": 0}
        node.store.full = False
        services._executions._ends._write_again(execution.id)
        services._executions._ends._stop_timer(execution.id)
        await until(lambda: not services._executions._ends.unkept)
        taken = taken_by(node.rows, execution.id)
        assert (await services.stats())["history"] == {"count": 1, "bytes": taken}


async def test_what_cannot_be_forgotten_is_still_counted(tmp_path: Path):
    async with bench(tmp_path, answer, **{"history.count": 0}) as node:
        services = await node.ready()
        await services.invoke("work")
        node.store.full = True
        with pytest.raises(KvFull):
            await services.collect_garbage()
        assert services._history.count == 1
        node.store.full = False
        assert (await services.collect_garbage())["executions"] == 1
        assert (await services.stats())["history"] == {"count": 0, "bytes": 0}


async def test_a_round_whose_caller_leaves_counts_what_it_forgot(tmp_path: Path):
    async with bench(tmp_path, answer, **{"history.count": 0}) as node:
        services = await node.ready()
        await services.invoke("work")
        trimming = asyncio.ensure_future(services._history.trim())
        await asyncio.sleep(0)
        trimming.cancel()
        await asyncio.gather(trimming, return_exceptions=True)
        await until(lambda: not node.rows.scan(b"exec"))
        assert services._history.count == 0


async def test_what_fills_the_disk_is_forgotten_before_the_next_round(tmp_path: Path):
    async with bench(tmp_path, answer, **{"history.size": "1MiB"}) as node:
        services = await node.ready()
        made = [await services.submit("work", bytes(600_000 + n)) for n in range(4)]
        for accepted in made:
            try:
                await services.wait(accepted.id)
            except NotFound:  # it went already
                continue
        await until(lambda: services._history.bytes_taken <= 1 << 20)
        with pytest.raises(SpearError):
            await services.execution(made[0].id)
        assert (await services.execution(made[-1].id)).completed


# ---- what goes wrong midway


def assert_counted(node: Bench) -> None:
    """Its sums are those of the rows that are there."""
    ids = [id for index in rows.BY_TIME for id in ids_in(node.rows, index)]
    history = node.services._history
    assert history.count == len(ids)
    assert history.bytes_taken == sum(taken_by(node.rows, id) for id in ids)


async def with_unkept(node: Bench) -> Execution:
    """An execution whose rows are there and whose flush failed."""
    services = await node.ready()
    accepted = await services.submit("work")
    run = await node.run()
    node.store.sync_faults.append(KvFull("no room (planted)"))
    answer(run)
    execution = await services.wait(accepted.id)
    assert execution.durability == "volatile"
    assert node.rows.get(rows.execution_key(execution.id)) is not None
    return execution


async def test_an_end_whose_flush_failed_is_neither_counted_nor_forgotten(tmp_path: Path):
    async with bench(tmp_path, **{"history.retention": "1h"}) as node:
        execution = await with_unkept(node)
        node.clock.advance(2 * 3600 * 10**9)
        history, ends = node.services._history, node.services._executions._ends
        assert await history.trim() == 0
        assert (history.count, history.bytes_taken) == (0, 0)
        ends._stop_timer(execution.id)
        ends._write_again(execution.id)
        await until(lambda: not ends.unkept)
        assert_counted(node)
        assert await history.trim() == 1
        assert_counted(node)


async def test_one_whose_flush_failed_is_removed_and_was_not_counted(tmp_path: Path):
    async with bench(tmp_path) as node:
        execution = await with_unkept(node)
        await node.services.remove(execution.id)
        assert not node.rows.scan(b"exec")
        assert_counted(node)


async def keyed(node: Bench, count: int) -> list[Execution]:
    """Each of them has more than its record."""
    found = []
    for n in range(count):
        node.clock.advance(1_000_000)
        call = Invocation(idempotency_key=f"key-{n}")
        found.append(await node.services.invoke("work", b"%d" % n, call))
    return found


async def test_a_removal_whose_flush_failed_is_counted_as_done(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        await node.ready()
        one, _ = await keyed(node, 2)
        node.store.sync_faults.append(KvFull("no room (planted)"))
        with pytest.raises(KvFull):
            await node.services.remove(one.id)
        assert_counted(node)


@pytest.mark.parametrize("first_fails", [False, True])
async def test_a_round_of_several_writes_counts_those_that_were_made(
    tmp_path: Path, first_fails: bool
):
    async with bench(tmp_path, answer, **{"history.count": 0}) as node:
        await node.ready()
        await keyed(node, 3)
        history, seen = node.services._history, []

        async def forget(execution: Execution) -> None:
            """Writes what was put for those before it, as what was cut off does."""
            seen.append(execution)
            if len(seen) == 2:
                node.store.full = first_fails
                try:
                    await node.services._parts.journal.kept(power=False)
                finally:
                    node.store.full = not first_fails

        history._forget = forget
        if first_fails:
            assert await history.trim() == 1
        else:
            with pytest.raises(KvFull):
                await history.trim()
        assert_counted(node)
        assert history.count == 2
        node.store.full = False
        assert await history.trim() == 2
        assert_counted(node)


async def test_one_that_cannot_be_forgotten_keeps_no_other(tmp_path: Path):
    async with bench(tmp_path, answer, **{"history.count": 0}) as node:
        await node.ready()
        made = await keyed(node, 4)
        history, stuck = node.services._history, {made[0].id, made[2].id}
        whole = history._forget

        async def forget(execution: Execution) -> None:
            if execution.id in stuck:
                raise LogUnavailable("its log is elsewhere (planted)")
            await whole(execution)

        history._forget = forget
        assert [await history.trim(), await history.trim()] == [2, 0]
        assert ids_in(node.rows, rows.HELD_BY_TIME) == [made[0].id, made[2].id]
        assert_counted(node)
        later = await node.services.invoke("work", b"", Invocation(idempotency_key="later"))
        stuck.add(later.id)
        assert [await history.trim(), await history.trim()] == [0, 0]
        told = [line for line in node.said.lines if line["event"] == "executions not forgotten"]
        assert [(line["count"], line["first"]) for line in told] == [
            (2, made[0].id), (3, later.id),
        ]  # fmt: skip
        stuck.clear()
        assert await history.trim() == 3
        assert_counted(node)

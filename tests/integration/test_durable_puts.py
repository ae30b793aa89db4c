"""Guests put durably on a node: 0 is answered for what outlives it, and for nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from guest_runs import guest_bytes
from node_runs import Bench, until
from object_runs import (
    EACCES,
    EEXIST,
    ENOENT,
    ENOMEM,
    ESTALE,
    Answer,
    Call,
    answers_of,
    get,
    input_of,
    put,
)

from spear.clock import Clock
from spear.errors import KvFull, ObjectNotFound
from spear.records.execution import Execution, Invocation
from spear.records.task import Pool, TaskSpec
from spear.spearlet.node.durables import ROW_BYTES

EIO, DURABLE = -5, 1
LARGE = bytes(range(256)) * 500


class Holding(Bench):
    """A node whose flushes may be held."""

    flushes: Flushes | None = None


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Holding(tmp_path, cache_dir=str(tmp_path / "cache"))
    made.clock = Clock()  # type: ignore[assignment]
    made.real = True
    node = await made.start()
    artifact = await node.put_artifact(guest_bytes("object_calls"))
    await node.register(TaskSpec(name="me", artifact=artifact.digest))
    yield made
    if made.flushes is not None:  # of a test that failed
        made.flushes.go()
        made.store.__dict__.pop("when_synced", None)
    await made.stop()


def durable(name: bytes, value: bytes = b"v", if_version: int = -1) -> Call:
    return put(name, value, if_version, DURABLE)


async def asked(bench: Bench, *calls: Call) -> list[Answer]:
    execution = await bench.services.invoke("me", input_of(calls))
    assert execution.completed, execution.error
    return answers_of(calls, execution.output)


class Flushes:
    """Those of the node's store, held until they are let go."""

    def __init__(self, bench: Bench) -> None:
        bench.flushes = self  # type: ignore[attr-defined]
        self.held: list[tuple[int, Callable[..., None]]] = []
        self._real = bench.store.when_synced
        bench.store.when_synced = lambda *flush: self.held.append(flush)  # type: ignore[method-assign]

    def go(self) -> None:
        held, self.held = self.held, []
        for flush in held:
            self._real(*flush)


async def waiting(bench: Bench, *calls: Call) -> tuple[asyncio.Task[Execution], Flushes]:
    """A guest whose put is written, and not synced yet."""
    flushes = Flushes(bench)
    task = asyncio.ensure_future(bench.services.invoke("me", input_of(calls)))
    await until(lambda: flushes.held)
    return task, flushes


async def test_a_durable_put_is_a_put(bench: Bench) -> None:
    old = await bench.services.put_object("/me/old", b"old")
    found = await asked(
        bench, durable(b"x"), durable(b"x", b"w", 0), durable(b"old", b"w", old.version + 1),
        durable(b"/other/x"), durable(b"old", b"new", old.version), get(b"old"),
    )  # fmt: skip
    assert [answer.result for answer in found] == [0, EEXIST, ESTALE, EACCES, 0, 3]
    info = await bench.services.stat_object("/me/old")
    assert (info.version, info.durability) == (found[4].version, "power")
    assert (await bench.services.stat_object("/me/x")).version == found[0].version


@pytest.mark.parametrize("value", [b"", b"small", LARGE], ids=["empty", "row", "file"])
async def test_it_outlives_a_power_cut_and_a_plain_one_does_not(bench: Bench, value: bytes) -> None:
    calls = [durable(b"shared/kept", value), put(b"shared/lost", value)]
    assert [answer.result for answer in await asked(bench, *calls)] == [0, 0]
    node = await bench.crash(power=True)
    assert (await node.get_object("shared/kept"))[1] == value
    with pytest.raises(ObjectNotFound):
        await node.stat_object("shared/lost")
    assert (await asked(bench, durable(b"shared/kept", b"next")))[0].result == 0


async def test_nothing_is_answered_before_it_is_kept(bench: Bench) -> None:
    task, flushes = await waiting(bench, durable(b"x"))
    for _ in range(20):
        await asked(bench, put(b"y"))
    assert not task.done()
    flushes.go()
    assert (await task).completed


async def test_what_was_overwritten_meanwhile_is_kept_as_it_is_then(bench: Bench) -> None:
    task, flushes = await waiting(bench, durable(b"x", b"first"))
    later = asyncio.ensure_future(asked(bench, durable(b"x", b"later")))
    table = bench.services._objects.table
    await until(lambda: bytes(table.get(b"/me/x")) == b"later")
    flushes.go()
    await until(lambda: flushes.held or later.done())
    flushes.go()
    assert (await task).completed
    assert (await later)[0].result == 0
    node = await bench.crash(power=True)
    assert (await node.get_object("/me/x"))[1] == b"later"


async def test_what_was_deleted_meanwhile_is_gone(bench: Bench) -> None:
    task, flushes = await waiting(bench, durable(b"x"))
    delete = asyncio.ensure_future(bench.services.delete_object("/me/x"))
    await until(lambda: not len(bench.services._objects.table))
    flushes.go()
    await until(lambda: flushes.held or delete.done())
    flushes.go()
    await delete
    assert answers_of([durable(b"x")], (await task).output)[0].result == 0
    node = await bench.crash(power=True)
    with pytest.raises(ObjectNotFound):
        await node.stat_object("/me/x")


async def test_a_full_disk_is_told_and_forgotten_when_there_is_room(bench: Bench) -> None:
    bench.store.sync_faults.append(KvFull("no room (planted)"))
    calls = [durable(b"x"), durable(b"y")]
    execution = await bench.services.invoke("me", input_of(calls))
    first, second = answers_of(calls, execution.output)
    assert (first.result, second.result) == (EIO, 0)
    assert first.version > 0
    assert any("not durable: no room" in line for line in await bench.logged(execution.id))
    assert (await bench.services.stat_object("/me/x")).durability == "volatile"
    assert bench.node is not None
    await bench.node._housekeeping.turn()
    assert (await bench.services.stat_object("/me/x")).durability == "power"
    node = await bench.crash(power=True)
    assert (await node.get_object("/me/x"))[1] == b"v"


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_a_guest_that_ends_while_it_waits_is_not_waited_for(bench: Bench, how: str) -> None:
    flushes, services = Flushes(bench), bench.services
    invocation = Invocation(
        execution_id="12345678", timeout_ns=10**9 * (1 if how == "deadline" else 60)
    )
    task = asyncio.ensure_future(services.invoke("me", input_of([durable(b"x")]), invocation))
    await until(lambda: flushes.held)
    if how == "cancel":
        await services.cancel("12345678", "enough")
    execution = await task
    assert execution.status == ("terminated" if how == "cancel" else "timeout")
    flushes.go()
    await services._objects.settle()
    node = await bench.crash(power=True)
    assert (await node.get_object("/me/x"))[1] == b"v", "what was begun goes on"


async def test_a_node_that_closes_keeps_what_was_begun(bench: Bench) -> None:
    task, flushes = await waiting(bench, durable(b"x", LARGE))
    assert bench.node is not None
    closing = asyncio.ensure_future(bench.stop())
    await until(task.done)
    flushes.go()
    await closing
    assert (await (await bench.start()).get_object("/me/x"))[1] == LARGE


async def test_guests_that_put_one_large_object_at_once_all_end(bench: Bench) -> None:
    calls = [durable(b"shared/x", LARGE) for _ in range(5)]
    found = await asyncio.gather(*(asked(bench, *calls) for _ in range(8)))
    assert {answer.result for answers in found for answer in answers} == {0}
    last = max(answer.version for answers in found for answer in answers)
    info = await bench.services.stat_object("shared/x")
    assert (info.version, info.durability) == (last, "power")


async def test_a_warm_instance_puts_durably_though_it_was_the_first(bench: Bench) -> None:
    artifact = await bench.services.put_artifact(wasm_that_puts())
    spec: Any = {"artifact": artifact.digest, "pool": Pool(isolation="shared", min=1, max=1)}
    await bench.services.register(TaskSpec(name="warm", **spec))
    execution = await bench.services.invoke("warm", b"", Invocation(function="_start"))
    assert execution.completed, execution.error
    node = await bench.crash(power=True)
    assert (await node.get_object("/warm/x"))[1] == b"v"


async def test_instances_that_are_made_do_not_hold_up_the_files_they_wait_for(
    bench: Bench,
) -> None:
    """They put as they are made, what is kept in a file; one thread is left for files."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    artifact = await bench.services.put_artifact(wasm_that_puts(70_000, made=True))
    spec: Any = {"artifact": artifact.digest, "pool": Pool(isolation="shared", min=1, max=4)}
    await bench.services.register(TaskSpec(name="warm", **spec))
    async with asyncio.timeout(30):
        calls = (bench.services.invoke("warm", b"", Invocation(function="_start")) for _ in "abc")
        for execution in await asyncio.gather(*calls):
            assert execution.completed, execution.error
    assert (await bench.services.stat_object("/warm/x")).size == 70_000


def wasm_that_puts(size: int = 1, *, made: bool = False) -> bytes:
    """In `_start` or, as it is `made`, in its start function."""
    import wasm_asm as asm

    body = b"".join(map(asm.i32_const, (16, 1, 17, size))) + asm.i64_const(-1)
    body += asm.i32_const(DURABLE) + asm.i32_const(0) + asm.call(0) + asm.DROP
    imports = [("spear", "object_put", "iiiiIii", "i")]
    bodies: Any = {"start": body} if made else {"body": body}
    return asm.module(imports, **bodies, pages=2, data=[(16, b"xv")])


@pytest.mark.parametrize("size", [3, len(LARGE)], ids=["row", "file"])
async def test_guests_cannot_fill_the_disk(bench: Bench, size: int) -> None:
    """Beyond `objects.durable_size` nothing is changed; what takes another's place still may."""
    assert bench.node is not None
    bench.services._objects._durable.bytes_max = room = 4 * (ROW_BYTES + len("/me/0") + size)
    calls = [durable(b"%d" % number, bytes(size)) for number in range(6)]
    calls += [get(b"5"), durable(b"3", b"x" * size), durable(b"3", bytes(size + 1)), put(b"5", b"")]
    execution = await bench.services.invoke("me", input_of(calls))
    found = [answer.result for answer in answers_of(calls, execution.output)]
    assert found == [0, 0, 0, 0, ENOMEM, ENOMEM, ENOENT, 0, ENOMEM, 0]
    logged = await bench.logged(execution.id)
    assert len([line for line in logged if "objects.durable_size" in line]) == 1
    node = await bench.crash(power=True)
    listed = (await node.list_objects("/me/")).objects
    assert sum(ROW_BYTES + len(info.key) + info.size for info in listed) == room
    assert (await node.get_object("/me/3"))[1] == b"x" * size

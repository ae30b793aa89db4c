"""A node with real guests: commands, warm reactors, objects, logs, many at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import wasmtime
from guest_runs import guest_bytes
from node_runs import HANG_S, Bench, until
from text_guests import MEMORY, NATIVE

from spear.clock import Clock
from spear.errors import InUse, InvalidArgument, NotFound
from spear.records.execution import Execution, Invocation
from spear.records.task import Limits, Pool, TaskSpec
from spear.spearlet.node.services import NodeServices

MS = 1_000_000


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[NodeServices]:
    made = Bench(tmp_path, cache_dir=str(tmp_path / "cache"))
    made.clock = Clock()  # type: ignore[assignment]
    made.real = True
    yield await made.start()
    await made.stop()


async def register(node: NodeServices, guest: str, **spec: object) -> None:
    artifact = await node.put_artifact(guest_bytes(guest))
    await node.register(TaskSpec(name=guest, artifact=artifact.digest, **spec))  # type: ignore[arg-type]


def trust(node: NodeServices, task: str) -> None:
    """It has been quick of late."""
    pace = node._tasks.find(task).plan.pace
    while not pace.quick:
        pace.took(0)


async def call(node: NodeServices, function: str, *args: int | float, **more: object) -> Execution:
    invocation = Invocation(function=function, call_args=args, **more)  # type: ignore[arg-type]
    return await node.invoke("reactor", b"", invocation)


async def test_a_command_gets_its_arguments_and_input_and_answers(node: NodeServices):
    await register(node, "answer", args=("Ada",))
    execution = await node.invoke("answer", b"hello")
    assert execution.completed
    assert b"Ada" in execution.output
    other = await node.invoke("answer", b"hello", Invocation(args=("Grace",)))
    assert b"Grace" in other.output


async def test_what_it_logs_is_there_with_levels_and_streams(node: NodeServices):
    await register(node, "hello")
    execution = await node.invoke("hello")
    lines = [line async for batch in node.logs(execution.id) for line in batch]
    assert [line.seq for line in lines] == [1, 2, 3]
    assert [line.message for line in lines if line.stream == "stdout"] == ["Hello, SPEAR!"]
    assert {line.stream for line in lines} == {"log", "stdout"}
    assert execution.output == b"Hello, SPEAR!\n"


async def test_a_quick_guest_is_kept_with_one_write(node: NodeServices):
    await register(node, "answer", args=("Ada",))
    trust(node, "answer")
    before = node._parts.kv.writes
    execution = await node.invoke("answer", b"hello")
    assert node._parts.kv.writes == before + 1
    assert (await node.execution(execution.id, include_output=True)) == execution
    assert b"Ada" in execution.output


LINES = 30_000


@pytest.mark.parametrize("quick", [False, True])
async def test_a_flood_of_lines_within_the_limit_is_in_the_log_whole(
    node: NodeServices, quick: bool
):
    await register(node, "log_flood", args=(str(LINES),))
    if quick:
        trust(node, "log_flood")
    other = asyncio.ensure_future(node.invoke("log_flood"))
    execution = await node.invoke("log_flood")
    for ended in (execution, await other):
        assert (ended.status, ended.log_lines, ended.log_lost) == ("completed", LINES, 0)
        lines = [line async for batch in node.logs(ended.id) for line in batch]
        assert [line.message for line in lines] == [f"line {n:08}" for n in range(LINES)]
        assert [line.seq for line in lines] == list(range(1, LINES + 1))


async def test_a_flood_is_ended_at_its_time(node: NodeServices):
    """Also while it waits for its log to be read."""
    await register(node, "log_flood", args=("100000000",), limits=Limits(timeout_ns=100 * MS))
    execution = await node.invoke("log_flood")
    assert (execution.status, execution.log_lost) == ("timeout", 0)
    messages = [line.message async for batch in node.logs(execution.id) for line in batch]
    assert messages == [f"line {n:08}" for n in range(len(messages))]


async def test_one_that_turns_slow_goes_on_like_any_other(node: NodeServices):
    await register(node, "sleeper", args=("300",))
    trust(node, "sleeper")
    call = asyncio.ensure_future(node.invoke("sleeper"))
    await until(lambda: node._executions.stats()["running"] == 1)
    (live,) = (await node.executions()).executions
    assert (live.status, live.instance_id) == ("running", live.id)
    ended = await call
    assert ended.completed
    assert (await node.execution(ended.id)).status == "completed"


async def test_a_runaway_ends_at_its_time_and_others_go_on(node: NodeServices):
    await register(node, "loop", limits=Limits(timeout_ns=200 * MS))
    await register(node, "hello")
    runaway = asyncio.ensure_future(node.invoke("loop"))
    assert (await node.invoke("hello")).completed
    ended = await runaway
    assert ended.status == "timeout"
    assert ended.error is not None
    assert ended.error.code == "DEADLINE"


async def test_a_trap_shows_where(node: NodeServices):
    await register(node, "trap")
    execution = await node.invoke("trap")
    assert execution.status == "failed"
    assert execution.error is not None
    assert execution.error.code == "TRAP"
    assert execution.error.backtrace


async def test_a_function_of_a_reactor_gives_its_value(node: NodeServices):
    await register(node, "reactor")
    assert (await call(node, "mix", 1, 2, 3.0, 4.0)).value == (10.0,)
    assert [(await call(node, "count")).value for _ in range(3)] == [(1,), (1,), (1,)]
    wrong = await call(node, "mix", 1)
    assert wrong.status == "failed"
    assert wrong.error is not None
    assert "mix" in wrong.error.message


async def test_a_shared_reactor_stays_warm(node: NodeServices):
    await register(node, "reactor", pool=Pool(isolation="shared"))
    assert [(await call(node, "count")).value for _ in range(3)] == [(1,), (2,), (3,)]
    (instance,) = await node.instances()
    assert (instance.status, instance.executions) == ("ready", 3)
    said = await call(node, "say", 7)
    assert said.output == b"number 7\n"
    assert said.instance_id == instance.id


async def test_a_shared_reactor_that_trapped_is_made_anew(node: NodeServices):
    await register(node, "reactor", pool=Pool(isolation="shared"))
    await call(node, "count")
    assert (await call(node, "boom")).status == "failed"
    assert (await call(node, "count")).value == (1,)


async def test_a_shared_reactor_has_the_limits_of_its_task(node: NodeServices):
    """Eight KiB of output, and 20 lines of 6 characters."""
    write = "(drop (call $write (i32.const 1) (i32.const 400) (i32.const 1) (i32.const 12)))"
    say = "(drop (call $log (i32.const 2) (i32.const 16) (i32.const 6)))"
    text = f"""(module {NATIVE} {MEMORY}
      (func (export "write") {write * 2}) (func (export "say") {say * 20}))"""
    artifact = await node.put_artifact(bytes(wasmtime.wat2wasm(text)))
    limits, pool = Limits(output_bytes=8191, log_bytes=10 * (6 + 32)), Pool(isolation="shared")
    await node.register(
        TaskSpec(name="reactor", artifact=artifact.digest, limits=limits, pool=pool)
    )
    written = await call(node, "write")
    assert (written.status, written.cause) == ("failed", "output_limit")
    said = await call(node, "say")
    assert (said.status, said.log_truncated, said.log_lines) == ("completed", True, 11)


async def test_calls_of_a_shared_reactor_run_side_by_side_up_to_the_pools_limit(
    node: NodeServices,
):
    await register(node, "reactor", pool=Pool(isolation="shared", max=2), concurrency=2)
    calls = await asyncio.gather(*(call(node, "nap", 20) for _ in range(6)))
    assert {execution.status for execution in calls} == {"completed"}
    assert 1 <= len(await node.instances()) <= 2


@pytest.mark.parametrize("reason", ["not needed", ""])
async def test_a_destroyed_instance_ends_its_execution(node: NodeServices, reason: str):
    await register(node, "sleeper", args=("-1",))
    waiting = asyncio.ensure_future(node.invoke("sleeper"))
    await until(lambda: node._executions.stats()["running"] == 1)
    async with asyncio.timeout(HANG_S):
        while not (found := await node.instances()):
            await asyncio.sleep(0)
    destroyed = await node.destroy_instance(found[0].id, reason)
    assert destroyed.status == "terminated"
    execution = await waiting
    assert execution.status == "terminated"
    assert execution.error.message.endswith(reason or "its instance was destroyed")
    lines = [line async for batch in node.logs(execution.id) for line in batch]
    assert [line.message for line in lines if line.level == "warn"] == [
        f"Destroy instance: {reason}" if reason else "Destroy instance"
    ]
    with pytest.raises(NotFound):
        await node.destroy_instance(found[0].id)


async def test_guests_and_clients_share_objects(node: NodeServices):
    await register(node, "memory", object_grants=())
    execution = await node.invoke("memory", b"hello")
    assert execution.completed, execution.error
    page = await node.list_objects("")
    assert page.objects
    info, value = await node.get_object(page.objects[0].key)
    assert info.size == len(value)


async def test_a_thousand_at_once_all_end(node: NodeServices):
    await register(node, "hello")
    ends = await asyncio.gather(*(node.invoke("hello") for _ in range(1_000)))
    assert {execution.status for execution in ends} == {"completed"}
    stats = await node.stats()
    assert stats["executions"]["completed"] == 1_000
    assert stats["runtime"]["live"] == 0


async def test_an_artifact_that_runs_is_not_deleted(node: NodeServices):
    artifact = await node.put_artifact(guest_bytes("sleeper"))
    spec = TaskSpec(name="once", artifact=artifact.digest, args=("-1",))
    waiting = asyncio.ensure_future(node.invoke(spec))
    await until(lambda: node._executions.stats()["running"] == 1)
    with pytest.raises(InUse, match="execution"):
        await node.delete_artifact(artifact.digest)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await until(lambda: not node._executions.works())
    await node.delete_artifact(artifact.digest)


async def test_durable_objects_outlive_the_node_and_others_do_not(tmp_path: Path):
    made = Bench(tmp_path)
    node = await made.start()
    await node.put_object("shared/kept", b"1", durable=True, metadata={"a": "b"})
    before = await node.put_object("shared/large", b"2" * 100_000, durable=True)
    await node.put_object("shared/lost", b"3")
    await node.put_object("shared/deleted", b"4", durable=True)
    await node.delete_object("shared/deleted")
    node = await made.crash(power=True)
    page = await node.list_objects("shared/")
    assert [info.key for info in page.objects] == ["shared/kept", "shared/large"]
    info, value = await node.get_object("shared/large")
    assert value == b"2" * 100_000
    assert info.version > before.version
    assert (await node.stat_object("shared/kept")).metadata == {"a": "b"}
    await made.stop()


async def test_a_pool_keeps_as_many_ready_as_its_task_wants(node: NodeServices):
    await register(node, "reactor", pool=Pool(isolation="shared", min=2, max=3))
    await node._parts.pools.fill(node._tasks.all(), node._parts.programs)
    assert [instance.status for instance in await node.instances()] == ["ready", "ready"]
    assert (await node.stats())["instances"] == {"active": 0, "idle": 2}
    assert (await call(node, "boom")).status == "failed"
    assert len(await node.instances()) == 1
    await node._parts.pools.fill(node._tasks.all(), node._parts.programs)
    assert len(await node.instances()) == 2
    await node.unregister("reactor")
    assert await node.instances() == []


async def test_a_shared_pool_needs_a_registered_task(node: NodeServices):
    artifact = await node.put_artifact(guest_bytes("reactor"))
    spec = TaskSpec(name="once", artifact=artifact.digest, pool=Pool(isolation="shared"))
    with pytest.raises(InvalidArgument, match="registered"):
        await node.invoke(spec)

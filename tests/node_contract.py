"""What every Node does, whoever implements it: the tests, to be run over each of them.

The rule: only what records/node.py says; a test asks through the interface alone. A file of tests
imports all of this, and gives the fixture `node`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conftest import guest_path

from spear import errors
from spear.clock import Clock, Ids
from spear.records.execution import Execution, Invocation
from spear.records.node import Node
from spear.records.schedule import ScheduleSpec
from spear.records.task import Limits, Task, TaskSpec

UNKNOWN = "00000000-0000-7000-8000-000000000000"


async def kept(node: Node, guest: str) -> str:
    """The digest of a committed guest, which the node has then."""
    return (await node.put_artifact(guest_path(guest).read_bytes())).digest


async def task_of(node: Node, guest: str, **fields: object) -> Task:
    name = str(fields.pop("name", guest.rpartition("/")[2]))
    spec = TaskSpec(name=name, artifact=await kept(node, guest), **fields)  # type: ignore[arg-type]
    return await node.register(spec)


async def started(node: Node, id: str) -> None:
    """Once its guest has said something."""
    async for _ in node.logs(id, follow=True):
        return


async def cut(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


# Artifacts


async def test_bytes_are_kept_under_their_digest_and_come_back(node: Node) -> None:
    data = guest_path("hello").read_bytes()
    artifact = await node.put_artifact(data, name="hello", version="1")
    assert artifact.digest == hashlib.sha256(data).hexdigest()
    assert (artifact.size, artifact.name, artifact.version) == (len(data), "hello", "1")
    assert await node.artifact(artifact.digest) == artifact
    assert await node.artifact(artifact.digest[:8]) == artifact
    assert b"".join([part async for part in node.read_artifact(artifact.digest)]) == data


async def test_bytes_in_chunks_are_the_same_artifact(node: Node) -> None:
    data = guest_path("hello").read_bytes()
    whole = await node.put_artifact(data)
    assert await node.put_artifact(cut(data, 1000)) == whole
    assert [found.digest for found in await node.artifacts()] == [whole.digest]


async def test_bytes_of_another_digest_are_refused(node: Node) -> None:
    with pytest.raises(errors.InvalidArgument):
        await node.put_artifact(guest_path("hello").read_bytes(), digest="0" * 64)
    assert await node.artifacts() == []


async def test_what_is_no_module_is_refused(node: Node) -> None:
    with pytest.raises(errors.ModuleInvalid):
        await node.put_artifact(b"this is text")


async def test_an_artifact_stays_while_a_task_needs_it(node: Node) -> None:
    task = await task_of(node, "hello")
    with pytest.raises(errors.InUse):
        await node.delete_artifact(task.spec.artifact)
    await node.unregister(task.name)
    assert (await node.delete_artifact(task.spec.artifact)).digest == task.spec.artifact
    with pytest.raises(errors.NotFound):
        await node.artifact(task.spec.artifact)


async def test_artifacts_come_in_pages(node: Node) -> None:
    digests = sorted([await kept(node, guest) for guest in ("hello", "wasi/echo", "exit_code")])
    first = await node.artifacts(limit=2)
    rest = await node.artifacts(limit=2, after=first[-1].digest)
    assert [found.digest for found in (*first, *rest)] == digests


# Tasks


async def test_a_task_is_found_by_its_name_and_its_id(node: Node) -> None:
    task = await task_of(node, "hello", description="greets", env={"A": "1"})
    assert task.version == 1
    assert await node.task("hello") == await node.task(task.id) == task
    assert task.spec.env == {"A": "1"}


async def test_the_same_spec_again_is_no_error_and_another_one_is(node: Node) -> None:
    task = await task_of(node, "hello")
    assert await node.register(task.spec) == task
    with pytest.raises(errors.AlreadyExists):
        await task_of(node, "hello", priority="high")


async def test_an_update_is_the_next_version(node: Node) -> None:
    task = await task_of(node, "hello")
    spec = TaskSpec(name="hello", artifact=task.spec.artifact, priority="high")
    assert (await node.update(spec)).version == 2
    assert (await node.task("hello")).spec.priority == "high"
    with pytest.raises(errors.Conflict):
        await node.update(spec, if_version=1)
    with pytest.raises(errors.NotFound):
        await node.update(TaskSpec(name="other", artifact=task.spec.artifact))


async def test_a_task_needs_an_artifact_that_is_there(node: Node) -> None:
    with pytest.raises(errors.NotFound):
        await node.register(TaskSpec(name="hello", artifact="0" * 64))


async def test_tasks_come_by_name_in_pages(node: Node) -> None:
    for name in ("b", "c", "a"):
        await task_of(node, "hello", name=name)
    first = await node.tasks(limit=2)
    assert [task.name for task in first] == ["a", "b"]
    assert [task.name for task in await node.tasks(limit=2, after="b")] == ["c"]


async def test_an_inactive_task_takes_no_calls(node: Node) -> None:
    task = await task_of(node, "hello")
    await node.set_task_status(task.name, "inactive")
    assert [found.name for found in await node.tasks(status="inactive")] == ["hello"]
    with pytest.raises(errors.SpearError):
        await node.invoke(task.name)
    await node.set_task_status(task.name, "active")
    assert (await node.invoke(task.name)).completed


@pytest.mark.parametrize("method", ["task", "unregister", "invoke", "submit"])
async def test_a_task_that_is_not_there_is_not_found(node: Node, method: str) -> None:
    with pytest.raises(errors.NotFound, match="nobody"):
        await getattr(node, method)("nobody")


# Executions


async def test_a_call_gives_the_record_with_its_output(node: Node) -> None:
    task = await task_of(node, "hello")
    found = await node.invoke("hello")
    assert (found.status, found.cause, found.exit_code) == ("completed", "exit", 0)
    assert found.output == b"Hello, SPEAR!\n"
    assert (found.task_name, found.task_id, found.task_version) == ("hello", task.id, 1)
    assert found.created_ns
    assert found.finished_ns >= found.started_ns >= found.created_ns
    assert found.mode == "sync"


async def test_input_arguments_and_environment_reach_the_guest(node: Node) -> None:
    await task_of(node, "wasi/echo")
    data = bytes(range(256)) * 100
    assert (await node.invoke("echo", data)).output == data
    await task_of(node, "environ", args=("of the task",), env={"A": "1", "B": "1"})
    plain = (await node.invoke("environ")).output.decode()
    assert "of the task" in plain
    call = Invocation(args=("of the call",), env={"B": "2"})
    said = (await node.invoke("environ", b"", call)).output.decode()
    assert "of the call" in said
    assert "of the task" not in said
    assert "env A=1" in said
    assert "env B=2" in said


async def test_a_spec_runs_without_a_registered_task(node: Node) -> None:
    spec = TaskSpec(name="once", artifact=await kept(node, "hello"))
    found = await node.invoke(spec)
    assert (found.output, found.task_id, found.task_name) == (b"Hello, SPEAR!\n", "", "once")
    assert await node.tasks() == []


async def test_how_a_guest_failed_is_in_the_record_and_no_exception(node: Node) -> None:
    await task_of(node, "exit_code")
    left = await node.invoke("exit_code", b"", Invocation(args=("3",)))
    assert (left.status, left.cause, left.exit_code) == ("failed", "exit", 3)
    await task_of(node, "trap/trap")
    trapped = await node.invoke("trap")
    assert (trapped.status, trapped.cause) == ("failed", "trap")
    assert trapped.error is not None
    assert trapped.error.code == "TRAP"
    assert trapped.error.backtrace[0].function


async def test_a_deadline_ends_the_guest(node: Node) -> None:
    await task_of(node, "loop/loop")
    found = await node.invoke("loop", b"", Invocation(timeout_ns=50_000_000))
    assert (found.status, found.cause) == ("timeout", "deadline")
    said = (
        "the guest was stopped at its deadline of 0.05 s"  # what was asked for, not what was left
    )
    assert found.error is not None
    assert (found.error.code, found.error.message) == ("DEADLINE", said)


async def test_a_task_has_a_deadline_too(node: Node) -> None:
    await task_of(node, "loop/loop", limits=Limits(timeout_ns=50_000_000))
    assert (await node.invoke("loop")).status == "timeout"


async def test_submitted_work_goes_on_by_itself(node: Node) -> None:
    await task_of(node, "wasi/echo")
    accepted = await node.submit("echo", b"for later")
    assert accepted.mode == "async"
    ended = await node.wait(accepted.id)
    assert (ended.id, ended.status, ended.output) == (accepted.id, "completed", b"for later")
    assert (await node.execution(accepted.id)).output == b""
    assert (await node.execution(accepted.id, include_output=True)).output == b"for later"


async def test_a_large_result_is_read_in_parts(node: Node) -> None:
    await task_of(node, "wasi/echo")
    data = bytes(range(251)) * 1000
    found = await node.invoke("echo", data)
    assert found.output_bytes == len(data)
    assert found.output_digest
    assert found.output in (b"", data)
    assert b"".join([part async for part in node.read_result(found.id)]) == data


async def test_the_caller_chooses_the_id(node: Node) -> None:
    await task_of(node, "hello")
    id = Ids(Clock()).next()
    assert (await node.invoke("hello", b"", Invocation(execution_id=id))).id == id
    assert (await node.execution(id)).completed


async def test_the_same_idempotency_key_is_the_same_execution(node: Node) -> None:
    await task_of(node, "wasi/echo")
    call = Invocation(idempotency_key="monday")
    first = await node.submit("echo", b"one", call)
    again = await node.submit("echo", b"one", call)
    assert again.id == first.id
    other = await node.submit("echo", b"one", Invocation(idempotency_key="tuesday"))
    assert other.id != first.id


async def test_what_waits_gives_up_and_the_execution_goes_on(node: Node) -> None:
    await task_of(node, "loop/loop")
    accepted = await node.submit("loop")
    with pytest.raises(errors.DeadlineExceeded):
        await node.wait(accepted.id, timeout_ns=20_000_000)
    assert not (await node.execution(accepted.id)).ended
    await node.cancel(accepted.id)


async def test_cancelling_ends_it_and_says_why(node: Node) -> None:
    await task_of(node, "loop/loop")
    accepted = await node.submit("loop")
    await started(node, accepted.id)
    ended = await node.cancel(accepted.id, "wrong input")
    assert (ended.status, ended.cause) == ("terminated", "cancelled")
    assert ended.error is not None
    assert "wrong input" in ended.error.message
    assert (await node.cancel(accepted.id)).status == "terminated"


async def test_a_caller_that_goes_away_ends_its_guest(node: Node) -> None:
    await task_of(node, "loop/loop")
    id = Ids(Clock()).next()
    call = asyncio.ensure_future(node.invoke("loop", b"", Invocation(execution_id=id)))
    async for found in node.watch():
        if found.id == id and found.status == "running":
            break
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await node.wait(id)).status == "terminated"


async def test_executions_come_from_the_newest_on_in_pages(node: Node) -> None:
    await task_of(node, "hello")
    ids = [(await node.invoke("hello")).id for _ in range(3)]
    first = await node.executions(task="hello", limit=2)
    rest = await node.executions(task="hello", limit=2, page_token=first.next_page_token)
    assert [found.id for found in (*first.executions, *rest.executions)] == ids[::-1]
    assert rest.next_page_token == ""
    assert (await node.executions(status="failed")).executions == ()


async def test_a_watch_of_one_goes_from_now_to_its_end(node: Node) -> None:
    await task_of(node, "loop/loop")
    accepted = await node.submit("loop")
    await started(node, accepted.id)
    seen: list[str] = []
    async for found in node.watch(id=accepted.id):
        seen.append(found.status)
        if len(seen) == 1:
            await node.cancel(accepted.id)
    assert seen[0] == "running"
    assert seen[-1] == "terminated"


async def test_a_watch_of_a_task_sees_what_comes(node: Node) -> None:
    await task_of(node, "hello")
    await task_of(node, "wasi/echo")
    watching = node.watch(task="hello")
    first = asyncio.ensure_future(anext(watching))
    while not first.done():  # it may begin after an invocation, never before
        await node.invoke("echo")
        await node.invoke("hello")
    found: Execution = await first
    assert found.task_name == "hello"
    await watching.aclose()  # type: ignore[attr-defined]


async def test_an_ended_execution_can_be_forgotten(node: Node) -> None:
    await task_of(node, "loop/loop")
    accepted = await node.submit("loop")
    with pytest.raises(errors.InUse):
        await node.remove(accepted.id)
    await node.cancel(accepted.id)
    assert (await node.remove(accepted.id)).id == accepted.id
    with pytest.raises(errors.NotFound):
        await node.execution(accepted.id)


@pytest.mark.parametrize("method", ["execution", "wait", "cancel", "remove"])
async def test_an_execution_that_is_not_there_is_not_found(node: Node, method: str) -> None:
    with pytest.raises(errors.NotFound):
        await getattr(node, method)(UNKNOWN)


@pytest.mark.parametrize("method", ["read_result", "logs"])
async def test_a_stream_of_what_is_not_there_is_not_found(node: Node, method: str) -> None:
    with pytest.raises(errors.NotFound):
        await anext(getattr(node, method)(UNKNOWN))


# Logs


async def test_a_log_has_its_lines_in_order(node: Node) -> None:
    await task_of(node, "hello")
    found = await node.invoke("hello")
    lines = [line for line in await logged(node, found.id) if line.stream == "log"]
    assert lines[0].message == "hello from a guest"
    assert lines[1].message.startswith("the time is ")
    assert [line.level for line in lines] == ["info", "info"]
    assert lines[0].execution_id == found.id
    assert lines[0].seq < lines[1].seq


async def logged(node: Node, id: str, after_seq: int = 0) -> list[object]:
    return [line async for batch in node.logs(id, after_seq=after_seq) for line in batch]


async def test_a_log_goes_on_after_a_line(node: Node) -> None:
    await task_of(node, "hello")
    found = await node.invoke("hello")
    everything = await logged(node, found.id)
    assert await logged(node, found.id, after_seq=1) == everything[1:]


async def test_a_followed_log_ends_with_the_execution(node: Node) -> None:
    await task_of(node, "loop/loop")
    accepted = await node.submit("loop")
    messages: list[str] = []
    async for batch in node.logs(accepted.id, follow=True):
        if not messages:
            await node.cancel(accepted.id)
        messages += [line.message for line in batch if line.stream == "log"]
    assert messages[0].startswith("looping")


# Objects


async def test_an_object_comes_back_with_what_is_known_of_it(node: Node) -> None:
    put = await node.put_object("shared/a", b"value", metadata={"kind": "text"})
    info, value = await node.get_object("shared/a")
    assert value == b"value"
    assert (info.key, info.size, info.version) == ("shared/a", 5, put.version)
    assert info.metadata == {"kind": "text"}
    assert await node.stat_object("shared/a") == info


@pytest.mark.parametrize("size", [0, 1 << 20, (1 << 20) + 1, 3 << 20])
async def test_an_object_of_any_size_comes_back_whole(node: Node, size: int) -> None:
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    await node.put_object("shared/large", data, metadata={"kind": "any"})
    info, value = await node.get_object("shared/large")
    assert value == data
    assert (info.size, info.metadata) == (size, {"kind": "any"})


async def test_versions_guard_an_object(node: Node) -> None:
    first = await node.put_object("shared/a", b"1", if_version=0)
    second = await node.put_object("shared/a", b"2", if_version=first.version)
    assert second.version > first.version
    with pytest.raises(errors.VersionConflict) as caught:
        await node.put_object("shared/a", b"3", if_version=first.version)
    assert (caught.value.expected, caught.value.actual) == (first.version, second.version)
    with pytest.raises(errors.VersionConflict):
        await node.delete_object("shared/a", if_version=first.version)
    await node.delete_object("shared/a", if_version=second.version)
    with pytest.raises(errors.ObjectNotFound):
        await node.get_object("shared/a")


async def test_an_object_is_not_overwritten_unless_asked(node: Node) -> None:
    await node.put_object("shared/a", b"1")
    with pytest.raises((errors.AlreadyExists, errors.VersionConflict)):
        await node.put_object("shared/a", b"2", overwrite=False)
    assert (await node.get_object("shared/a"))[1] == b"1"


async def test_references_and_pins_keep_an_object(node: Node) -> None:
    await node.put_object("shared/a", b"1")
    assert await node.add_object_ref("shared/a", 2) == 2
    with pytest.raises(errors.ObjectInUse):
        await node.delete_object("shared/a")
    assert await node.remove_object_ref("shared/a") == (1, False)
    await node.pin_object("shared/a")
    assert (await node.remove_object_ref("shared/a"))[0] == 0
    assert (await node.stat_object("shared/a")).pinned
    with pytest.raises(errors.ObjectInUse):
        await node.delete_object("shared/a")
    await node.unpin_object("shared/a")
    await node.delete_object("shared/a")


async def test_objects_are_listed_by_prefix_in_pages(node: Node) -> None:
    for key in ("shared/b/1", "shared/b/2", "shared/a", "shared/b/3"):
        await node.put_object(key, b"")
    first = await node.list_objects("shared/b/", limit=2)
    rest = await node.list_objects("shared/b/", limit=2, start_after=first.next_start_after)
    keys = [info.key for info in (*first.objects, *rest.objects)]
    assert keys == ["shared/b/1", "shared/b/2", "shared/b/3"]
    assert rest.next_start_after == ""


async def test_versions_guard_references_and_pins(node: Node) -> None:
    first = (await node.put_object("shared/a", b"1")).version
    assert await node.add_object_ref("shared/a", if_version=first) == 1
    await node.pin_object("shared/a", if_version=first)
    second = (await node.put_object("shared/a", b"2")).version
    for change in (
        node.add_object_ref, node.remove_object_ref, node.pin_object, node.unpin_object,
    ):  # fmt: skip
        with pytest.raises(errors.VersionConflict, match=f"is at version {second}"):
            await change("shared/a", if_version=first)  # type: ignore[operator]
    info = await node.stat_object("shared/a")
    assert (info.ref_count, info.pinned) == (1, True)
    assert await node.remove_object_ref("shared/a", if_version=second) == (0, False)
    await node.unpin_object("shared/a", if_version=second)
    assert not (await node.stat_object("shared/a")).pinned


async def test_changes_under_a_prefix_are_watched(node: Node) -> None:
    await node.put_object("shared/w/old", b"1")
    await node.put_object("shared/other", b"1")
    watching = node.watch_objects("shared/w/", existing=True)
    old = await anext(watching)
    assert (old.info.key, old.info.size, old.deleted) == ("shared/w/old", 1, False)
    put = await node.put_object("shared/w/new", b"22")
    await node.put_object("shared/other", b"2")
    new = await anext(watching)
    assert (new.info.key, new.info.version, new.deleted) == ("shared/w/new", put.version, False)
    again = await node.put_object("shared/w/old", b"3")
    assert (await anext(watching)).info.version == again.version
    await node.delete_object("shared/w/new")
    gone = await anext(watching)
    assert (gone.info.key, gone.deleted) == ("shared/w/new", True)
    await watching.aclose()  # type: ignore[attr-defined]


async def test_a_snapshot_has_the_objects_under_a_prefix_by_key(node: Node) -> None:
    sizes = {"b": 0, "a": 10, "large": 3 << 20, "c": 100_000, "z": 1}
    for name, size in sizes.items():
        await node.put_object(f"shared/s/{name}", bytes([size % 251]) * size, metadata={"n": name})
    await node.put_object("shared/t", b"")
    found = [pair async for pair in node.snapshot_objects("shared/s/")]
    assert [(info.key, len(value)) for info, value in found] == [
        (f"shared/s/{name}", size) for name, size in sorted(sizes.items())
    ]
    for info, value in found:
        assert (info, value) == await node.get_object(info.key)
    assert [pair async for pair in node.snapshot_objects("shared/none/")] == []


ACCOUNTS = [f"shared/account/{number:03}" for number in range(600)]  # several pages, messages


async def pay(node: Node, giver: str, taker: str) -> None:
    """Moves one from an account to another."""
    (given, gives), (taken, takes) = await node.get_object(giver), await node.get_object(taker)
    await node.transact(
        {giver: given.version, taker: taken.version},
        {giver: _money(int(gives) - 1), taker: _money(int(takes) + 1)},
    )


def _money(amount: int) -> bytes:
    return str(amount).zfill(500).encode()


async def test_a_snapshot_is_of_one_moment_whoever_writes_while_it_is_read(node: Node) -> None:
    await node.transact({}, dict.fromkeys(ACCOUNTS, _money(100)))
    for _ in range(3):
        total, count = 0, 0
        async for info, value in node.snapshot_objects("shared/account/"):
            assert info.key == ACCOUNTS[count]
            if count % 100 == 0:
                await pay(node, ACCOUNTS[-1], ACCOUNTS[0])
                await pay(node, ACCOUNTS[3], ACCOUNTS[-2])
                await node.put_object(f"shared/account/new{count}", b"7")
                await node.delete_object(f"shared/account/new{count}")
            total, count = total + int(value), count + 1
        assert (total, count) == (100 * len(ACCOUNTS), len(ACCOUNTS))


async def test_the_versions_of_a_snapshot_are_reads_of_a_transaction(node: Node) -> None:
    await node.transact({}, {"shared/v/a": b"1", "shared/v/b": b"2"})
    found = [pair async for pair in node.snapshot_objects("shared/v/")]
    reads = {info.key: info.version for info, _ in found}
    await node.transact(reads, {"shared/v/sum": b"".join(value for _, value in found)})
    await node.put_object("shared/v/a", b"3")
    with pytest.raises(errors.VersionConflict):
        await node.transact(reads, {"shared/v/sum": b"late"})


async def test_all_writes_of_a_transaction_or_none(node: Node) -> None:
    one = await node.put_object("shared/one", b"1")
    await node.put_object("shared/gone", b"x")
    versions = await node.transact(
        {"shared/one": one.version, "shared/new": 0},
        {"shared/one": b"2", "shared/new": b"n", "shared/gone": None},
    )
    assert versions["shared/one"] > one.version
    assert (await node.get_object("shared/new"))[1] == b"n"
    with pytest.raises(errors.ObjectNotFound):
        await node.stat_object("shared/gone")
    with pytest.raises(errors.VersionConflict):
        await node.transact({"shared/one": one.version}, {"shared/new": b"lost"})
    assert (await node.get_object("shared/new"))[1] == b"n"


# Schedules, instances, the node


async def test_a_schedule_is_kept_and_says_when_it_is_due(node: Node) -> None:
    await task_of(node, "hello")
    spec = ScheduleSpec(
        task="hello", every_ns=3600 * 10**9, input=b"x", name="hourly",
        invocation=Invocation(args=("Ada",), priority="low"),
    )  # fmt: skip
    made = await node.add_schedule(spec)
    assert made.spec == spec
    assert made.next_ns > made.created_ns
    assert await node.schedule(made.id) == made
    assert await node.schedules() == [made]
    assert (await node.remove_schedule(made.id)).id == made.id
    with pytest.raises(errors.NotFound):
        await node.schedule(made.id)


async def test_a_schedule_says_when_in_one_way(node: Node) -> None:
    await task_of(node, "hello")
    with pytest.raises(errors.InvalidArgument):
        await node.add_schedule(ScheduleSpec(task="hello"))
    with pytest.raises(errors.NotFound):
        await node.add_schedule(ScheduleSpec(task="nobody", every_ns=10**9))


async def test_an_instance_that_is_not_there_is_not_found(node: Node) -> None:
    assert await node.instances() == []
    with pytest.raises(errors.NotFound):
        await node.destroy_instance(UNKNOWN)


async def test_a_backup_goes_into_a_new_folder(node: Node, tmp_path: Path) -> None:
    await task_of(node, "hello")
    folder = str(tmp_path / "backup")
    counts = await node.backup(folder)
    assert counts
    assert all(isinstance(count, int) for count in counts.values())
    with pytest.raises(errors.AlreadyExists):
        await node.backup(folder)


async def test_garbage_is_what_nothing_needs(node: Node) -> None:
    await task_of(node, "hello")
    await node.collect_garbage()
    assert (await node.invoke("hello")).completed


async def test_a_node_has_model_backends_and_tries_one(node: Node) -> None:
    stub = next(found for found in await node.models() if found.name == "stub")
    assert (stub.kind, stub.available) == ("stub", True)
    tried = await node.test_model("stub", "hello", model="small")
    assert tried.model == "small"
    assert tried.backend == "stub"
    assert tried.answer
    assert tried.completion_tokens
    with pytest.raises(errors.NotFound):
        await node.test_model("nobody")


async def test_a_node_says_who_it_is_and_what_it_counts(node: Node) -> None:
    info = await node.info()
    assert {"node_name", "version"} <= info.keys()
    assert all(isinstance(count, int) for group in (await node.stats()).values()
               for count in group.values())  # fmt: skip

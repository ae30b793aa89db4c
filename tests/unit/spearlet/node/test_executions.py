"""An execution goes from its acceptance to exactly one end, whatever comes between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from node_runs import CODE, DIGEST, INSTANT, Bench, answer, bench, until

from spear.config import Config
from spear.errors import (
    AlreadyExists,
    DeadlineExceeded,
    InUse,
    InvalidArgument,
    KvFull,
    NodeClosed,
    NotFound,
    QueueFull,
    TaskInactive,
)
from spear.records.execution import Execution, Invocation
from spear.records.schedule import ScheduleSpec
from spear.records.task import Limits, Pool, Resources, Retry, TaskSpec
from spear.spearlet.node import plan
from spear.spearlet.node.inputs import Inputs

SECOND = 10**9
AGAIN = Retry(attempts=3, backoff_ns=INSTANT, on=("TRAP",))


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path) as made:
        yield made


async def begun(node: Bench, **more: object) -> tuple[asyncio.Task[Execution], object]:
    """An invocation whose guest runs."""
    call = asyncio.ensure_future(node.services.invoke("work", b"in", Invocation(**more)))  # type: ignore[arg-type]
    return call, await node.run(len(node.runtime.runs))


# ---- ends


async def test_a_guest_that_answers_completes_its_execution(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        execution = await services.invoke("work", b"question")
        assert (execution.status, execution.output) == ("completed", b"question")
        assert (execution.task_name, execution.task_version) == ("work", 1)
        assert execution.artifact == DIGEST
        assert execution.durability == "crash"
        assert await services.execution(execution.id, include_output=True) == execution


async def test_an_async_execution_is_of_class_power_from_its_acceptance_on(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        accepted = await services.submit("work", b"question")
        assert accepted.durability == "power"
        ended = await services.wait(accepted.id)
        assert (ended.id, ended.status, ended.durability) == (accepted.id, "completed", "power")
        assert ended.output == b"question"


async def test_a_trap_fails_it_with_the_trap(node: Bench):
    await node.ready()
    call, run = await begun(node)
    run.finish("failed", "trap", message="unreachable", trap="unreachable")
    execution = await call
    assert execution.status == "failed"
    assert execution.error is not None
    assert (execution.error.code, execution.error.trap) == ("TRAP", "unreachable")


async def test_a_log_is_followed_from_before_its_first_line_to_its_end(node: Bench):
    services = await node.ready()
    call, run = await begun(node)
    (work,) = services._executions.works()
    id, seen = work.execution.id, []

    async def follow() -> None:
        async for lines in services.logs(id, follow=True):
            seen.extend((line.seq, line.message) for line in lines)

    following = asyncio.ensure_future(follow())
    run.log("one")
    await until(lambda: seen == [(1, "one")])
    run.log("two")
    run.finish()
    await call
    await asyncio.wait_for(following, 20)
    assert seen == [(1, "one"), (2, "two")]
    assert await node.logged(id) == ["one", "two"]


async def test_the_log_of_an_attempt_goes_on_in_the_next(node: Bench):
    services = await node.ready(retry=AGAIN)
    accepted = await services.submit("work")
    for number in (0, 1):
        run = await node.run(number)
        run.log(f"attempt {number}")
        run.finish(*([("failed", "trap"), ("completed",)][number]))
    await services.wait(accepted.id)
    assert await node.logged(accepted.id) == ["attempt 0", "attempt 1"]
    assert services._parts.logs.stats()["open"] == 0


async def test_what_a_call_says_its_input_is_is_kept_and_given_back(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        call = Invocation(content_type="text/plain")
        accepted = await services.submit("work", b"in", call)
        assert accepted.content_type == "text/plain"
        await services.wait(accepted.id)
        services = await node.crash()
        assert (await services.execution(accepted.id)).content_type == "text/plain"


async def test_a_large_result_is_kept_in_a_file_and_given_whole(tmp_path: Path):
    large = bytes(range(256)) * 1000
    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        execution = await services.invoke("work", large)
        assert execution.output == large
        kept = await services.execution(execution.id)
        assert (kept.output, kept.output_bytes) == (b"", len(large))
        assert kept.output_digest
        assert b"".join([part async for part in services.read_result(execution.id)]) == large
        assert (await services.wait(execution.id)).output == large


async def test_a_damaged_result_is_told_not_given(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        execution = await services.invoke("work", b"x" * 100_000)
        (path,) = tmp_path.glob(f"results/*/{execution.output_digest}")
        path.write_bytes(b"y" * 100_000)
        with pytest.raises(Exception, match="damaged"):
            await services.wait(execution.id)


# ---- the same one twice


@pytest.mark.parametrize("verb", ["invoke", "submit"])
async def test_the_same_key_twice_is_the_same_execution(node: Bench, verb: str):
    services = await node.ready()
    call = getattr(services, verb)
    once = asyncio.ensure_future(call("work", b"1", Invocation(idempotency_key="k")))
    again = asyncio.ensure_future(call("work", b"2", Invocation(idempotency_key="k")))
    run = await node.run()
    run.finish()
    first, second = await once, await again
    assert first.id == second.id
    assert len(node.runtime.runs) == 1
    third = await call("work", b"3", Invocation(idempotency_key="k"))
    assert third.id == first.id
    assert len(node.runtime.runs) == 1


async def test_a_key_is_one_of_its_task(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        await services.register(TaskSpec(name="other", artifact=DIGEST))
        one = await services.invoke("work", b"", Invocation(idempotency_key="k"))
        other = await services.invoke("other", b"", Invocation(idempotency_key="k"))
        assert one.id != other.id


async def test_a_key_holds_over_a_restart(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        first = await services.invoke("work", b"", Invocation(idempotency_key="k"))
        services = await node.crash()
        second = await services.invoke("work", b"", Invocation(idempotency_key="k"))
        assert second.id == first.id
        assert node.runtime.runs == []


async def test_an_id_chosen_by_the_caller_is_the_executions(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        id = "0190b0c0-0000-7000-8000-000000000001"
        first = await services.invoke("work", b"1", Invocation(execution_id=id))
        assert first.id == id
        second = await services.invoke("work", b"2", Invocation(execution_id=id))
        assert (second.id, second.output) == (id, b"1")
        await services.register(TaskSpec(name="other", artifact=DIGEST))
        with pytest.raises(AlreadyExists, match="'work'"):
            await services.invoke("other", b"", Invocation(execution_id=id))


# ---- queues and limits


async def test_more_than_the_concurrency_wait_and_all_end(node: Bench):
    services = await node.ready(concurrency=2)
    calls = [asyncio.ensure_future(services.invoke("work", b"%d" % n)) for n in range(5)]
    await node.run(1)
    await until(lambda: services._executions.stats()["queued"] == 3)
    assert len(node.runtime.runs) == 2
    for at in range(5):
        (await node.run(at)).finish()
    assert {(await call).status for call in calls} == {"completed"}
    assert services._parts.admission.stats()["running"] == 0


async def test_a_full_queue_refuses_and_leaves_nothing(node: Bench):
    services = await node.ready(concurrency=1, queue=1)
    calls = [asyncio.ensure_future(services.invoke("work")) for _ in range(2)]
    await until(lambda: services._executions.stats()["queued"] == 1)
    said = "the task has 1 execution waiting, its most: come back in about 1s"
    with pytest.raises(QueueFull, match=said) as refusal:
        await services.submit("work")
    assert refusal.value.retry_after_ms == 1000
    (await node.run(0)).finish()
    (await node.run(1)).finish()
    for call in calls:
        await call
    assert len((await services.executions()).executions) == 2
    assert services._executions.stats()["live"] == 0


async def test_a_reservation_that_the_node_never_has_is_refused(node: Bench):
    services = await node.ready(resources=Resources(cpu_millis=1_000_000))
    with pytest.raises(InvalidArgument, match="processors"):
        await services.invoke("work")
    assert services._executions.stats()["live"] == 0


async def test_inputs_in_memory_are_bounded(node: Bench):
    services = await node.ready()
    services._executions._inputs = Inputs(services._parts.files.inputs, 10)
    call = asyncio.ensure_future(services.invoke("work", b"12345678"))
    run = await node.run()
    with pytest.raises(Exception, match="inputs of executions"):
        await services.invoke("work", b"12345678")
    run.finish()
    await call
    call = asyncio.ensure_future(services.invoke("work", b"12345678"))
    (await node.run(1)).finish()
    assert (await call).completed


async def test_waiting_for_all_of_its_time_is_a_timeout(node: Bench):
    services = await node.ready(concurrency=1)
    call, run = await begun(node)
    late = await services.invoke("work", b"", Invocation(timeout_ns=1_000_000))
    assert late.status == "timeout"
    assert late.error is not None
    assert "queue" in late.error.message
    run.finish()
    await call
    assert len(node.runtime.runs) == 1


# ---- attempts


async def test_a_named_error_is_tried_again(node: Bench):
    services = await node.ready(retry=AGAIN)
    accepted = await services.submit("work", b"in")
    (await node.run(0)).finish("failed", "trap")
    (await node.run(1)).finish("failed", "trap")
    (await node.run(2)).finish()
    ended = await services.wait(accepted.id)
    assert (ended.status, ended.attempt) == ("completed", 3)
    assert node.runtime.runs[2].invocation.stdin == b"in"


async def test_all_attempts_together_have_the_time_that_a_waiting_caller_gave(node: Bench):
    services = await node.ready(retry=AGAIN)
    call = asyncio.ensure_future(services.invoke("work", b"", Invocation(timeout_ns=10 * SECOND)))
    run = await node.run(0)
    node.clock.advance(4 * SECOND)
    run.finish("failed", "trap")
    assert (await node.run(1)).invocation.timeout_ns == 6 * SECOND
    node.clock.advance(6 * SECOND)
    node.runtime.runs[1].finish("failed", "trap")
    execution = await call  # no time is left for the third
    assert (execution.attempt, execution.error.code) == (2, "TRAP")
    assert len(node.runtime.runs) == 2


async def test_nobody_waits_for_a_submitted_one_so_each_attempt_has_all_of_its_time(node: Bench):
    services = await node.ready(retry=AGAIN)
    call = Invocation(timeout_ns=10 * SECOND)
    accepted = await services.submit("work", b"", call)
    run = await node.run(0)
    node.clock.advance(9 * SECOND)
    run.finish("failed", "trap")
    assert (await node.run(1)).invocation.timeout_ns == 10 * SECOND
    node.runtime.runs[1].finish()
    assert (await services.wait(accepted.id)).completed


async def test_an_attempt_that_waits_in_the_queue_is_given_up_with_its_callers_time(node: Bench):
    services = await node.ready(retry=AGAIN, concurrency=1)
    call = asyncio.ensure_future(services.invoke("work", b"", Invocation(timeout_ns=SECOND // 50)))
    run = await node.run(0)
    other = await services.submit("work")
    run.finish("failed", "trap")
    await node.run(1)  # the other one has the place now, and keeps it
    execution = await call
    assert (execution.status, execution.attempt) == ("timeout", 2)
    node.runtime.runs[1].finish()
    await services.wait(other.id)


async def test_attempts_are_limited_and_the_last_error_is_told(node: Bench):
    services = await node.ready(retry=AGAIN)
    accepted = await services.submit("work")
    for at in range(3):
        (await node.run(at)).finish("failed", "trap", message=f"number {at}")
    ended = await services.wait(accepted.id)
    assert (ended.status, ended.attempt) == ("failed", 3)
    assert ended.error is not None
    assert ended.error.message == "number 2"


async def test_an_error_that_is_not_named_is_not_tried_again(node: Bench):
    services = await node.ready(retry=AGAIN)
    accepted = await services.submit("work")
    (await node.run(0)).finish("failed", "fuel")
    assert (await services.wait(accepted.id)).attempt == 1


async def test_while_it_rests_it_takes_no_place(node: Bench):
    long = Retry(attempts=2, backoff_ns=3600 * 10**9, backoff_max_ns=3600 * 10**9, on=("TRAP",))
    services = await node.ready(retry=long, concurrency=1)
    accepted = await services.submit("work")
    (await node.run(0)).finish("failed", "trap")
    await until(lambda: services._executions.stats()["resting"] == 1)
    pending = await services.execution(accepted.id)
    assert (pending.status, pending.attempt) == ("pending", 2)
    assert pending.next_attempt_ns > 0
    call = asyncio.ensure_future(services.invoke("work"))
    (await node.run(1)).finish()
    assert (await call).completed
    assert (await services.cancel(accepted.id, "enough")).status == "terminated"


# ---- cancel at every point


async def test_cancel_while_it_runs(node: Bench):
    services = await node.ready(retry=AGAIN)
    call, _ = await begun(node)
    (work,) = services._executions.works()
    ended = await services.cancel(work.execution.id, "enough")
    assert (ended.status, (await call).status) == ("terminated", "terminated")
    assert ended.attempt == 1


async def test_cancel_while_it_waits_in_the_queue(node: Bench):
    services = await node.ready(concurrency=1)
    call, run = await begun(node)
    waiting = await services.submit("work")
    assert waiting.status == "pending"
    ended = await services.cancel(waiting.id, "changed my mind")
    assert ended.status == "terminated"
    assert ended.error is not None
    assert ended.error.message == "the guest was cancelled before it began: changed my mind"
    ended = await services.cancel((await services.submit("work")).id)
    assert ended.error is not None
    assert ended.error.message == "the guest was cancelled before it began"
    run.finish()
    await call
    assert len(node.runtime.runs) == 1


async def test_cancel_before_its_acceptance_is_written(node: Bench):
    services = await node.ready()
    id = "0190b0c0-0000-7000-8000-000000000002"
    call = asyncio.ensure_future(services.invoke("work", b"", Invocation(execution_id=id)))
    while (work := services._executions.find(id)) is None:
        await asyncio.sleep(0)
    services._executions.cancel(work, "at once")
    assert (await call).status == "terminated"
    assert node.runtime.runs == []


async def test_cancel_of_an_ended_one_gives_its_record(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        execution = await services.invoke("work")
        assert (await services.cancel(execution.id)).status == "completed"


async def test_a_caller_that_goes_away_ends_its_guest(node: Bench):
    services = await node.ready()
    call, run = await begun(node)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await until(lambda: run.done)
    await until(lambda: services._executions.stats()["live"] == 0)
    (execution,) = (await services.executions()).executions
    assert execution.status == "terminated"


async def test_one_of_two_callers_going_away_changes_nothing(node: Bench):
    services = await node.ready()
    key = Invocation(idempotency_key="k")
    one = asyncio.ensure_future(services.invoke("work", b"", key))
    run = await node.run()
    two = asyncio.ensure_future(services.invoke("work", b"", key))
    await asyncio.sleep(0)
    two.cancel()
    await asyncio.gather(two, return_exceptions=True)
    assert not run.done
    run.finish()
    assert (await one).completed


async def test_what_was_submitted_by_the_same_key_goes_on_without_the_caller(node: Bench):
    services = await node.ready()
    key = Invocation(idempotency_key="k")
    call = asyncio.ensure_future(services.invoke("work", b"", key))
    run = await node.run()
    submitted = await services.submit("work", b"", key)
    assert (submitted.mode, submitted.durability) == ("sync", "crash")
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert not run.done
    run.finish()
    assert (await services.wait(submitted.id)).completed


# ---- waiting, watching, listing, removing


async def test_a_wait_may_be_given_up_and_the_execution_goes_on(node: Bench):
    services = await node.ready()
    accepted = await services.submit("work")
    run = await node.run()
    with pytest.raises(DeadlineExceeded, match="running"):
        await services.wait(accepted.id, timeout_ns=1_000_000)
    run.finish()
    assert (await services.wait(accepted.id)).completed


async def test_a_watcher_sees_each_state_and_stops_at_the_end(node: Bench):
    services = await node.ready(concurrency=1)
    call, run = await begun(node)
    accepted = await services.submit("work")
    seen: list[str] = []

    async def watch() -> None:
        async for execution in services.watch(id=accepted.id):
            seen.append(execution.status)  # noqa: PERF401 (it is looked at while it grows)

    watching = asyncio.ensure_future(watch())
    await until(lambda: seen == ["pending"])
    run.finish()
    await call
    second = await node.run(1)
    await until(lambda: seen == ["pending", "running"])
    second.finish()
    await asyncio.wait_for(watching, 20)
    assert seen == ["pending", "running", "completed"]


async def test_pages_list_every_execution_once_the_newest_first(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        await services.register(TaskSpec(name="other", artifact=DIGEST))
        made = []
        for number in range(25):
            node.clock.advance(1_000_000)
            name = "other" if number % 5 == 0 else "work"
            made.append((await services.invoke(name)).id)
        found, token = [], ""
        while True:
            page = await services.executions(limit=7, page_token=token)
            found += [execution.id for execution in page.executions]
            token = page.next_page_token
            if not token:
                break
        assert found == made[::-1]
        others = await services.executions(task="other")
        assert [execution.id for execution in others.executions] == made[::5][::-1]
        assert not (await services.executions(status="failed")).executions
        with pytest.raises(InvalidArgument, match="token"):
            await services.executions(page_token="nonsense")


async def test_a_removed_execution_is_forgotten_with_its_result(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        execution = await services.invoke("work", b"x" * 100_000, Invocation(idempotency_key="k"))
        await services.remove(execution.id)
        with pytest.raises(NotFound):
            await services.execution(execution.id)
        assert not list(tmp_path.glob(f"results/*/{execution.output_digest}"))
        assert not (await services.executions()).executions
        again = await services.invoke("work", b"", Invocation(idempotency_key="k"))
        assert again.id != execution.id


async def test_one_that_runs_is_not_removed(node: Bench):
    services = await node.ready()
    call, run = await begun(node)
    (work,) = services._executions.works()
    with pytest.raises(InUse, match="running"):
        await services.remove(work.execution.id)
    run.finish()
    await call


async def test_the_oldest_are_forgotten_first(tmp_path: Path):
    async with bench(tmp_path, answer, **{"history.count": 3}) as node:
        services = await node.ready()
        made = []
        for _ in range(8):
            node.clock.advance(1_000_000)
            made.append((await services.invoke("work")).id)
        assert node.node is not None
        await node.node._housekeeping.turn()
        page = await services.executions()
        assert [execution.id for execution in page.executions] == made[:-4:-1]
        services = await node.crash()
        assert services._history.count == 3


# ---- a full disk


async def test_without_room_nothing_is_accepted_and_the_caller_is_told(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        node.store.full = True
        with pytest.raises(KvFull):
            await services.invoke("work")
        with pytest.raises(KvFull):
            await services.submit("work")
        assert services._executions.stats()["live"] == 0
        node.store.full = False
        assert (await services.invoke("work")).completed


async def test_an_end_that_cannot_be_kept_is_told_as_volatile_and_kept_later(
    node: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("spear.spearlet.node.ends._AGAIN_S", 0.001)
    services = await node.ready()
    call, run = await begun(node)
    node.store.full = True
    run.write(b"result")
    run.finish()
    ended = await call
    assert (ended.status, ended.durability, ended.output) == ("completed", "volatile", b"result")
    assert (await services.execution(ended.id)).status == "completed"
    node.store.full = False
    await until(lambda: services._executions.known(ended.id) is None)
    services = await node.crash()
    assert (await services.execution(ended.id)).status == "completed"


# ---- tasks


async def test_an_inactive_task_refuses_calls(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        await services.set_task_status("work", "inactive")
        with pytest.raises(TaskInactive, match="activate"):
            await services.invoke("work")
        await services.set_task_status("work", "active")
        assert (await services.invoke("work")).completed


async def test_an_update_leaves_what_was_accepted_as_it_was(node: Bench):
    services = await node.ready(concurrency=1, args=("old",))
    call, run = await begun(node)
    waiting = await services.submit("work")
    task = await services.update(TaskSpec(name="work", artifact=DIGEST, args=("new",)))
    assert task.version == 2
    run.finish()
    await call
    second = await node.run(1)
    assert second.invocation.args == ("work", "old")
    second.finish()
    assert (await services.wait(waiting.id)).task_version == 1


async def test_unregistering_ends_what_waits_and_lets_run_what_runs(node: Bench):
    services = await node.ready(concurrency=1)
    call, run = await begun(node)
    waiting = await services.submit("work")
    await services.unregister("work", "no longer needed")
    ended = await services.wait(waiting.id)
    assert ended.status == "terminated"
    run.finish()
    assert (await call).completed
    with pytest.raises(NotFound):
        await services.invoke("work")


async def test_a_spec_without_a_task_is_planned_once(node: Bench, monkeypatch: pytest.MonkeyPatch):
    services = await node.ready()
    node.runtime._guest = answer
    made: list[TaskSpec] = []
    init = plan.Plan.__init__

    def counted(self: plan.Plan, spec: TaskSpec, config: Config) -> None:
        made.append(spec)
        init(self, spec, config)

    monkeypatch.setattr(plan.Plan, "__init__", counted)
    spec = TaskSpec(name="once", artifact=DIGEST, args=("a",))
    for _ in range(3):
        assert (await services.invoke(spec, b"in")).output == b"in"
    before = len(made)
    assert (await services.invoke(TaskSpec(name="once", artifact=DIGEST, args=("b",)))).completed
    assert 0 < before < len(made)
    first = len(made)
    await services.invoke(spec)
    assert len(made) == first
    await services.unregister("work")
    await services.delete_artifact(DIGEST)
    with pytest.raises(NotFound, match="artifact"):
        await services.invoke(spec)


async def test_a_task_without_its_artifact_is_refused(node: Bench):
    services = await node.start()
    with pytest.raises(NotFound, match="not on this node"):
        await services.register(TaskSpec(name="work", artifact="0" * 64))


async def test_the_same_spec_again_is_no_error_and_another_one_is(node: Bench):
    services = await node.ready()
    task = await services.register(TaskSpec(name="work", artifact=DIGEST))
    assert task.version == 1
    with pytest.raises(AlreadyExists, match="update"):
        await services.register(TaskSpec(name="work", artifact=DIGEST, args=("x",)))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"runtime": "process"}, "native programs"),
        ({"runtime": "no"}, "no runtime"),
        ({"priority": "no"}, "no priority"),
        ({"config": {"budget.call": "1"}}, "unknown key 'budget.call'; the nearest.*budget.calls"),
        ({"config": {"tasks.allowed": "[1]"}}, "a JSON array of texts"),
        ({"endpoint": "a b"}, "endpoint"),
        ({"webhook": "ftp://a/"}, "webhook 'ftp://a/': expected http://HOST"),
        ({"limits": Limits(timeout_ns=-1)}, "limits.timeout"),
        ({"retry": Retry(attempts=0)}, "retry.attempts"),
        ({"pool": Pool(isolation="none")}, "pool.isolation"),
        ({"env": {"A=B": "c"}}, "A=B"),
    ],
)
async def test_a_spec_that_cannot_run_is_refused(node: Bench, spec: dict[str, object], words: str):
    services = await node.start()
    await services.put_artifact(CODE)
    with pytest.raises(InvalidArgument, match=words):
        await services.register(TaskSpec(name="work", artifact=DIGEST, **spec))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"env": {"A=B": "c"}}, "'A=B' cannot name an environment variable"),
        ({"env": {"": "c"}}, "'' cannot name an environment variable"),
        ({"env": {"A\0": "c"}}, "without a NUL"),
        ({"env": {"A": "b\0c"}}, "without a NUL"),
        ({"args": ("a\0b",)}, "without a NUL"),
        ({"args": ("a" * (1 << 20),)}, "args and env take 1048578 bytes, more than 1048576"),
        ({"priority": "no"}, "no priority"),
        ({"timeout_ns": -1}, "timeout_ns"),
        ({"metadata": {"k": "\N{EURO SIGN}" * 22_000}}, "has 66001 bytes, the limit is 65536"),
        ({"metadata": {"k": "\ud800"}}, "UTF-8"),
    ],
)
async def test_a_call_that_cannot_run_is_refused_and_leaves_no_record(
    node: Bench, call: dict[str, object], words: str
):
    services = await node.ready()
    await services.register(TaskSpec(name="work", artifact=DIGEST))
    asked = Invocation(**call)  # type: ignore[arg-type]
    for begin in (services.invoke, services.submit):
        with pytest.raises(InvalidArgument, match=words):
            await begin("work", b"", asked)
    with pytest.raises(InvalidArgument, match=words):
        await services.add_schedule(ScheduleSpec(task="work", every_ns=10**9, invocation=asked))
    assert not (await services.executions()).executions


@pytest.mark.parametrize("url", ["hooks.example/", "http:///", "http://user:word@host/"])
async def test_a_call_whose_webhook_could_never_be_told_is_refused(node: Bench, url: str):
    services = await node.ready()
    call = Invocation(webhook=url)
    for asked in (
        services.invoke("work", b"", call),
        services.submit("work", b"", call),
        services.add_schedule(ScheduleSpec(task="work", every_ns=10**9, invocation=call)),
    ):
        with pytest.raises(InvalidArgument, match="webhook"):
            await asked
    assert await services.schedules() == []
    assert (await services.executions()).executions == ()


async def test_config_that_nothing_reads_is_kept_and_said_so(node: Bench):
    services = await node.start()
    await services.put_artifact(CODE)
    config = {"mcp.enabled": "true", "own.words": "1", "tasks.allowed": "a, b-*"}
    task = await services.register(TaskSpec(name="work", artifact=DIGEST, config=config))
    assert task.spec.config == config
    assert node.said.events.count("nothing reads this of a task's config") == 2


IN_VAIN = "a task names a backend in vain"


async def test_a_backend_that_a_task_names_in_vain_is_said_where_it_is_registered(node: Bench):
    services = await node.start()
    await services.put_artifact(CODE)
    for name, backends in (("right", "stub"), ("all", "*"), ("wrong", "stub, stbu")):
        config = {"llm.backends": backends}
        await services.register(TaskSpec(name=name, artifact=DIGEST, config=config))
    (told,) = [line for line in node.said.lines if line["event"] == IN_VAIN]
    assert told["task"] == "wrong"
    assert told["reason"] == (
        "the task's llm.backends names 'stbu', which is not there; the nearest one is 'stub'"
    )
    await services.update(TaskSpec(name="right", artifact=DIGEST, config=config))
    assert node.said.events.count(IN_VAIN) == 2


async def test_an_artifact_in_use_is_not_deleted(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        with pytest.raises(InUse, match="task 'work'"):
            await services.delete_artifact(DIGEST)
        await services.unregister("work")
        await services.delete_artifact(DIGEST[:12])
        with pytest.raises(NotFound):
            await services.artifact(DIGEST)


async def test_values_from_the_environment_are_looked_up_at_start_and_kept_nowhere(node: Bench):
    node.environ = {"NODE_KEY": "s3cret-canary"}
    services = await node.ready(env_from={"KEY": "NODE_KEY"})
    accepted = await services.submit("work")
    run = await node.run()
    assert run.invocation.env == {"KEY": "s3cret-canary"}
    run.log("my key is s3cret-canary")
    run.finish("failed", "trap", message="bad key s3cret-canary")
    ended = await services.wait(accepted.id)
    assert ended.error is not None
    assert ended.error.message == "bad key [redacted:KEY]"
    assert await node.logged(accepted.id) == ["my key is [redacted:KEY]"]
    kept = b"".join(key + value for key, value in node.rows.scan(b"", limit=10_000))
    files = b"".join(path.read_bytes() for path in node.folder.rglob("*") if path.is_file())
    assert b"canary" not in kept + files


async def test_a_value_that_the_environment_has_not_fails_the_execution(node: Bench):
    services = await node.ready(env_from={"KEY": "NODE_KEY"})
    execution = await services.invoke("work")
    assert execution.status == "failed"
    assert execution.error is not None
    assert "NODE_KEY" in execution.error.message


# ---- closing and restarting


async def test_a_closed_node_takes_no_more(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        await node.stop()
        with pytest.raises(NodeClosed):
            await services.invoke("work")


async def test_what_waits_goes_on_after_a_clean_restart(node: Bench):
    services = await node.ready(concurrency=1)
    call, _ = await begun(node)
    waiting = await services.submit("work", b"later")
    await node.stop()
    assert (await call).status == "terminated"
    services = await node.start()
    run = await node.run()
    assert run.invocation.stdin == b"later"
    run.finish()
    assert (await services.wait(waiting.id)).completed


async def test_what_waits_goes_on_after_a_crash(node: Bench):
    services = await node.ready(concurrency=1)
    await services.submit("work", b"first")
    waiting = await services.submit("work", b"x" * 100_000)
    await node.run()
    services = await node.crash(power=True)
    run = await node.run()
    assert run.invocation.stdin == b"x" * 100_000
    run.finish()
    assert (await services.wait(waiting.id)).completed


async def test_what_ran_at_a_crash_has_an_unknown_outcome(node: Bench):
    services = await node.ready()
    accepted = await services.submit("work")
    await node.run()
    services = await node.crash()
    ended = await services.wait(accepted.id)
    assert ended.status == "failed"
    assert ended.error is not None
    assert ended.error.code == "OUTCOME_UNKNOWN"
    assert node.runtime.runs == []


async def test_an_unknown_outcome_is_tried_again_where_the_task_says_so(node: Bench):
    retry = Retry(attempts=2, backoff_ns=INSTANT, on=("OUTCOME_UNKNOWN",))
    services = await node.ready(retry=retry)
    accepted = await services.submit("work", b"in")
    await node.run()
    services = await node.crash()
    run = await node.run()
    assert run.invocation.stdin == b"in"
    run.finish()
    ended = await services.wait(accepted.id)
    assert (ended.status, ended.attempt) == ("completed", 2)


async def test_a_sync_one_whose_caller_went_with_the_node_ends(node: Bench):
    services = await node.ready(concurrency=1)
    call, _ = await begun(node)
    late = asyncio.ensure_future(services.invoke("work"))
    await until(lambda: services._executions.stats()["queued"] == 1)
    services = await node.crash()
    found = {e.status: e.error.code for e in (await services.executions()).executions if e.error}
    assert found == {"failed": "OUTCOME_UNKNOWN", "terminated": "CANCELLED"}
    for lost in (call, late):
        lost.cancel()
    await asyncio.gather(call, late, return_exceptions=True)


async def test_ten_thousand_wait_and_go_on_after_a_crash(tmp_path: Path):
    async with bench(tmp_path, **{"queue.task": 10_000}) as node:
        services = await node.ready(concurrency=1)
        accepted = await asyncio.gather(*(services.submit("work") for _ in range(10_001)))
        with pytest.raises(QueueFull):
            await services.submit("work")
        assert services._executions.stats()["queued"] == 10_000
        services = await node.crash(power=True)
        await node.run()
        assert services._executions.stats()["queued"] == 9_999
        assert len(node.runtime.runs) == 1
        for execution in accepted[2:]:
            work = services._executions.find(execution.id)
            assert work is not None
            services._executions.cancel(work, "enough")
        await until(lambda: services._executions.stats()["queued"] == 0)
        node.runtime.runs[0].finish()
        await services.wait(accepted[1].id)
        assert services._executions.stats()["live"] == 0


async def test_without_a_task_a_key_is_one_of_its_module(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        other = await services.put_artifact(CODE + b" and another")
        one, two = (TaskSpec(name="once", artifact=digest) for digest in (DIGEST, other.digest))
        key = Invocation(idempotency_key="k")
        first = await services.invoke(one, b"1", key)
        assert (await services.invoke(one, b"2", key)).id == first.id
        assert (await services.invoke(two, b"3", key)).output == b"3"


async def test_a_back_off_goes_on_after_a_restart(node: Bench):
    long = Retry(attempts=2, backoff_ns=3600 * 10**9, backoff_max_ns=3600 * 10**9, on=("TRAP",))
    services = await node.ready(retry=long)
    accepted = await services.submit("work")
    (await node.run(0)).finish("failed", "trap")
    await until(lambda: services._executions.stats()["resting"] == 1)
    await services._parts.journal.kept()
    services = await node.crash(power=True)
    assert services._executions.stats()["resting"] == 1
    assert node.runtime.runs == []
    assert (await services.cancel(accepted.id)).status == "terminated"


async def test_a_back_off_ends_in_time_where_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    short = Retry(attempts=2, backoff_ns=10**6, backoff_max_ns=10**6, on=("TRAP",))
    async with bench(tmp_path) as node:
        services = await node.ready(retry=short)
        accepted = await services.submit("work")
        monkeypatch.setattr(services._executions, "_wake_in", lambda *_: None)
        node.clock.advance(24 * 3600 * SECOND)
        (await node.run(0)).finish("failed", "trap")
        await until(lambda: services._executions.stats()["resting"] == 1)
        await services._parts.journal.kept()
        node.clock.set_by(-24 * 3600 * SECOND)
        services = await node.crash()
        (await node.run(0)).finish()
        assert (await services.wait(accepted.id)).attempt == 2


async def test_a_task_whose_registration_was_refused_is_not_there_later(node: Bench):
    services = await node.start()
    await services.put_artifact(CODE)
    node.store.sync_faults.append(KvFull("no room for the flush (planted)"))
    with pytest.raises(KvFull):
        await services.register(TaskSpec(name="work", artifact=DIGEST))
    task = await services.register(TaskSpec(name="work", artifact=DIGEST))
    services = await node.crash()
    assert [known.id for known in await services.tasks()] == [task.id]


async def test_a_run_whose_end_is_not_understood_fails_its_execution(
    node: Bench, monkeypatch: pytest.MonkeyPatch
):
    services = await node.ready(concurrency=1)
    monkeypatch.setattr(node.said, "failure", lambda event, error: node.said.events.append(event))
    call, run = await begun(node)
    run.finish("a state that there is not")
    ended = await call
    assert ended.status == "failed"
    assert ended.error is not None
    assert ended.error.code == "INTERNAL"
    assert services._parts.admission.stats()["running"] == 0

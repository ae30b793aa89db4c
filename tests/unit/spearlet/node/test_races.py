"""Two things that happen in one turn of the loop: neither is lost, whichever comes first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest
from node_runs import CODE, DIGEST, HANG_S, INSTANT, Bench, bench, until

from spear.errors import InUse, KvFull, NotFound
from spear.records.execution import Invocation
from spear.records.task import Retry, TaskSpec
from spear.spearlet.node import rows
from spear.spearlet.node.work import ENDING


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path) as made:
        yield made


async def ending(node: Bench) -> tuple[str, asyncio.Task[object]]:
    """An execution whose end is written when the turn is over."""
    services = await node.ready()
    call = asyncio.ensure_future(services.invoke("work"))
    run = await node.run()
    (work,) = services._executions.works()
    run.finish()
    await until(lambda: work.stage == ENDING)
    return work.execution.id, call


async def test_who_cancels_what_is_about_to_end_hears_of_its_end(node: Bench):
    id, call = await ending(node)
    async with asyncio.timeout(HANG_S):
        cancelled = await node.services.cancel(id)
    assert cancelled.status == "completed"
    await call


async def test_a_node_that_drains_as_an_execution_ends_is_drained(node: Bench):
    _, call = await ending(node)
    async with asyncio.timeout(HANG_S):
        await node.services.drain()
    await call


async def test_a_watcher_that_is_slow_with_the_first_record_still_hears_of_the_end(node: Bench):
    services = await node.ready()
    call = asyncio.ensure_future(services.invoke("work"))
    run = await node.run()
    (work,) = services._executions.works()
    changes = services.watch(id=work.execution.id)
    assert (await anext(changes)).status == "running"
    run.finish()
    await call
    async with asyncio.timeout(HANG_S):
        assert [one.status async for one in changes] == ["completed"]
    assert not services._parts.events._watchers


@pytest.mark.parametrize("verb", ["register", "update", "unregister", "set_task_status"])
async def test_a_change_of_a_task_whose_caller_goes_is_made_whole(node: Bench, verb: str):
    services = await node.ready()
    spec = TaskSpec(name="other" if verb == "register" else "work", artifact=DIGEST, entry="f")
    given = {"unregister": ("work",), "set_task_status": ("work", "inactive")}.get(verb, (spec,))
    change = asyncio.ensure_future(getattr(services, verb)(*given))
    await asyncio.sleep(0)  # it waits until it is kept
    change.cancel()
    with pytest.raises(asyncio.CancelledError):
        await change
    await services._parts.journal.kept()
    await asyncio.sleep(0)
    seen = await services.tasks()
    again = await node.crash()
    assert await again.tasks() == seen
    if verb == "register":
        assert [task.name for task in seen] == ["other", "work"]


async def test_a_retry_that_falls_into_the_drain_is_made_by_the_next_process(node: Bench):
    services = await node.ready(retry=Retry(attempts=2, backoff_ns=INSTANT, on=("TRAP",)))
    accepted = await services.submit("work")
    run = await node.run()
    draining = asyncio.ensure_future(services.drain(60 * 10**9))
    await asyncio.sleep(0)
    run.finish("failed", "trap")
    async with asyncio.timeout(HANG_S):
        await draining
    await node.stop()
    services = await node.start()
    (await node.run()).finish()
    ended = await services.wait(accepted.id)
    assert (ended.status, ended.attempt) == ("completed", 2)


async def test_what_is_accepted_as_the_drain_begins_waits_for_the_next_process(node: Bench):
    services = await node.ready(concurrency=1)
    running = await services.submit("work")
    await node.run()
    submitting = asyncio.ensure_future(services.submit("work"))
    await asyncio.sleep(0)
    draining = asyncio.ensure_future(services.drain())
    accepted = await submitting
    async with asyncio.timeout(HANG_S):
        await draining
    assert (await services.execution(running.id)).status == "terminated"
    await node.stop()
    services = await node.start()
    (await node.run()).finish()
    assert (await services.wait(accepted.id)).status == "completed"


async def test_an_artifact_is_not_deleted_under_a_task_that_is_being_registered(node: Bench):
    services = await node.start()
    await services.put_artifact(CODE)
    registering = asyncio.ensure_future(services.register(TaskSpec(name="a", artifact=DIGEST)))
    await until(lambda: services._tasks._changing)
    with pytest.raises(InUse):
        await services.delete_artifact(DIGEST)
    await registering


@pytest.mark.parametrize("verb", ["register", "update"])
async def test_an_artifact_deleted_in_the_same_turn_is_needed_or_missed(node: Bench, verb: str):
    """Whichever of the two comes first, the other is refused."""
    services = await node.ready()
    other = (await services.put_artifact(CODE + b"!")).digest
    spec = TaskSpec(name="a" if verb == "register" else "work", artifact=other)
    changing = asyncio.ensure_future(getattr(services, verb)(spec))
    deleting = asyncio.ensure_future(services.delete_artifact(other))
    found = await asyncio.gather(changing, deleting, return_exceptions=True)
    assert [isinstance(one, NotFound | InUse) for one in found].count(True) == 1
    named = {task.spec.artifact for task in await services.tasks()}
    assert named <= {artifact.digest for artifact in await services.artifacts()}


async def test_of_two_tasks_that_want_an_endpoint_at_once_one_gets_it(node: Bench):
    services = await node.ready()
    specs = [TaskSpec(name=name, artifact=DIGEST, endpoint="e") for name in ("a", "b")]
    found = await asyncio.gather(*map(services.register, specs), return_exceptions=True)
    assert [type(one).__name__ for one in found] == ["Task", "AlreadyExists"]


async def test_garbage_goes_and_the_input_of_what_waits_for_the_next_process_stays(node: Bench):
    services = await node.ready(concurrency=1)
    await services.submit("work")
    await node.run()
    waiting = await services.submit("work", b"x" * 100_000)
    await services.drain()
    assert (await services.collect_garbage())["inputs"] == 0
    await node.stop()
    services = await node.start()
    run = await node.run()
    assert run.invocation.stdin == b"x" * 100_000
    run.finish()
    assert (await services.wait(waiting.id)).status == "completed"


async def test_what_was_refused_since_its_flush_failed_never_runs(
    node: Bench,
):
    services = await node.ready()
    node.store.sync_faults.append(KvFull("no room (planted)"))
    again = Invocation(idempotency_key="k")
    with pytest.raises(KvFull):
        await services.submit("work", b"", again)
    accepted = await services.submit("work", b"", again)
    await node.run()
    services = await node.crash(power=True)
    assert [one.id for one in (await services.executions()).executions] == [accepted.id]


async def test_what_was_sent_again_under_its_id_is_not_taken_back(
    node: Bench, monkeypatch: pytest.MonkeyPatch
):
    services = await node.ready()
    refused, back = services._executions._refused, []
    monkeypatch.setattr(refused, "_taken_back", lambda id, power, error: back.append(id))
    node.store.sync_faults.append(KvFull("no room (planted)"))
    again = Invocation(execution_id="0123456789abcdef")
    with pytest.raises(KvFull):
        await services.submit("work", b"", again)
    await until(lambda: len(back) == 1)
    accepted = await services.submit("work", b"", again)
    refused.take_back(back[0], power=True)  # once more, since that failed
    await services._parts.journal.kept()
    services = await node.crash(power=True)
    assert (await services.execution(accepted.id)).id == accepted.id


async def test_an_end_is_shown_to_nobody_before_it_is_kept(node: Bench):
    services = await node.ready()
    same = Invocation(idempotency_key="k")
    id = (await services.submit("work", b"", same)).id
    (await node.run()).finish()
    await until(lambda: [work.stage for work in services._executions.works()] == [ENDING])
    kept: list[bool] = []

    async def look(shown: Coroutine[Any, Any, Any]) -> Any:
        found = await shown
        kept.append(rows.execution_key(id) in node.rows._synced)
        return found

    looks = [
        services.execution(id), services.executions(), anext(services.watch(id=id)),
        services.submit("work", b"", same),
    ]  # fmt: skip
    one, page, seen, again = await asyncio.gather(*map(look, looks))
    assert kept == [True] * 4
    assert [one.status, seen.status, again.status] == ["completed"] * 3
    assert [found.status for found in page.executions] == ["completed"]


async def test_a_log_of_what_was_not_accepted_ends(node: Bench):
    services = await node.ready()
    node.store.full = True
    call = asyncio.ensure_future(services.invoke("work"))
    await until(lambda: services._executions.works() != [])
    (work,) = services._executions.works()
    lines = services.logs(work.execution.id, follow=True)
    with pytest.raises(KvFull):
        await call
    async with asyncio.timeout(HANG_S):
        assert [batch async for batch in lines] == []


async def test_who_gives_up_a_submission_leaves_it_to_who_asks_with_the_same_key(node: Bench):
    services = await node.ready()
    same = Invocation(idempotency_key="k")
    calls = [asyncio.ensure_future(services.submit("work", b"", same)) for _ in range(3)]
    await asyncio.sleep(0)  # all wait until its acceptance is kept
    calls[0].cancel()
    calls[2].cancel()
    accepted = await calls[1]
    assert accepted.durability == "power"
    (await node.run()).finish()
    assert (await services.wait(accepted.id)).completed


async def test_a_key_of_a_call_that_is_not_accepted_yet_is_answered_once_it_is(node: Bench):
    services = await node.ready()
    same = Invocation(idempotency_key="k")
    node.store.full = True
    calling = asyncio.ensure_future(services.invoke("work", b"", same))
    asking = asyncio.ensure_future(services.submit("work", b"", same))
    for one in (calling, asking):
        with pytest.raises(KvFull):
            await one

"""Agents that call tasks, on a node whose guests and clock the test plays."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from node_runs import HANG_S, Bench, bench, until

from spear._core.drafts import Room
from spear.errors import KvFull, NodeClosed, TooDeep
from spear.records.execution import Invocation
from spear.records.task import Retry, TaskSpec
from spear.records.usage import Usage
from spear.runtime.stub import StubRun
from spear.spearlet.node.family import Call, Family

POSTS = b"stub posts: a guest that may call"
S = 10**9


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path) as made:
        services = await made.ready()
        artifact = await services.put_artifact(POSTS)
        retry = Retry(attempts=2, on=("TRAP",), backoff_ns=1)
        for name in ("agent", "tried"):
            spec = TaskSpec(
                name=name, artifact=artifact.digest, retry=retry,
                config={"tasks.allowed": "*", "budget.calls": "10"},
            )  # fmt: skip
            await services.register(spec)
        yield made


def family(node: Bench) -> Family:
    return node.node._executions._starter.family  # type: ignore[union-attr]


async def parent(node: Bench, task: str = "agent") -> tuple[asyncio.Future[object], StubRun]:
    call = Invocation(timeout_ns=10 * S)
    ended = asyncio.ensure_future(node.services.invoke(task, b"", call))
    return ended, await node.run()


def call(node: Bench, run: StubRun, task: str, *, detached: bool = False) -> Call:
    agent = run.invocation.context
    return family(node).invoke(agent, task, Invocation(), b"in", detached=detached)


async def test_an_agent_is_made_only_where_the_module_posts(node: Bench) -> None:
    ended = asyncio.ensure_future(node.services.invoke("work"))
    run = await node.run()
    assert run.invocation.context is None
    run.finish()
    await ended


async def test_another_attempt_of_a_call_has_what_its_caller_has_left(node: Bench) -> None:
    ended, run = await parent(node)
    called = call(node, run, "tried")
    first = await node.run(1)
    assert first.invocation.timeout_ns == 10 * S
    node.clock.advance(4 * S)
    first.finish("failed", "trap")
    second = await node.run(2)
    assert second.invocation.timeout_ns == 6 * S
    second.finish()
    assert (await called.ended).attempt == 2
    run.finish()
    await ended


async def test_one_that_has_ended_calls_nothing_more(node: Bench) -> None:
    ended, run = await parent(node)
    run.finish()
    await ended
    with pytest.raises(NodeClosed, match="is over"):
        call(node, run, "work")


async def test_what_was_used_stands_in_the_records_of_all_above(node: Bench) -> None:
    ended, run = await parent(node)
    called = call(node, run, "agent")
    child = await node.run(1)
    used = Usage(calls=1, prompt_tokens=3, completion_tokens=4, model_ns=5, cost_nano_usd=6)
    for meter in (run.invocation.context.meter, child.invocation.context.meter):
        meter.reserve(used).settle(used)
    live = await node.services.execution(run.invocation.execution_id)
    assert (live.usage, live.tree_usage) == (used, used + used)
    child.finish()
    assert (await called.ended).tree_usage == used
    run.finish()
    told = await ended
    assert (told.usage, told.tree_usage) == (used, used + used)  # type: ignore[attr-defined]
    kept = await node.services.execution(called.id)
    assert (kept.usage, kept.depth, kept.parent_id) == (used, 1, told.id)  # type: ignore[attr-defined]


async def test_usage_goes_on_from_the_attempt_before(node: Bench) -> None:
    ended, run = await parent(node)
    used = Usage(calls=2, prompt_tokens=1)
    run.invocation.context.meter.reserve(used).settle(used)
    run.finish("failed", "trap")
    again = await node.run(1)
    again.invocation.context.meter.reserve(used).settle(used)
    again.finish()
    assert (await ended).usage == used + used  # type: ignore[attr-defined]


async def test_sessions_of_an_attempt_share_no_room_with_those_of_the_one_before(
    node: Bench,
) -> None:
    ended, run = await parent(node)
    run.invocation.context.room, run.invocation.context.warned = Room(), True
    run.finish("failed", "trap")
    again = await node.run(1)
    assert (again.invocation.context.room, again.invocation.context.warned) == (None, False)
    again.finish()
    await ended


async def test_a_tree_is_listed_in_pages_and_forgotten_with_its_records(node: Bench) -> None:
    ended, run = await parent(node)
    calls = []
    for number in range(1, 6):
        calls.append(call(node, run, "work"))
        node.clock.advance(1)
        (await node.run(number)).finish()
        await calls[-1].ended
    live = call(node, run, "work")
    await until(lambda: len(node.runtime.runs) == 7)
    root = run.invocation.execution_id
    found, token = [], ""
    while True:
        page = await node.services.executions(root=root, limit=2, page_token=token)
        found += [one.id for one in page.executions]
        if not (token := page.next_page_token):
            break
    assert found == [one.id for one in reversed([*calls, live])]
    run.finish()
    await ended
    for id in found:
        await node.services.wait(id)
        await node.services.remove(id)
    assert not node.store.scan(b"tree/")


async def test_one_that_was_detached_may_call_what_has_ended_above_it(node: Bench) -> None:
    """Nobody waits for it, so it waits for nobody's place but its own."""
    artifact = await node.services.put_artifact(POSTS)
    for name in ("once", "link"):
        spec = TaskSpec(
            name=name, artifact=artifact.digest, concurrency=1, config={"tasks.allowed": "*"}
        )
        await node.services.register(spec)
    ended, run = await parent(node, "once")
    link = call(node, run, "link", detached=True)
    below = await node.run(1)
    with pytest.raises(TooDeep, match="runs 1 at a time"):
        call(node, below, "link")
    run.finish()
    await ended
    again = call(node, below, "once")
    (await node.run(2)).finish()
    assert (await again.ended).completed
    below.finish()
    assert (await link.ended).completed


async def test_a_call_that_cannot_be_kept_is_told_to_who_waits_and_is_nobody_elses_fault(
    node: Bench,
) -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    ended, run = await parent(node)
    node.store.full = True
    made = call(node, run, "work", detached=True)
    with pytest.raises(KvFull):
        await made.ended  # and nobody asks for `accepted`
    node.store.full = False
    run.finish()
    assert (await ended).completed  # type: ignore[attr-defined]
    del made
    gc.collect()
    assert faults == []


async def test_an_id_is_one_execution_also_where_its_key_was_given_back(node: Bench) -> None:
    ended, run = await parent(node)
    services, keyed = node.services, Invocation(idempotency_key="k")
    called = family(node).invoke(run.invocation.context, "work", keyed, b"", detached=False)
    await node.run(1)
    called.cancel("enough")
    assert (await called.ended).status == "terminated"
    plain = asyncio.ensure_future(services.invoke("work", b"", Invocation(execution_id="0" * 32)))
    (await node.run(2)).finish()
    await plain
    for id, status in ((called.id, "terminated"), ("0" * 32, "completed")):
        both = Invocation(idempotency_key="k", execution_id=id)
        async with asyncio.timeout(HANG_S):
            found = await services.invoke("work", b"", both)
        assert (found.id, found.status) == (id, status)
    assert len(node.runtime.runs) == 3
    run.finish()
    await ended


async def test_who_is_forgotten_takes_no_key_from_who_has_just_got_it(node: Bench) -> None:
    ended, run = await parent(node)
    services, keyed = node.services, Invocation(idempotency_key="k")
    called = family(node).invoke(run.invocation.context, "work", keyed, b"", detached=False)
    await node.run(1)
    called.cancel("enough")
    await called.ended
    next_one = asyncio.ensure_future(services.submit("work", b"", keyed))
    await asyncio.gather(next_one, services.remove(called.id))  # in one turn
    assert (await services.submit("work", b"", keyed)).id == (await next_one).id != called.id
    run.finish()
    await ended

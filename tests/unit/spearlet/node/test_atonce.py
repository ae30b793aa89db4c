"""A call that is over at once is run and kept in one step; what is not goes on like any other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from node_runs import DIGEST, HANG_S, INSTANT, Bench, answer, bench

from spear.errors import AlreadyExists, KvFull, NodeClosed, NotFound, QueueFull
from spear.records.execution import Execution, Invocation
from spear.records.task import Retry, TaskSpec
from spear.runtime.stub import StubProgram, StubRun
from spear.spearlet.node import rows
from spear.spearlet.node.executions import Executions
from spear.spearlet.node.follower import LINES_A_LOOK
from spear.spearlet.node.services import NodeServices


async def trusted(node: Bench, **spec: object) -> NodeServices:
    services = await node.ready(**spec)
    node.trust()
    return services


async def test_one_write_keeps_all_of_it(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await trusted(node)
        before = node.store.writes
        ended = await services.invoke(
            "work", b"hello", Invocation(session_id="s", timeout_ns=10**9)
        )
        assert node.store.writes == before + 1
        assert (ended.status, ended.cause, ended.output) == ("completed", "exit", b"hello")
        assert (ended.session_id, ended.instance_id, ended.durability) == ("s", ended.id, "crash")
        services = await node.crash()
        assert await services.execution(ended.id, include_output=True) == ended
        assert [one.id for one in (await services.executions()).executions] == [ended.id]


async def test_it_is_counted_as_any_other(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await trusted(node)
        watch = services.watch(task="work")
        seen = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        ended = await services.invoke("work")
        async with asyncio.timeout(HANG_S):
            assert ((await seen).id, (await seen).status) == (ended.id, "completed")
        await watch.aclose()
        stats = await services.stats()
        assert (stats["executions"]["live"], stats["admission"]["running"]) == (0, 0)
        assert services._tallies.counts()["successful"] == services._history.count == 1


async def test_an_id_of_the_callers_is_one_execution(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await trusted(node)
        call = Invocation(execution_id="0123456789abcdef")
        calls = [asyncio.ensure_future(services.invoke("work", b"%d" % n, call)) for n in range(3)]
        waits = asyncio.ensure_future(anext(services.watch(id=call.execution_id)))
        calls[1].cancel()
        ended = [await calls[0], await calls[2], await services.invoke("work", b"9", call)]
        assert [one.output for one in ended] == [b"0"] * 3
        assert (await waits).id == call.execution_id
        assert len(node.runtime.runs) == 1
        with pytest.raises(AlreadyExists):
            await services.register(TaskSpec(name="other", artifact=DIGEST))
            await services.invoke("other", b"", call)


async def test_what_a_submission_of_its_id_was_answered_with_is_kept(tmp_path: Path):
    """Also while much that it logged has not been taken yet."""

    def talkative(run: StubRun) -> None:
        for number in range(3 * LINES_A_LOOK):
            run.log(f"line {number}")
        run.finish()

    async with bench(tmp_path, talkative) as node:
        services = await trusted(node)
        call = Invocation(execution_id="0123456789abcdef")
        invoked = asyncio.ensure_future(services.invoke("work", b"", call))
        await asyncio.sleep(0)
        assert (await services.submit("work", b"", call)).id == call.execution_id
        assert not invoked.done()
        services = await node.crash()
        assert (await services.wait(call.execution_id)).id == call.execution_id
        invoked.cancel()
        await asyncio.gather(invoked, return_exceptions=True)


async def test_one_with_an_id_can_be_waited_for_before_it_is_kept(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await trusted(node)
        id = "0123456789abcdef"
        call = asyncio.ensure_future(services.invoke("work", b"x", Invocation(execution_id=id)))
        wait = asyncio.ensure_future(services.wait(id))
        cancel = asyncio.ensure_future(services.cancel(id))
        assert (await wait).output == (await call).output == b"x"
        assert (await cancel).status == "completed"


async def test_a_door_has_a_place_among_those_who_are_told(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await trusted(node)
        loop = asyncio.get_running_loop()
        waiters = services.invoke_at_once("work", b"x", Invocation())
        assert isinstance(waiters, list)
        waiters.append(loop.create_future())
        assert (await waiters[0]).output == b"x"
        large = services.invoke_at_once("work", b"x" * 100_000, Invocation())
        assert isinstance(large, list)
        large.append(loop.create_future())
        assert len((await large[0]).output) == 100_000


async def test_for_a_door_what_is_not_over_is_awaited(tmp_path: Path):
    async with bench(tmp_path) as node:
        services = await trusted(node)
        given = services.invoke_at_once("work", b"x", Invocation())
        assert not isinstance(given, list)
        call = asyncio.ensure_future(given)
        answer(await node.run())
        assert (await call).output == b"x"


@pytest.mark.parametrize("kept", ["0" * 8, "5" * 8, "f" * 8])
async def test_an_id_that_an_earlier_process_knew_is_known(tmp_path: Path, kept: str):
    async with bench(tmp_path, answer) as node:
        services = await trusted(node)
        for id in {"5" * 8, kept}:
            await services.invoke("work", id.encode(), Invocation(execution_id=id))
        services = await node.crash()
        await services._parts.programs.load(services._tasks.find("work").plan.spec.artifact, False)
        node.trust()
        again = await services.invoke("work", b"again", Invocation(execution_id=kept))
        assert again.output == kept.encode()
        fresh = await services.invoke("work", b"new", Invocation(execution_id="6" * 8))
        assert fresh.output == b"new"


async def test_much_output_is_kept_in_a_file(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await trusted(node)
        ended = await services.invoke("work", b"x" * 100_000)
        assert (ended.output_bytes, ended.output_digest != "") == (100_000, True)
        assert b"".join([part async for part in services.read_result(ended.id)]) == b"x" * 100_000


async def test_of_many_in_one_turn_each_has_its_end(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await trusted(node)
        before = node.store.writes
        ended = await asyncio.gather(*(services.invoke("work", b"%d" % n) for n in range(50)))
        assert [one.output for one in ended] == [b"%d" % n for n in range(50)]
        assert len({one.id for one in ended}) == 50
        assert node.store.writes == before + 1


async def test_a_caller_that_goes_takes_nothing_with_it(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await trusted(node)
        call = asyncio.ensure_future(services.invoke("work"))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        (kept,) = (await services.executions()).executions
        assert kept.status == "completed"


# ---- what is not over at once


async def test_a_guest_that_goes_on_is_written_and_awaited(tmp_path: Path):
    async with bench(tmp_path) as node:
        services = await trusted(node)
        call = asyncio.ensure_future(services.invoke("work", b"in"))
        run = await node.run()
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(node.store.scan(b"live/")) == 1
        (live,) = (await services.executions()).executions
        assert live.status == "running"
        answer(run)
        assert (await call).output == b"in"
        assert not node.store.scan(b"live/")


async def test_one_that_goes_on_can_be_cancelled_at_once(tmp_path: Path):
    async with bench(tmp_path) as node:
        services = await trusted(node)
        call = asyncio.ensure_future(services.invoke("work"))
        await asyncio.sleep(0)
        (work,) = services._executions.works()
        services._executions.cancel(work, "enough")
        ended = await call
        assert (ended.status, ended.error.code) == ("terminated", "CANCELLED")


async def test_one_that_fails_is_tried_again(tmp_path: Path):
    def guest(run: StubRun) -> None:
        if len(node.runtime.runs) < 3:
            run.finish("failed", "trap", message="again")
        else:
            answer(run)

    async with bench(tmp_path, guest) as node:
        again = Retry(attempts=3, backoff_ns=INSTANT, on=("TRAP",))
        services = await trusted(node, retry=again)
        call = asyncio.ensure_future(services.invoke("work", b"x"))
        while not call.done():
            node.clock.advance(1)
            await asyncio.sleep(0)
        assert ((await call).attempt, (await call).output) == (3, b"x")


async def test_one_that_fails_tells_why(tmp_path: Path):
    async with bench(tmp_path, lambda run: run.finish("failed", "trap", message="why")) as node:
        services = await trusted(node)
        ended = await services.invoke("work")
        assert (ended.status, ended.error.message) == ("failed", "why")
        assert (await services.execution(ended.id)).error == ended.error


async def test_what_it_logs_is_found(tmp_path: Path):
    def guest(run: StubRun) -> None:
        run.log("a line")
        run.finish()

    async with bench(tmp_path, guest) as node:
        services = await trusted(node)
        before = node.store.writes
        ended = await services.invoke("work")
        assert node.store.writes == before + 1
        assert ended.log_lines == 1
        assert await node.logged(ended.id) == ["a line"]


# ---- where it would make a difference


@pytest.mark.parametrize(
    "more",
    [
        {"idempotency_key": "k"},
        {"webhook": "http://127.0.0.1:9/"},
    ],
    ids=str,
)
async def test_an_execution_that_others_hear_of_is_written_first(
    tmp_path: Path, more: dict[str, str]
):
    def guest(run: StubRun) -> None:
        written.append(len(node.store.scan(b"live/")))
        answer(run)

    written: list[int] = []
    async with bench(tmp_path, guest) as node:
        services = await trusted(node)
        await services.invoke("work", b"", Invocation(**more))
        assert written == [1]


async def test_a_guest_that_acts_on_others_is_written_first(tmp_path: Path):
    def guest(run: StubRun) -> None:
        written.append(len(node.store.scan(b"live/")))
        answer(run)

    written: list[int] = []
    async with bench(tmp_path, guest) as node:
        services = await node.ready()
        posts = await services.put_artifact(b"stub posts")
        await services.register(TaskSpec(name="caller", artifact=posts.digest))
        node.trust()
        await services.invoke("caller")
        assert written == [1]
        assert not StubProgram(b"stub posts").self_contained
        assert StubProgram(b"stub").self_contained


async def test_a_task_that_is_not_known_to_be_quick_is_written_first(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        before = node.store.writes
        await services.invoke("work")
        assert node.store.writes == before + 2


@pytest.mark.parametrize("code", [b"stub", b"stub posts"])
@pytest.mark.parametrize(("first_slice_ns", "trusted_still"), [(1_000, True), (10**7, False)])
async def test_guests_that_hold_up_the_loop_are_noticed_before_the_first_of_them_ends(
    tmp_path: Path, code: bytes, first_slice_ns: int, trusted_still: bool
):
    """Else every call would hold it up until then, for a slice each."""
    async with bench(tmp_path, lambda run: node.clock.advance(first_slice_ns)) as node:
        services = await node.ready()
        artifact = await services.put_artifact(code)
        await services.register(TaskSpec(name="spins", artifact=artifact.digest))
        node.trust()
        calls = []
        for number in range(3):
            calls.append(asyncio.ensure_future(services.invoke("spins")))
            await node.run(number)
        assert [run.invocation.inline for run in node.runtime.runs] == [True] + [trusted_still] * 2
        for run in node.runtime.runs:
            run.finish()
        await asyncio.gather(*calls)


async def test_a_full_task_makes_it_wait(tmp_path: Path):
    async with bench(tmp_path) as node:
        services = await trusted(node, concurrency=1, queue=1)
        first = asyncio.ensure_future(services.invoke("work", b"1"))
        await node.run()
        second = asyncio.ensure_future(services.invoke("work", b"2"))
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(node.runtime.runs) == 1
        with pytest.raises(QueueFull):
            await services.invoke("work", b"3")
        answer(node.runtime.runs[0])
        answer(await node.run(1))
        assert [(await first).output, (await second).output] == [b"1", b"2"]


# ---- faults


async def test_on_a_full_disk_one_end_is_volatile_and_no_more_is_taken(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await trusted(node)
        node.store.full = True
        ended = await services.invoke("work", b"kept in memory")
        assert ended.durability == "volatile"
        with pytest.raises(KvFull):
            await services.invoke("work")
        assert len(node.runtime.runs) == 1
        found = await services.execution(ended.id, include_output=True)
        assert found.output == b"kept in memory"
        node.store.full = False
        services._executions._ends._write_again(ended.id)
        await services.invoke("work")
        services = await node.crash()
        assert (await services.execution(ended.id)).status == "completed"


async def test_of_an_end_whose_rows_are_refused_half_way_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Else its record would say that it is well, and its caller was told that it has failed."""
    tries: list[str] = []

    def half(execution: Execution) -> tuple[int, list[tuple[bytes, bytes]]]:
        tries.append(execution.status)
        if len(tries) > 1:
            raise ValueError("planted")
        size, found = rows_of_end(execution)
        return size, [*found, (b"", b"no key")]

    rows_of_end = rows.rows_of_end
    async with bench(tmp_path, answer) as node:
        node.said.failure = lambda event, error, **_: None  # type: ignore[method-assign]
        services = await trusted(node)
        with monkeypatch.context() as patch:
            patch.setattr(rows, "rows_of_end", half)
            ended = await services.invoke("work")
            await services._parts.journal.kept()
        assert tries[:2] == ["completed", "failed"]
        assert (ended.status, ended.durability) == ("failed", "volatile")
        assert not node.rows.scan(b"exec")


async def test_one_that_goes_on_and_cannot_be_accepted_is_ended(tmp_path: Path):
    async with bench(tmp_path) as node:
        services = await trusted(node)
        node.store.full = True
        with pytest.raises(KvFull):
            await services.invoke("work")
        assert node.runtime.runs[0].outcome.status == "terminated"
        assert not services._executions.works()
        assert (await services.stats())["admission"]["running"] == 0


async def test_one_that_dies_unkept_is_not_known_afterwards(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await trusted(node)
        node.store.dies_after = node.store.writes
        call = asyncio.ensure_future(services.invoke("work"))
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)  # it has died
        for _ in range(3):
            await asyncio.sleep(0)
        id = node.runtime.runs[0].invocation.execution_id
        services = await node.crash()
        call.cancel()
        with pytest.raises(NotFound):
            await services.execution(id)
        assert not (await services.executions()).executions


async def test_what_cannot_begin_is_told_by_the_common_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with bench(tmp_path, answer) as node:
        services = await trusted(node)

        def refuse(program: object, invocation: object) -> StubRun:
            raise NodeClosed("no more")

        monkeypatch.setattr(node.runtime, "start", refuse)
        ended = await services.invoke("work")
        assert (ended.status, ended.error.code) == ("failed", "CANCELLED")


async def test_a_node_that_closes_takes_none(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await trusted(node)
        await services._executions.close(0)
        assert isinstance(services._executions, Executions)
        with pytest.raises(NodeClosed):
            await services.invoke("work")
        assert not node.runtime.runs


async def test_a_spec_without_a_task_is_over_at_once_too(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        services = await node.ready()
        spec = TaskSpec(name="once", artifact=DIGEST)
        for _ in range(20):
            before = node.store.writes
            ended = await services.invoke(spec, b"x")
        assert node.store.writes == before + 1
        assert (ended.task_id, ended.task_name, ended.output) == ("", "once", b"x")


async def test_what_it_logged_is_read_to_its_end(tmp_path: Path):
    def says(run: StubRun) -> None:
        run.log("one line")
        run.finish()

    async with bench(tmp_path, says) as node:
        services = await trusted(node)
        ended = await services.invoke("work")
        assert ended.log_lines == 1
        async with asyncio.timeout(HANG_S):
            said = [line.message async for part in services.logs(ended.id) for line in part]
        assert said == ["one line"]
        assert not services._logs._open  # nothing more is waited for

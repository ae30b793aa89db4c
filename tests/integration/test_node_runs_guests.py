"""The node as a library over the real engine: many guests, each within its limits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import compile_bombs
import pytest
import pytest_asyncio
from conftest import make_config

import spear
from spear.spearlet.handle import Handle, SyncHandle

pytest.importorskip("spear._core.executor")
Guest = Callable[[str], Path]


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[spear.Spearlet]:
    async with spear.Spearlet(config=make_config(tmp_path, executor__workers=2)) as node:
        yield node


@pytest.fixture
def sync_node(tmp_path: Path) -> Iterator[spear.SyncSpearlet]:
    with spear.Spearlet.sync(config=make_config(tmp_path, executor__workers=2)) as node:
        yield node


async def test_an_agent_answers(node: spear.Spearlet, guest: Guest) -> None:
    execution = await node.run(guest("answer"), input="one two two\n", args=["Ada"])
    assert execution.completed
    answer = execution.output.decode()
    assert answer.startswith("Dear Ada,")
    assert '"two": 2 times' in answer


def test_the_sync_face_answers_the_same(sync_node: spear.SyncSpearlet, guest: Guest) -> None:
    execution = sync_node.run(guest("answer"), input="one two two\n", env={"NAME": "Ada"})
    assert execution.completed
    assert execution.output.startswith(b"Dear Ada,")
    assert execution.memory_bytes > 0
    assert execution.started_ns >= execution.created_ns - 10**9


async def test_sleepers_wait_together_while_a_loop_is_stopped(
    node: spear.Spearlet, guest: Guest
) -> None:
    sleeper, loop = await node.load(guest("sleeper")), await node.load(guest("loop"))
    runaway = asyncio.create_task(node.run(loop, timeout="300ms"))
    sleepers = await asyncio.gather(*(node.run(sleeper, args=["50"]) for _ in range(200)))
    assert {execution.status for execution in sleepers} == {"completed"}
    assert {execution.output for execution in sleepers} == {b"slept well\n"}
    assert (await runaway).status == "timeout"
    stats = await node.stats()
    assert (stats["executions"]["completed"], stats["executions"]["timeout"]) == (200, 1)
    assert stats["executions"]["live"] == 0


async def test_a_follower_sees_a_line_before_the_guest_ends(
    node: spear.Spearlet, guest: Guest
) -> None:
    handle = await node.start(guest("sleeper"), args=["-1"])
    seen: list[str] = []
    async for progress in handle.follow():
        if not seen:
            assert not handle.ended
            await handle.cancel("seen enough")
        seen += [line.message for line in progress.logs]
    assert seen[0] == "going to sleep for -1 ms"
    assert (await handle).status == "terminated"


async def test_idle_followers_leave_the_node_free(tmp_path: Path, guest: Guest) -> None:
    config = make_config(tmp_path, executor__workers=2, executor__max_parked=600)
    async with spear.Spearlet(config=config) as node:
        sleeper, hello = await node.load(guest("sleeper")), await node.load(guest("hello"))
        threads = threading.active_count()
        handles = [await node.start(sleeper, args=["-1"]) for _ in range(500)]
        seen: list[str] = []

        async def follow(handle: Handle) -> None:
            async for progress in handle.follow():
                seen.extend(line.message for line in progress.logs)

        followers = [asyncio.create_task(follow(handle)) for handle in handles]
        while len(seen) < 500:  # each one's line; from then on all are idle
            await asyncio.sleep(0.01)
        assert (await asyncio.wait_for(node.run(hello), 60)).completed
        await asyncio.wait_for(follow(await node.start(hello)), 60)
        assert seen[500] == "hello from a guest"
        assert threading.active_count() <= threads  # one that loaded may have been about to end
        for handle in handles:
            assert (await handle.cancel("seen enough")).status == "terminated"
        await asyncio.wait_for(asyncio.gather(*followers), 60)


def test_lines_of_stdout_are_told_from_the_log(sync_node: spear.SyncSpearlet, guest: Guest) -> None:
    output, lines = b"", []
    for progress in sync_node.start(guest("hello")).follow():
        output += progress.output
        lines += progress.logs
    assert "".join(f"{x.message}\n" for x in lines if x.stream == "stdout") == output.decode()
    assert "hello from a guest" in [x.message for x in lines if x.stream == "log"]


def test_a_reader_who_comes_late_finds_the_lines_asked_for(
    sync_node: spear.SyncSpearlet, guest: Guest
) -> None:
    for kept, lost in ((2, 8), (262_144, 0)):
        handle = sync_node.start(guest("log_flood"), args=["10"], log_lines_max=kept)
        assert handle.wait("1m").log_lost == lost
        lines = sum(len(progress.logs) for progress in handle.follow())
        assert lines + lost == handle.execution.log_lines == 10


async def test_both_handles_wait_for_their_time(node: spear.Spearlet, guest: Guest) -> None:
    handle = await node.start(guest("sleeper"), args=["-1"])
    with pytest.raises(TimeoutError):
        await handle.wait("10ms")
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(SyncHandle(handle._services, handle._live).wait, "10ms")
    await handle.cancel()
    assert (await handle.wait(0)).status == "terminated"


def test_loading_at_the_same_time_compiles_once(
    sync_node: spear.SyncSpearlet, guest: Guest
) -> None:
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(sync_node.load(guest("answer"))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert sync_node.stats()["artifacts"]["count"] == 1


def test_a_sync_follower_sees_all_output(sync_node: spear.SyncSpearlet, guest: Guest) -> None:
    handle = sync_node.start(guest("stdout_flood"), args=["1000000"], log_stdout=False)
    size = sum(len(progress.output) for progress in handle.follow())
    assert size == 1_000_000
    assert handle.wait().output[:3] == b"abc"


async def test_cancelling_the_caller_ends_the_guest(node: spear.Spearlet, guest: Guest) -> None:
    sleeper = await node.load(guest("sleeper"))  # then a run starts before its first wait
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(node.run(sleeper, args=["-1"]), 0.1)
    (execution,) = await node.executions()
    assert execution.status == "terminated"


def test_many_threads_share_one_node(sync_node: spear.SyncSpearlet, guest: Guest) -> None:
    echo = sync_node.load(guest("echo"))
    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(50):
            data = f"{number} {turn}".encode()
            execution = sync_node.run(echo, input=data)
            if execution.output != data:
                wrong.append(execution)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sync_node.stats()["executions"]["completed"] == 400


def test_a_full_node_says_so_and_recovers(tmp_path: Path, guest: Guest) -> None:
    config = make_config(tmp_path, executor__max_parked=2, executor__workers=1)
    with spear.Spearlet.sync(config=config) as node:
        sleeper = node.load(guest("sleeper"))
        handles = [node.start(sleeper, args=["-1"]) for _ in range(2)]
        with pytest.raises(spear.NodeBusy):
            node.run(sleeper, args=["1"])
        for handle in handles:
            assert handle.cancel().status == "terminated"
        assert node.run(sleeper, args=["1"]).completed


def test_closing_ends_what_runs(tmp_path: Path, guest: Guest) -> None:
    node = spear.Spearlet.sync(config=make_config(tmp_path, executor__workers=1))
    handle = node.start(guest("sleeper"), args=["-1"])
    node.close()
    assert handle.execution.status == "terminated"
    assert handle.execution.error is not None
    assert handle.execution.error.message == "the guest was cancelled: the node was closed"
    with pytest.raises(spear.NodeClosed):
        node.run(guest("hello"))


def test_a_trap_keeps_where_it_was(sync_node: spear.SyncSpearlet, guest: Guest) -> None:
    execution = sync_node.run(guest("trap"))
    assert (execution.status, execution.exit_code) == ("failed", None)
    assert execution.error is not None
    assert execution.error.code == "TRAP"
    names = [frame.function for frame in execution.error.backtrace]
    assert names[:3] == ["read_price", "price_of", "sum_prices"]


def test_a_large_guest_runs_like_a_small_one(sync_node: spear.SyncSpearlet, guest: Guest) -> None:
    large, small = (sync_node.load(guest(f"touch_{shape}")) for shape in ("large", "small"))
    assert (large.program.shape, small.program.shape) == ("large", "small")
    assert sync_node.run(large).completed
    assert sync_node.run(small).completed


async def test_a_bomb_hinders_nobody_and_closing_ends_it(tmp_path: Path, guest: Guest) -> None:
    settings = {"compile__timeout": "1h", "executor__workers": 1}
    node = spear.Spearlet(config=make_config(tmp_path, **settings))
    counts = (512, 512, 513)  # equal ones are compiled once
    bombs = [asyncio.create_task(node.run(compile_bombs.slow(count))) for count in counts]
    assert (await node.run(guest("hello"))).completed
    assert not any(bomb.done() for bomb in bombs)
    await node.close()
    ends = await asyncio.gather(*bombs, return_exceptions=True)
    assert {type(error) for error in ends} == {spear.NodeClosed}
    assert "while it compiled the module" in str(ends[0])

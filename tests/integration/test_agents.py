"""Agents that call tasks, over the real engine: results, waits, refusals, and what ends together.

The guest (tests/guests/agents/caller.c) does what its arguments say and prints what each call gave.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from node_runs import Bench, bench, until

from spear.records.execution import Execution, Invocation
from spear.records.task import Retry, TaskSpec

pytest.importorskip("spear._core.executor")
Guest = Callable[[str], Path]
ANY = {"tasks.allowed": "*"}


class Agents:
    """A node whose tasks are all the one guest."""

    def __init__(self, node: Bench, digest: str) -> None:
        self.node, self.digest = node, digest

    async def task(self, name: str, *args: str, **spec: Any) -> None:
        spec.setdefault("config", ANY)
        await self.node.services.register(
            TaskSpec(name=name, artifact=self.digest, args=args, **spec)
        )

    async def invoke(self, task: str, *args: str, timeout_ms: int = 20_000) -> list[str]:
        """What it printed."""
        execution = await self.run(task, *args, timeout_ms=timeout_ms)
        assert execution.completed, execution.error
        return execution.output.decode().splitlines()

    async def run(self, task: str, *args: str, timeout_ms: int = 20_000) -> Execution:
        call = Invocation(args=args or None, timeout_ns=timeout_ms * 1_000_000)
        return await self.node.services.invoke(task, b"", call)

    async def tree(self, root: str) -> list[Execution]:
        """Oldest first."""
        page = await self.node.services.executions(root=root)
        return list(reversed(page.executions))

    async def started(self, name: str) -> Execution:
        """The one execution of that task, once its guest runs."""
        found: list[Any] = []

        def runs() -> bool:
            works = self.node.node._executions.works()  # type: ignore[union-attr]
            found[:] = [w for w in works if w.execution.task_name == name and w.run is not None]
            return bool(found)

        await until(runs)
        return found[0].execution  # type: ignore[no-any-return]

    def live(self) -> list[str]:
        works = self.node.node._executions.works()  # type: ignore[union-attr]
        return [work.execution.task_name for work in works]


@asynccontextmanager
async def agents(folder: Path, guest: Guest, **settings: object) -> AsyncIterator[Agents]:
    async with bench(folder, **settings) as node:
        node.real = True
        await node.start()
        artifact = await node.services.put_artifact(guest("caller").read_bytes())
        found = Agents(node, artifact.digest)
        await found.task("echo", "i")
        await found.task("parent")
        yield found


@pytest.fixture
async def node(tmp_path: Path, guest: Guest) -> AsyncIterator[Agents]:
    async with agents(tmp_path, guest) as found:
        yield found


def status(line: str) -> dict[str, Any]:
    assert ": " not in line.replace('message":"', "")[:40], "compact JSON"
    found: dict[str, Any] = json.loads(line)
    return found


async def test_a_call_waits_and_gives_what_the_task_gave(node: Agents) -> None:
    said = await node.invoke("parent", "s|echo|hello", "r|0", "t|0", "w|0|0", "x|0", "x|0", "r|0")
    assert said[:2] == ["0", "hello"]
    told = status(said[2])
    assert (told["task"], told["status"], told["cause"], told["exit_code"]) == (
        "echo", "completed", "exit", 0,
    )  # fmt: skip
    assert said[3:6] == ["0", "0", "0"]
    (child,) = await node.tree(
        (await node.node.services.executions(task="parent")).executions[0].id
    )
    assert (told["execution_id"], child.output) == (child.id, b"")
    assert (child.depth, child.mode, child.durability) == (1, "sync", "crash")
    assert child.parent_id == child.root_id != child.id


async def test_calls_go_on_at_once_and_epoll_tells_of_their_ends(node: Agents) -> None:
    await node.task("slow", "z|30", "i")
    said = await node.invoke(
        "parent", *(f"s|slow|{word}|1" for word in "abc"), "r|0", "t|1", "w|2|0", "e|3",
        "r|0", "r|1", "r|2",
    )  # fmt: skip
    assert said == ["0", "0", "0", "-11", "-11", "-110", "3", "a", "b", "c"]


async def test_what_did_not_complete_says_how_it_ended(node: Agents) -> None:
    await node.task("trap", "T")
    await node.task("fail", "q|3")
    await node.task("loop", "S")
    said = await node.invoke(
        "parent", "s|trap", "r|0", "t|0", "s|fail", "r|1", "t|1", 's|loop|||,"timeout_ms":50',
        "r|2", "t|2",
    )  # fmt: skip
    assert said[0::3] == ["0", "0", "0"]
    assert said[1::3] == ["-5", "-5", "-5"]
    trap, fail, loop = (status(line) for line in said[2::3])
    assert (trap["status"], trap["error"]["code"]) == ("failed", "TRAP")
    assert (fail["exit_code"], fail["error"]["code"]) == (3, "EXIT")
    assert (loop["status"], loop["error"]["code"]) == ("timeout", "DEADLINE")


async def test_a_call_can_be_cancelled_and_says_why(node: Agents) -> None:
    await node.task("loop", "S")
    said = await node.invoke("parent", "s|loop||1", "c|0|enough", "w|0|-1", "t|0", "c|0|again")
    assert said[:3] == ["0", "0", "0"]
    assert status(said[3])["status"] == "terminated"
    assert status(said[3])["error"]["code"] == "CANCELLED"
    assert status(said[3])["error"]["message"].endswith("enough")
    assert said[4] == "0"


@pytest.mark.parametrize(
    ("config", "task", "number"),
    [
        ({}, "echo", -13),
        ({"tasks.allowed": "other"}, "echo", -13),
        ({"tasks.allowed": "other"}, "nobody", -13),
        ({"tasks.allowed": '["e*"]'}, "echo", 0),
        (ANY, "nobody", -2),
        (ANY, "idle", -13),
        (ANY, "", -22),
    ],
)
async def test_who_may_be_called_stands_in_the_config(
    node: Agents, config: dict[str, str], task: str, number: int
) -> None:
    await node.task("idle", "i")
    await node.node.services.set_task_status("idle", "inactive")
    await node.task("asks", f"s|{task}|x", config=config)
    execution = await node.run("asks")
    assert execution.output.decode() == f"{number}\n"
    logged = await node.node.logged(execution.id)
    if number == -13 and task == "echo":
        assert any("--set tasks.allowed=echo" in line for line in logged)
    assert bool(number) == any("task_invoke" in line for line in logged)


@pytest.mark.parametrize(
    "command",
    [
        "s|echo|x|4", "s|echo|x|-1", 's|echo|x||,"argz":[]', 's|echo|x||,"timeout_ms":-1',
        's|echo|x||,"args":[1]', 's|echo|x||,"function":"f","args":["a"]',
        's|echo|x||,"priority":"top"', 's|echo"|x', "s||x",
        's|echo|x||,"env":{"A=B":"c"}', 's|echo|x|1|,"env":{"":"c"}', 's|echo|x|3|,"env":{"=":""}',
        r's|echo|x||,"env":{"A\u0000":"c"}', r's|echo|x|1|,"env":{"A":"\u0000"}',
        r's|echo|x||,"args":["\u0000"]', 's|echo|x||,"timeout_ms":1e400',
        's|echo|x||,"env":{"A":1}', r's|echo|x||,"env":{"A":"\ud800"}',
    ],
)  # fmt: skip
async def test_a_request_that_is_none_is_refused(node: Agents, command: str) -> None:
    assert await node.invoke("parent", command) == ["-22"]
    page = await node.node.services.executions()
    assert [one.task_name for one in page.executions] == ["parent"]


async def test_what_a_request_says_reaches_the_task(node: Agents) -> None:
    said = await node.invoke("parent", 's|echo|in||,"args":["i","i"],"priority":"high"', "r|0")
    assert said == ["0", "in"]
    assert (await node.node.services.executions(task="echo")).executions[0].priority == "high"


async def test_the_same_key_is_the_same_execution_and_somebody_elses_is_not_cancelled(
    node: Agents,
) -> None:
    await node.task("loop", "S")
    theirs = await node.node.services.submit("loop", b"", Invocation(idempotency_key="k"))
    key = ',"idempotency_key":"k"'
    said = await node.invoke("parent", f"s|loop||1|{key}", "c|0|mine", "w|0|0")
    assert said == ["0", "-13", "-110"]
    assert node.live() == ["loop"]
    await node.node.services.cancel(theirs.id)
    said = await node.invoke("parent", f"s|loop|||{key}", "t|0")
    assert status(said[1])["execution_id"] == theirs.id


# ---- what ends together


async def ends(node: Agents, *commands: str, timeout_ms: int = 20_000) -> tuple[Execution, Any]:
    """The parent, ended after it called `loop`, and the child's record."""
    parent = await node.run("parent", "s|loop||1", *commands, timeout_ms=timeout_ms)
    (child,) = await node.tree(parent.id)
    return parent, await node.node.services.wait(child.id)


@pytest.mark.parametrize(
    ("command", "end"),
    [
        ("z|1", "completed"), ("q|4", "failed"), ("T", "failed"), ("S", "timeout"),
        ("z|9999", "timeout"),
    ],
)  # fmt: skip
async def test_a_child_ends_with_its_parent_however_that_ends(
    node: Agents, command: str, end: str
) -> None:
    await node.task("loop", "S")
    late = end == "timeout"
    parent, child = await ends(node, command, timeout_ms=300 if late else 20_000)
    assert parent.status == end
    assert child.error is not None
    if not (late and child.status == "timeout"):
        assert child.status == "terminated"
        assert f"execution {parent.id}, which called it, has ended" in child.error.message


async def test_a_cancelled_parent_takes_its_whole_tree_with_it(node: Agents) -> None:
    await node.task("loop", "S")
    await node.task("middle", "s|loop||1", "z|60000")
    call = asyncio.ensure_future(node.run("parent", "s|middle"))
    leaf = await node.started("loop")
    await node.node.services.cancel(leaf.root_id, "enough")
    parent = await call
    assert (parent.status, parent.depth, leaf.depth) == ("terminated", 0, 2)
    for one in await node.tree(parent.id):
        assert (await node.node.services.wait(one.id)).status == "terminated"
    assert node.live() == []


async def test_a_caller_that_goes_away_takes_the_tree_with_it(node: Agents) -> None:
    await node.task("loop", "S")
    call = asyncio.ensure_future(node.run("parent", "s|loop"))
    leaf = await node.started("loop")
    call.cancel()
    assert (await node.node.services.wait(leaf.id)).status == "terminated"
    assert (await node.node.services.wait(leaf.root_id)).status == "terminated"


async def test_children_share_the_deadline(node: Agents) -> None:
    await node.task("loop", "S")
    call = asyncio.ensure_future(node.run("parent", "s|loop", "z|1", timeout_ms=400))
    child = await node.started("loop")
    assert child.timeout_ns <= 400_000_000
    assert (await call).status == "timeout"
    assert (await node.node.services.wait(child.id)).status in ("timeout", "terminated")


async def test_a_detached_child_goes_on_in_class_power(node: Agents) -> None:
    await node.task("slow", "z|50", "i")
    parent = await node.run("parent", "s|slow|on|3", "x|0")
    assert parent.output == b"0\n0\n"
    (child,) = await node.tree(parent.id)
    ended = await node.node.services.wait(child.id)
    assert (ended.status, ended.output, ended.detached) == ("completed", b"on", True)
    assert (ended.mode, ended.durability, ended.parent_id) == ("async", "power", parent.id)


async def test_closing_a_descriptor_leaves_the_call_to_its_parent(node: Agents) -> None:
    await node.task("loop", "S")
    parent, child = await ends(node, "x|0", "z|20")
    assert parent.completed
    assert child.status == "terminated"


async def test_another_attempt_of_the_parent_begins_without_the_children_of_the_last(
    node: Agents,
) -> None:
    await node.task("loop", "S")
    retry = Retry(attempts=2, backoff_ns=1, on=("EXIT",))
    await node.task("again", "s|loop||1", "z|50", "q|1", retry=retry)
    parent = await node.run("again")
    assert (parent.status, parent.attempt) == ("failed", 2)
    children = [await node.node.services.wait(one.id) for one in await node.tree(parent.id)]
    assert [one.status for one in children] == ["terminated", "terminated"]
    assert children[0].finished_ns < parent.finished_ns


KEYED = ',"idempotency_key":"k"'


async def test_what_was_cut_off_with_its_caller_gives_its_key_back(node: Agents) -> None:
    await node.task("loop", "S")
    retry = Retry(attempts=2, backoff_ns=1, on=("EXIT",))
    keyed = (f"s|loop||1|{KEYED}", f"s|loop||1|{KEYED}", f"s|echo|x||{KEYED}", "r|2")
    await node.task("again", *keyed, "q|1", retry=retry)
    parent = await node.run("again")
    assert (parent.attempt, parent.output) == (2, b"0\n0\n0\nx\n")
    children = [await node.node.services.wait(one.id) for one in await node.tree(parent.id)]
    assert sorted((one.task_name, one.status) for one in children) == [
        ("echo", "completed"), ("loop", "terminated"), ("loop", "terminated"),
    ]  # fmt: skip


async def test_a_key_that_was_given_back_is_its_next_executions_alone(node: Agents) -> None:
    services = node.node.services
    cut = await node.run("parent", 's|echo|x|1|,"args":["S"]' + KEYED)
    (child,) = await node.tree(cut.id)
    assert (await services.wait(child.id)).status == "terminated"
    call = Invocation(idempotency_key="k")
    async with asyncio.TaskGroup() as group:  # in one turn, before its row is written
        both = [group.create_task(services.submit("echo", b"x", call)) for _ in range(2)]
    assert len({one.result().id for one in both} | {child.id}) == 2
    calls = (f"s|echo|x||{KEYED}", "t|0", f"s|echo|y||{KEYED}", "t|1")
    first, second = (status(line) for line in (await node.invoke("parent", *calls))[1::2])
    assert first["execution_id"] == second["execution_id"] != child.id
    await services.remove(child.id)
    said = await node.invoke("parent", *calls)
    assert [status(line)["execution_id"] for line in said[1::2]] == [first["execution_id"]] * 2


# ---- limits


async def test_a_cycle_ends_by_its_depth_with_a_clear_word(tmp_path: Path, guest: Guest) -> None:
    async with agents(tmp_path, guest, **{"agents.depth": 0}) as node:
        assert await node.invoke("parent", "s|echo|x") == ["-1"]


async def test_agents_that_call_each_other_for_ever_end(node: Agents) -> None:
    await node.task("ping", "s|pong", "r|0")
    await node.task("pong", "s|ping", "r|0")
    root = await node.run("ping")
    assert root.completed
    tree = await node.tree(root.id)
    assert [one.depth for one in tree] == list(range(1, 9))
    assert [one.task_name for one in tree] == ["pong", "ping"] * 4
    logged = await node.node.logged(tree[-1].id)
    assert any("agents call each other up to 8 deep" in line for line in logged)
    assert any("ping -> pong -> ping" in line for line in logged)


async def test_calls_at_once_are_bounded(tmp_path: Path, guest: Guest) -> None:
    async with agents(tmp_path, guest, **{"agents.children": 3}) as node:
        await node.task("loop", "S")
        said = await node.invoke("parent", *["s|loop||1"] * 4, "c|0|", "w|0|-1", "s|echo|x")
        assert said == ["0", "0", "0", "-16", "0", "0", "0"]


async def test_a_full_node_does_not_stand_still_on_what_waits_for_itself(
    tmp_path: Path, guest: Guest
) -> None:
    """One guest at a time, chains three deep, four at once: each ends, none by its deadline."""
    settings = {"executor.max_parked": 1}
    async with agents(tmp_path, guest, **settings) as node:
        await node.task("two", "s|echo|deep", "r|0")
        await node.task("one", "s|two|x", "r|0")
        said = await asyncio.gather(*(node.invoke("one") for _ in range(4)))
        assert said == [["0", "0", "deep", ""]] * 4
        assert (await node.node.services.stats())["admission"]["running"] == 0


async def test_a_task_that_would_wait_for_itself_is_refused(node: Agents) -> None:
    await node.task("single", "s|single|x", concurrency=1)
    execution = await node.run("single")
    assert execution.output == b"-1\n"
    assert any("runs 1 at a time" in line for line in await node.node.logged(execution.id))


# ---- class power, and deaths


async def test_children_of_an_async_parent_are_of_class_power(node: Agents) -> None:
    services = node.node.services
    accepted = await services.submit("parent", b"", Invocation(args=("s|echo|hi", "r|0")))
    ended = await services.wait(accepted.id)
    assert ended.output == b"0\nhi\n"
    (child,) = await node.tree(accepted.id)
    assert (child.mode, child.durability) == ("async", "power")


@pytest.mark.parametrize("power", [False, True])
async def test_a_node_that_died_ends_what_was_bound_and_keeps_what_was_detached(
    node: Agents, power: bool
) -> None:
    await node.task("loop", "S", retry=Retry(attempts=2, on=("OUTCOME_UNKNOWN",)))
    retry = Retry(attempts=2, on=("OUTCOME_UNKNOWN",), backoff_ns=1)
    await node.task("slow", "z|100", "i", retry=retry)
    await node.task("lined", "S", concurrency=1)
    services = node.node.services
    calls = ("s|lined||1", "s|lined||1", "s|loop||1", "s|slow|on|3", "z|60000")
    call = Invocation(args=calls)
    parent = await services.submit("parent", b"", call)
    await node.started("loop")
    await node.started("slow")
    services = await node.node.crash(power=power)
    ended = {
        one.task_name: await services.wait(one.id)
        for one in (await services.executions(root=parent.id)).executions
    }
    assert (await services.wait(parent.id)).error.code == "OUTCOME_UNKNOWN"  # type: ignore[union-attr]
    assert ended["lined"].status in ("failed", "terminated")
    assert ended["loop"].status == "failed"
    assert ended["loop"].attempt == 1
    assert (ended["slow"].status, ended["slow"].output) == ("completed", b"on")
    assert (ended["slow"].attempt, ended["slow"].depth) == (2, 1)


async def test_a_call_of_a_task_that_prints_is_over_as_soon_as_it_has_ended(
    node: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log is looked at in pauses, which its end does not wait for."""
    monkeypatch.setattr("spear.spearlet.node.follower._PAUSE_S", 3600.0)
    assert await node.invoke("parent", "n|200|echo|x", timeout_ms=60_000) == ["200"]


@pytest.mark.parametrize("count", [1_000, pytest.param(100_000, marks=pytest.mark.soak)])
@pytest.mark.timeout(900)
async def test_thousands_of_calls_leave_nothing(node: Agents, count: int) -> None:
    assert await node.invoke("parent", "n|500|echo|x") == ["500"]
    before = await counts(node)
    said = await node.invoke("parent", f"n|{count}|echo|x", timeout_ms=900_000)
    assert said == [str(count)]
    after = await counts(node)
    assert after == before


async def counts(node: Agents) -> dict[str, int]:
    import gc

    from spear._core.handles import live_count

    gc.collect()
    stats = await node.node.services.stats()
    kinds = ("Handle", "TaskCall", "Call", "Work", "Kin", "Agent", "Meter")
    found = dict.fromkeys(kinds, 0)
    for one in gc.get_objects():
        if type(one).__name__ in found:
            found[type(one).__name__] += 1
    return found | {
        "handles": live_count(), "tasks": len(asyncio.all_tasks()),
        "live": stats["executions"]["live"], "running": stats["admission"]["running"],
    }  # fmt: skip

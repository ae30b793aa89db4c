"""A tree of agents under one budget: real guests, a real node, a model over HTTP.

The rule: the model says how much each answer took; what the records say of each execution adds up
to what they say of the tree.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from guest_runs import guest_bytes

import spear
from spear.records.execution import Execution, Invocation
from spear.records.task import TaskSpec
from spear.records.usage import AMOUNT_MAX, Usage
from tests.fakes.openai import OpenAiFake
from tests.fakes.step import HANG_BEFORE, Step

ANSWER = Step(prompt_tokens=200, completion_tokens=100)
NONE: dict[str, str] = {}
ANYBODY = {"tasks.allowed": "*"}
ASKS = ("m=Hello", "p=max_tokens=30", "s=0")
BACKEND = """
[[spearlet.llm.backends]]
name = "fake"
kind = "openai_chat_completion"
hosting = "local"
model = "m"
base_url = "{url}"
[[spearlet.llm.prices]]
model = "m"
prompt_usd_per_million = 1000000
"""


class Tree:
    """`parent` calls what its arguments say, `middle` calls `first` and `second`; these two ask a
    model, once."""

    def __init__(self, node: Any, fake: OpenAiFake) -> None:
        self.node, self.fake = node, fake

    async def register(self, budget: dict[str, str], within: dict[str, str] = NONE) -> None:
        """With the parent's budget, and the one of `middle`."""
        await self._task("parent", "caller", (), ANYBODY | budget)
        await self._task("middle", "caller", ("s|first", "s|second"), ANYBODY | within)
        for name in ("first", "second"):
            await self._task(name, "talker", ASKS, NONE)

    async def _task(
        self, name: str, guest: str, args: tuple[str, ...], config: dict[str, str]
    ) -> None:
        artifact = await self.node.put_artifact(guest_bytes(guest))
        await self.node.register(
            TaskSpec(name=name, artifact=artifact.digest, args=args, config=config)
        )

    async def run(self, *commands: str) -> tuple[Execution, list[Execution]]:
        """The parent, with its output, and what it called, oldest first."""
        found = await self.node.invoke("parent", b"", Invocation(args=commands))
        assert found.completed, found.error
        page = await self.node.executions(root=found.id)
        return found, list(reversed(page.executions))


@pytest.fixture
async def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tree]:
    async with OpenAiFake() as fake:
        fake.default = ANSWER
        (tmp_path / ".spear").mkdir()
        (tmp_path / ".spear" / "config.toml").write_text(BACKEND.format(url=fake.url))
        monkeypatch.setenv("HOME", str(tmp_path))
        async with spear.Spearlet.open(settings={"cache_dir": "off"}) as node:
            yield Tree(node, fake)


def used(*executions: Execution) -> Usage:
    return sum((one.usage for one in executions if one.usage), Usage())


@pytest.mark.parametrize("order", [("first", "second"), ("second", "first")])
async def test_the_tree_s_budget_stops_the_child_that_would_exceed_it(
    tree: Tree, order: tuple[str, str]
) -> None:
    await tree.register(
        {"budget.tokens": "400"}
    )  # less than the 300 that one takes, and what another may
    parent, children = await tree.run(*(f"s|{name}" for name in order), "r|0", "r|1")
    lines = parent.output.decode().splitlines()
    answer, refused = (json.loads(line) for line in lines if line.startswith("{"))
    assert answer["choices"][0]["message"]["content"] == "You said: Hello"
    assert refused["error"]["code"] == "budget_spent"
    assert "budget of 400 tokens has 100 tokens left" in refused["error"]["message"]
    assert len(tree.fake.requests) == 1
    assert [(one.task_name, one.usage and one.usage.tokens) for one in children] == [
        (order[0], 300), (order[1], None),
    ]  # fmt: skip
    assert parent.usage == Usage()
    assert parent.tree_usage == used(parent, *children)
    assert parent.tree_usage.calls == 1


async def test_each_child_fits_where_it_is_alone(tree: Tree) -> None:
    await tree.register({"budget.tokens": "400"})
    for name in ("first", "second"):
        parent, children = await tree.run(f"s|{name}", "r|0")
        assert b"You said: Hello" in parent.output
        assert parent.tree_usage == used(*children)
    assert len(tree.fake.requests) == 2


async def test_what_all_used_at_once_and_below_adds_up(tree: Tree) -> None:
    await tree.register({"budget.tokens": "100000"})
    calls = [f"s|{name}||1" for name in ("first", "middle", "second", "middle")]
    parent, children = await tree.run(*calls, "e|4")
    assert sorted(one.task_name for one in children) == [
        *["first"] * 3, *["middle"] * 2, *["second"] * 3,
    ]  # fmt: skip
    assert parent.tree_usage == used(parent, *children)
    assert (parent.tree_usage.calls, parent.tree_usage.tokens) == (6, 6 * 300)
    for middle in (one for one in children if one.task_name == "middle"):
        own = [one for one in children if one.parent_id == middle.id]
        assert middle.tree_usage == used(*own) != Usage()


async def test_a_budget_within_the_tree_stops_its_branch_alone(tree: Tree) -> None:
    await tree.register({"budget.tokens": "100000"}, {"budget.tokens": "400"})
    parent, children = await tree.run("s|middle", "s|second", "r|1")
    assert b"You said: Hello" in parent.output
    by_name = [(one.task_name, one.tree_usage and one.tree_usage.tokens) for one in children]
    assert by_name == [("middle", 300), ("first", 300), ("second", None), ("second", 300)]
    assert parent.tree_usage == used(parent, *children)


async def test_what_a_backend_claims_counts_as_far_as_a_record_holds(tree: Tree) -> None:
    """The ends are kept, and told, however much it claims."""
    tree.fake.default = msgspec.structs.replace(ANSWER, prompt_tokens=2**53 - 1)
    await tree.register(NONE)
    parent, children = await tree.run("s|first", "s|second")
    for one in (parent, *children):
        assert one.completed, one.error
        assert one.tree_usage is not None
        assert one.tree_usage.cost_nano_usd == AMOUNT_MAX
    assert parent.tree_usage.prompt_tokens == 2 * (2**53 - 1)
    assert (await tree.node.stats())["executions"]["unkept"] == 0


async def test_a_call_that_an_execution_ended_within_is_in_its_record_and_in_the_tree_s(
    tree: Tree,
) -> None:
    tree.fake.default = Step(hang=HANG_BEFORE)
    await tree.register(NONE)
    accepted = await tree.node.submit("parent", b"", Invocation(args=("s|first", "s|second")))
    await tree.fake.wait_requests(1)
    await tree.node.cancel(accepted.id, "enough")
    parent = await tree.node.wait(accepted.id)
    (child,) = (await tree.node.executions(root=parent.id)).executions
    child = await tree.node.wait(child.id)
    assert (parent.status, child.status) == ("terminated", "terminated")
    assert (parent.usage.calls, parent.tree_usage.calls) == (0, 1)
    assert (child.usage.calls, child.tree_usage.calls) == (1, 1)
    assert parent.usage.model_ns == 0
    for usage in (parent.tree_usage, child.usage, child.tree_usage):
        assert 0 < usage.model_ns <= parent.finished_ns - parent.created_ns + 10**9

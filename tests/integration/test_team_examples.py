"""The examples of several executions on one node: the team of agents, and passages that are kept.

The rule: the task files and modules are the committed ones. The stub answers, and over HTTP a fake
of each API that can.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fakes.server import Fake
from fakes.step import Step
from guest_runs import ROOT, guest_bytes
from model_apis import APIS, every_api

import spear
from cli.screens import family
from spear.records.execution import Execution, Invocation
from spear.records.task import TaskSpec
from spear.spearlet import taskfile
from spear.spearlet.node.own import OwnNode

PASSAGES = (ROOT / "examples/retrieval/passages.txt").read_bytes()


BACKEND = """
[spearlet.llm]
retries = 0

[[spearlet.llm.backends]]
name = "fake"
kind = "{kind}"
hosting = "local"
model = "m"
base_url = "{url}"
ops = {ops}
"""


@asynccontextmanager
async def node_over(api: str, home: Path) -> AsyncIterator[tuple[OwnNode, Fake]]:
    """A node with a fake of that API as its only backend, as the configuration says."""
    async with APIS[api].fake() as fake:
        spec = APIS[api].settings(fake.url).spec
        (home / ".spear").mkdir()
        (home / ".spear" / "config.toml").write_text(
            BACKEND.format(kind=spec.kind, url=fake.url, ops=json.dumps(spec.ops))
        )
        async with spear.Spearlet.open(settings={"cache_dir": "off"}) as opened:
            yield opened, fake


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of nobody: no configuration of who runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
async def node(home: Path) -> AsyncIterator[OwnNode]:
    async with spear.Spearlet.open(settings={"cache_dir": "off"}) as opened:
        yield opened


async def register(node: OwnNode, name: str, **spec: object) -> None:
    artifact = await node.put_artifact(guest_bytes(name))
    await node.register(TaskSpec(name=name, artifact=artifact.digest, **spec))


async def planner(node: OwnNode) -> None:
    """As its task file says."""
    file = taskfile.read(str(ROOT / "examples/team/planner.toml"))
    await register(node, "planner", config=file.spec.config)


async def run(node: OwnNode, task: str, *args: str, input: bytes = b"") -> Execution:
    found = await node.invoke(task, input, Invocation(args=args))
    return await node.execution(found.id, include_output=True)


async def test_a_planner_has_workers_look_into_topics_and_write(node: OwnNode) -> None:
    await planner(node)
    for worker in ("researcher", "writer"):
        await register(node, worker)
    root = await run(node, "planner", "fibers", "deadlines")
    assert root.completed, root
    text, _, notes = root.output.decode().partition("\n\nNotes:\n")
    assert text == "stub chat completion"
    assert sorted(notes.splitlines()) == [
        "deadlines: stub chat completion", "fibers: stub chat completion",
    ]  # fmt: skip
    assert root.tree_usage is not None
    assert root.tree_usage.calls == 3
    below = (await node.executions(root=root.id)).executions
    drawn = family.text_of(root, below, root.id).splitlines()
    assert [next(word for word in line.split() if word in _TEAM) for line in drawn] == [
        "planner", "researcher", "researcher", "writer",
    ]  # fmt: skip
    assert drawn[3].startswith("`- ")


@every_api
async def test_the_team_works_over_each_api(api: str, home: Path) -> None:
    async with node_over(api, home) as (node, fake):
        await planner(node)
        for worker in ("researcher", "writer"):
            await register(node, worker)
        root = await run(node, "planner", "fibers", "deadlines")
        assert root.completed, root
        text, _, notes = root.output.decode().partition("\n\nNotes:\n")
        said = sorted(notes.splitlines())
        assert said == ["deadlines: You said: deadlines", "fibers: You said: fibers"]
        assert text.startswith("You said: ")
        assert all(line in text for line in said)
        assert root.tree_usage is not None
        assert (root.tree_usage.calls, root.tree_usage.tokens) == (3, 3 * 18)
        assert len(fake.requests) == 3


@every_api
@pytest.mark.parametrize("fault", [Step(status=401, error="no such key"), Step(drop=True)])
async def test_the_team_says_whose_model_failed_over_each_api(
    fault: Step, api: str, home: Path
) -> None:
    async with node_over(api, home) as (node, fake):
        fake.default = fault
        await planner(node)
        await register(node, "researcher")
        root = await run(node, "planner", "fibers")
        assert (root.status, root.exit_code, root.output) == ("failed", 1, b"")
        (worker,) = (await node.executions(root=root.id)).executions
        lines = [line.message async for batch in node.logs(worker.id) for line in batch]
        assert any('{"error":{"message":"' in line for line in lines)


_TEAM = ("planner", "researcher", "writer")


async def test_a_planner_says_who_did_not_work(node: OwnNode) -> None:
    await planner(node)
    failed = await run(node, "planner", "fibers")  # there is no researcher
    assert (failed.status, failed.exit_code, failed.output) == ("failed", 1, b"")
    await register(node, "researcher", config={"llm.backends": "nobody"})
    failed = await run(node, "planner", "fibers")
    assert (failed.status, failed.exit_code) == ("failed", 1)
    called = (await node.executions(root=failed.id)).executions
    assert [one.status for one in called if one.task_name == "researcher"] == ["failed"]


async def test_passages_that_one_execution_learnt_are_found_by_the_next(node: OwnNode) -> None:
    await register(node, "retrieval")
    learnt = await run(node, "retrieval", input=PASSAGES)
    assert (learnt.completed, learnt.output) == (True, b"")
    found = await run(node, "retrieval", "Who shares values in memory?", "What costs money?")
    lines = found.output.decode().splitlines()
    assert lines[0] == "Who shares values in memory?"
    assert "  The object store keeps values under names" in lines[1]
    assert lines[3] == "What costs money?"
    assert "A budget limits" in lines[4]
    scores = [float(line.split()[0]) for line in (lines[1], lines[2])]
    assert 0 < scores[1] < scores[0] <= 1


@pytest.mark.parametrize("api", [name for name in APIS if APIS[name].embeds])
async def test_passages_are_embedded_over_each_api_that_can(api: str, home: Path) -> None:
    """The fakes' vectors are alike where texts are of like length."""
    async with node_over(api, home) as (node, fake):
        await register(node, "retrieval")
        passages = ["short", "middling " * 3, "a long one " * 30]
        learnt = await run(node, "retrieval", input="\n\n".join(passages).encode())
        assert learnt.completed, learnt
        found = await run(node, "retrieval", "whose")
        assert found.output.decode().splitlines()[:2] == ["whose", "  1.00  short"]
        assert len(fake.requests) == 4
        fake.default = Step(status=500)
        failed = await run(node, "retrieval", "whose")
        assert (failed.status, failed.exit_code) == ("failed", 1)


async def test_without_embeddings_nothing_is_learnt(home: Path) -> None:
    async with node_over("anthropic", home) as (node, fake):
        await register(node, "retrieval")
        failed = await run(node, "retrieval", input=PASSAGES)
        assert (failed.status, failed.exit_code) == ("failed", 1)
        lines = [line.message async for batch in node.logs(failed.id) for line in batch]
        assert any("'fake' does not do embeddings" in line for line in lines)
        assert fake.requests == []


async def test_a_passage_is_nearest_to_itself_and_long_ones_are_parted(node: OwnNode) -> None:
    await register(node, "retrieval")
    word = b"word " * 200
    text = b"first passage here\n\n\n" + word + b"\n" + word * 9 + b"\r\n\r\nlast, without an end"
    await run(node, "retrieval", input=text)
    found = await run(node, "retrieval", "last, without an end", "first passage here")
    lines = found.output.decode().splitlines()
    assert lines[1] == "  1.00  last, without an end"
    assert "  1.00  first passage here" in lines


async def test_without_passages_there_is_no_answer_but_the_question(node: OwnNode) -> None:
    await register(node, "retrieval")
    assert (await run(node, "retrieval", "Who?")).output == b"Who?\n"

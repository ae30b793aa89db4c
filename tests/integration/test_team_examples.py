"""The examples of several executions on one node: the team of agents, and passages that are kept.

The rule: the task files and modules are the committed ones; the stub answers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from guest_runs import ROOT, guest_bytes

import spear
from cli.screens import family
from spear.records.execution import Execution, Invocation
from spear.records.task import TaskSpec
from spear.spearlet import taskfile
from spear.spearlet.node.own import OwnNode

PASSAGES = (ROOT / "examples/retrieval/passages.txt").read_bytes()


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OwnNode]:
    monkeypatch.setenv("HOME", str(tmp_path))  # no configuration of who runs the tests
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

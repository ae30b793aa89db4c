"""A node's guests and its Python callers share one object store, each task its own part of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import make_config
from guest_runs import python
from object_runs import EACCES, ENOMEM, Answer, Call, answers_of, get, input_of, put

import spear
from spear._core.tasknames import TASK_NAME_BYTES_MAX
from spear.errors import InvalidArgument
from spear.runtime.stub import StubRuntime

Guest = Callable[[str], Path]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[spear.SyncSpearlet]:
    with spear.Spearlet.sync(config=make_config(tmp_path, objects__size="64KiB")) as node:
        yield node


def asked(
    node: spear.SyncSpearlet, path: Path, *calls: Call, name: str = "", grants: list[str]
) -> list[Answer]:
    execution = node.run(path, input=input_of(calls), name=name, object_grants=grants)
    assert execution.completed, execution.error
    return answers_of(calls, execution.output)


def test_a_guests_objects_lie_under_its_tasks_name(node: spear.SyncSpearlet, guest: Guest) -> None:
    path = guest("object_calls")
    asked(node, path, put(b"x", b"one"), name="agent", grants=[])
    asked(node, path, put(b"x", b"two"), grants=[])
    assert bytes(node.objects.get(b"/agent/x")) == b"one"
    assert bytes(node.objects.get(b"/object_calls/x")) == b"two"


def test_a_grant_is_for_one_execution(node: spear.SyncSpearlet, guest: Guest) -> None:
    path = guest("object_calls")
    node.objects.put(b"/agent/x", b"one")
    (granted,) = asked(node, path, get(b"/agent/x"), grants=["agent"])
    assert granted.out == b"one"
    (refused,) = asked(node, path, get(b"/agent/x"), grants=["agents"])
    assert refused.result == EACCES


def test_the_budget_is_the_configured_one(node: spear.SyncSpearlet, guest: Guest) -> None:
    assert node.objects.stats().bytes_max == 65536
    (answer,) = asked(node, guest("object_calls"), put(b"x", b"v" * 65537), grants=[])
    assert answer.result == ENOMEM


def test_nodes_share_nothing(node: spear.SyncSpearlet, guest: Guest, tmp_path: Path) -> None:
    node.objects.put(b"shared/x", b"v")
    with spear.Spearlet.sync(config=make_config(tmp_path)) as other:
        assert len(other.objects) == 0
    assert node.objects is node.objects


async def test_the_async_face_has_the_same_store(tmp_path: Path, guest: Guest) -> None:
    async with spear.Spearlet(config=make_config(tmp_path)) as node:
        await node.run(guest("object_calls"), input=input_of([put(b"shared/x", b"v")]))
        assert bytes(node.objects.get(b"shared/x")) == b"v"


def test_a_node_makes_no_store_for_a_guest_that_uses_none(guest: Guest) -> None:
    done = python(f"""
import sys, spear
with spear.Spearlet.sync() as node:
    assert node.run({str(guest("hello"))!r}).completed
    assert not [name for name in sys.modules if "objstore" in name or "hostobjects" in name]
    assert node.run({str(guest("object_calls"))!r}).completed
    assert "spear._core.hostobjects" in sys.modules
""")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["a/b", "/", "x" * (TASK_NAME_BYTES_MAX + 1), "a\0b"])
def test_a_name_that_no_task_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with spear.Spearlet.sync(config=make_config(tmp_path), runtime=StubRuntime()) as node:
        with pytest.raises(InvalidArgument, match="a task's name is 1 to 255 bytes"):
            node.start(b"stub", name=name)
        with pytest.raises(InvalidArgument, match="a task's name is 1 to 255 bytes"):
            node.start(b"stub", object_grants=[name])


@pytest.mark.parametrize("grants", ["agent", 7, [b"agent"], {"agent"}, ["a"] * 257])
def test_grants_that_are_no_list_of_names_are_refused(tmp_path: Path, grants: object) -> None:
    with (
        spear.Spearlet.sync(config=make_config(tmp_path), runtime=StubRuntime()) as node,
        pytest.raises(InvalidArgument, match="object_grants"),
    ):
        node.start(b"stub", object_grants=grants)  # type: ignore[arg-type]


def test_name_and_grants_reach_the_runtime(tmp_path: Path) -> None:
    runtime = StubRuntime()
    with spear.Spearlet.sync(config=make_config(tmp_path), runtime=runtime) as node:
        node.start(b"stub", name="agent", object_grants=["one", "two"])
        node.start(b"stub")
    found = [(run.invocation.task, run.invocation.object_grants) for run in runtime.runs]
    assert found == [("agent", ("one", "two")), ("main", ())]

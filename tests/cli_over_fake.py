"""The command in this process, over a fake node that outlives each call; the fixture `cli`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import guest_path
from elsewhere import Elsewhere, Remote
from fake_node import FakeNode

from spear import config as configuration
from spear.cli import tree
from spear.cli.visits.dial import Where
from spear.records.execution import Execution, Invocation
from spear.records.task import Task, TaskSpec


class Said(NamedTuple):
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """The words of each row of a table, without its headings."""
        return [line.split() for line in self.out.splitlines()[1:]]

    @property
    def fields(self) -> dict[str, str]:
        """What a record shows, by name."""
        pairs = (line.partition("  ") for line in self.out.splitlines())
        return {name: value.strip() for name, _, value in pairs}


class Cli:
    """`cli("ls", "tasks")` is `spear ls tasks`, on `node`."""

    def __init__(self, elsewhere: Elsewhere, capture: pytest.CaptureFixture[bytes]) -> None:
        self._elsewhere, self._capture = elsewhere, capture
        self.node: FakeNode = elsewhere.node
        self.dialled: list[Where] = []

    def __call__(self, *words: str | Path) -> Said:
        def dial(where: Where) -> Remote:
            self.dialled.append(where)
            return Remote(self._elsewhere)

        self._capture.readouterr()
        code = tree.invoke([str(word) for word in words], dial=dial)  # type: ignore[arg-type]
        out, err = self._capture.readouterr()
        return Said(code, out.decode(), err.decode())

    def do(self, call: Any) -> Any:
        """Runs a coroutine of the node on its loop."""
        return self._elsewhere.do(call)

    def task(self, guest: str, **fields: Any) -> Task:
        """Registers a committed guest under its own name."""
        data = guest_path(guest).read_bytes()
        artifact = self.do(self.node.put_artifact(data))
        name = fields.pop("name", guest.rpartition("/")[2])
        found: Task = self.do(
            self.node.register(TaskSpec(name=name, artifact=artifact.digest, **fields))
        )
        return found

    def ran(self, task: str, input: bytes = b"", **call: Any) -> Execution:
        """The record of a call that was made by somebody else."""
        found: Execution = self.do(self.node.invoke(task, input, Invocation(**call)))
        return found

    def running(self, guest: str = "loop/loop") -> Execution:
        """An execution that does not end by itself, and has begun."""
        task = self.task(guest)
        accepted: Execution = self.do(self.node.submit(task.name))

        async def begun() -> None:
            async for _ in self.node.logs(accepted.id, follow=True):
                return

        self.do(begun())
        return accepted


@pytest.fixture(name="cli")
def cli_fixture(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cli]:
    for setting in configuration.SETTINGS:
        monkeypatch.delenv(setting.environment, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    elsewhere = Elsewhere(FakeNode)
    yield Cli(elsewhere, capfdbinary)
    elsewhere.close()

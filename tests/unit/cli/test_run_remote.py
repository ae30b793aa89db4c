"""`spear run --node`: the screen and exit codes of a run here, by a fake node."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cli_over_fake import Cli, cli_fixture  # noqa: F401
from conftest import guest_path
from elsewhere import Remote

from spear.cli import run
from spear.cli.arguments import UsageError, parse
from spear.cli.running import remote
from spear.cli.visits.dial import Where


def by_node(cli: Cli, guest: str, *words: str) -> tuple[int, str, str]:
    path = str(guest_path(guest))
    parsed = parse([path, "--node", "unix:/x", *words], run.OPTIONS)

    def dial(where: Where) -> Remote:
        assert where.address == "unix:/x"
        return Remote(cli._elsewhere)

    cli._capture.readouterr()
    code = remote.main(parsed, path, run.config_of(parsed), dial)  # type: ignore[arg-type]
    out, err = cli._capture.readouterr()
    return code, out.decode(), err.decode()


def test_output_and_log_are_where_a_run_here_has_them(cli: Cli) -> None:
    assert by_node(cli, "hello") == (
        0, "Hello, SPEAR!\n", "[info] hello from a guest\n[info] the time is 0 ms\n",
    )  # fmt: skip


def test_what_the_guest_is_given_reaches_it(cli: Cli, tmp_path: Path) -> None:
    _, out, _ = by_node(cli, "environ", "--env", "A=1", "--", "one")
    assert out.splitlines() == ["arg one", "env A=1"]
    (tmp_path / "payload").write_bytes(b"x" * 100_000)
    assert by_node(cli, "wasi/echo", "--input", "payload")[1] == "x" * 100_000


@pytest.mark.parametrize(
    ("guest", "words", "code"),
    [
        ("exit_code", ["--", "3"], 3),
        ("trap/trap", [], 134),
        ("loop/loop", ["--timeout", "30ms"], 124),
    ],
)
def test_it_ends_as_a_run_here(cli: Cli, guest: str, words: Sequence[str], code: int) -> None:
    assert by_node(cli, guest, *words)[0] == code


def test_json_is_the_document_of_a_run(cli: Cli) -> None:
    code, out, err = by_node(cli, "hello", "--output", "json")
    found = json.loads(out)
    assert (code, err, found["status"], found["output"]) == (0, "", "completed", "Hello, SPEAR!\n")
    assert [line["seq"] for line in found["logs"]] == [1, 2]
    assert found["task"] == "hello"


def test_limits_reach_the_node_where_they_were_said(cli: Cli) -> None:
    by_node(cli, "hello", "--timeout", "7s")
    (execution,) = cli.do(cli.node.executions()).executions
    assert execution.timeout_ns == 7 * 10**9


def test_an_interrupt_ends_the_guest_and_is_said(cli: Cli) -> None:
    def interrupt() -> None:
        async def running() -> None:
            async for found in cli.node.watch():
                if found.status == "running":
                    os.kill(os.getpid(), signal.SIGINT)
                    return

        cli.do(running())

    thread = threading.Thread(target=interrupt)
    thread.start()
    while not cli.node.runs._watchers:
        pass
    code, _, err = by_node(cli, "loop/loop")
    thread.join()
    assert (code, err.endswith("error: interrupted\n")) == (130, True)
    (execution,) = cli.do(cli.node.executions()).executions
    assert execution.status == "terminated"


@pytest.mark.parametrize("flag", ["--deterministic", "--seed=1", "--repeat=2", "--parallel=2"])
def test_what_is_for_runs_here_is_refused(cli: Cli, flag: str) -> None:
    with pytest.raises(UsageError, match="is for runs in this process"):
        by_node(cli, "hello", flag)
    assert cli.do(cli.node.artifacts()) == []


def test_a_node_that_is_not_there_is_125_with_advice(cli: Cli, tmp_path: Path) -> None:
    words = [str(guest_path("hello")), "--node", f"unix:{tmp_path}/no.sock"]
    assert run.main(words) == 125
    said = cli._capture.readouterr().err.decode()
    assert said.startswith("error: no node answers")
    assert "hint: spear up starts a node" in said


def test_entries_of_a_config_reach_the_node_and_unread_ones_are_a_warning(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, invoke = [], cli.node.invoke

    async def noting(task: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(task.config)
        return await invoke(task, *args, **kwargs)

    monkeypatch.setattr(cli.node, "invoke", noting)
    words = ("--set", "budget.calls=3", "--set", "foo.bar=1")
    code, _, err = by_node(cli, "hello", *words)
    assert (code, seen) == (0, [{"budget.calls": "3", "foo.bar": "1"}])
    assert err.startswith("warning: nothing reads this of the task's config: foo.bar\n")
    code, out, _ = by_node(cli, "hello", *words, "--output", "json")
    assert json.loads(out)["warnings"] == ["nothing reads this of the task's config: foo.bar"]

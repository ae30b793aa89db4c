"""The verbs that hand out work and follow it, over a fake node: text, JSON, errors, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_over_fake import Cli, cli_fixture  # noqa: F401
from conftest import guest_path

from spear.cli.verbs.work import logs as logs_verb
from spear.records.execution import LogLine
from spear.records.task import Limits

# invoke


def test_invoke_gives_the_output_and_the_exit_code(cli: Cli) -> None:
    cli.task("hello")
    said = cli("invoke", "hello")
    assert (said.code, said.out) == (0, "Hello, SPEAR!\n")


def test_invoke_hands_on_what_the_call_is_given(cli: Cli, tmp_path: Path) -> None:
    cli.task("environ", args=("of the task",), env={"A": "1"})
    said = cli("invoke", "environ", "--env", "B=2", "--", "one", "--two")
    assert said.out.splitlines() == ["arg one", "arg --two", "env A=1", "env B=2"]
    assert cli("invoke", "environ").out.splitlines()[0] == "arg of the task"
    (tmp_path / "payload").write_bytes(b"from a file")
    cli.task("wasi/echo")
    assert cli("invoke", "echo", "--input", "payload").out == "from a file"


def test_invoke_ends_as_run_does(cli: Cli) -> None:
    cli.task("exit_code")
    assert cli("invoke", "exit_code", "--", "3").code == 3
    cli.task("trap/trap")
    trapped = cli("invoke", "trap")
    assert (trapped.code, trapped.out) == (134, "half")
    assert (
        "error: the guest trapped: unreachable\n    at deeper (module offset 0x1f)" in trapped.err
    )
    cli.task("loop/loop")
    late = cli("invoke", "loop", "--timeout", "30ms")
    assert late.code == 124
    (record,) = cli("ls", "--status", "timeout", "--output", "json").json
    assert f"hint: spear logs {record['id']}" in late.err


def test_invoke_as_json_is_the_document_of_run(cli: Cli) -> None:
    cli.task("hello")
    found = cli("invoke", "hello", "--output", "json").json
    assert (found["status"], found["exit_code"], found["output"]) == (
        "completed",
        0,
        "Hello, SPEAR!\n",
    )
    assert found["logs"][0]["message"] == "hello from a guest"
    assert found["artifact"]["source"] is None
    assert found["limits"]["timeout_ms"] == 60_000


def test_invoke_reads_what_is_too_large_for_a_record(cli: Cli, tmp_path: Path) -> None:
    cli.task("wasi/echo")
    text = "0123456789" * 10_000
    (tmp_path / "large").write_text(text)
    assert cli("invoke", "echo", "--input", "large").out == text
    assert cli("invoke", "echo", "--input", "large", "--output", "json").json["output"] == text


def test_invoke_of_a_library_takes_numbers(cli: Cli) -> None:
    cli.task("shapes/add")
    said = cli("invoke", "add", "--function", "add", "--output", "json", "--", "1", "2.5")
    assert said.code == 0
    (record,) = cli("ls", "--output", "json").json
    assert (record["function"], record["value"]) == ("add", [3.5])
    bad = cli("invoke", "add", "--function", "add", "--", "one")
    assert (bad.code, bad.err.startswith("error: with --function, arguments are numbers")) == (
        2,
        True,
    )


def test_invoke_prints_what_a_function_returned(cli: Cli) -> None:
    cli.task("shapes/add")
    assert cli("invoke", "add", "--function", "add", "--", "1", "2").out == "3\n"


def test_a_task_that_is_not_there_is_not_found(cli: Cli) -> None:
    said = cli("invoke", "nobody")
    assert (said.code, said.out) == (3, "")
    sentence = "no task 'nobody': spear ls tasks lists those that are there"
    assert said.err == f"error: {sentence}\n"
    as_json = cli("invoke", "nobody", "--output", "json")
    assert (as_json.code, as_json.err) == (3, "")
    assert as_json.json == {"error": {"code": "NOT_FOUND", "message": sentence, "hint": ""}}


def test_bad_options_are_wrong_use_before_the_node_is_asked(cli: Cli) -> None:
    for words in (["--env", "A"], ["--timeout", "soon"], ["--priority", "best"]):
        said = cli("invoke", "nobody", *words)
        assert said.code == 2, words
        assert said.err.startswith("error: "), words


@pytest.mark.parametrize(
    "words",
    [
        ("invoke", "echo", "--timeout", "soon"),
        ("wait", "12345678", "--timeout", "soon"),
        ("node", "drain", "--grace", "soon"),
        ("schedule", "add", "echo", "--every", "soon"),
        ("task", "update", "echo", "--timeout", "soon"),
        ("task", "update", "echo", "--memory", "much"),
    ],
)
def test_a_value_that_cannot_be_read_is_told_by_its_option(
    cli: Cli, words: tuple[str, ...]
) -> None:
    said = cli(*words)
    assert said.code == 2
    assert said.err.startswith(f"error: {words[-2]}: expected a ")


def test_the_address_and_the_configuration_reach_the_dial(cli: Cli) -> None:
    cli("ls", "--node", "unix:/run/x.sock", "--config", "c.toml")
    cli("ls", "--node", "far:1", "--ca", "ca.pem", "--token-file", "token")
    assert cli.dialled == [
        ("unix:/run/x.sock", "c.toml", None, None), ("far:1", None, "ca.pem", "token"),
    ]  # fmt: skip


# submit


def test_submit_prints_the_id_and_nothing_else_on_stdout(cli: Cli) -> None:
    cli.task("wasi/echo")
    said = cli("submit", "echo")
    assert said.err == "task echo is submitted (durability: power)\n"
    assert cli("wait", said.out.strip()).code == 0
    assert cli("submit", "echo", "--output", "json").json["mode"] == "async"


def test_submit_of_a_module_puts_it_once_and_registers_nothing(cli: Cli) -> None:
    for _ in range(2):
        said = cli("submit", guest_path("hello"), "--wait")
        assert (said.code, said.out) == (0, "Hello, SPEAR!\n")
    assert len(cli("ls", "artifacts", "--output", "json").json) == 1
    assert cli("ls", "tasks", "--output", "json").json == []
    assert [row[1] for row in cli("ls").rows] == ["hello", "hello"]


def test_submit_with_the_same_key_is_the_same_execution(cli: Cli) -> None:
    cli.task("hello")
    first = cli("submit", "hello", "--key", "monday").out
    assert cli("submit", "hello", "--key", "monday").out == first


def test_submit_and_wait_end_as_run_does(cli: Cli) -> None:
    cli.task("exit_code")
    assert cli("submit", "exit_code", "--wait", "--", "7").code == 7
    found = cli("submit", "exit_code", "--wait", "--output", "json", "--", "7")
    assert (found.code, found.json["exit_code"], found.err) == (7, 7, "")


def test_submit_needs_one_thing(cli: Cli) -> None:
    assert cli("submit").code == 2
    assert cli("submit", "nothing.wasm").code == 3


# wait, result


def test_wait_says_how_it_ended(cli: Cli) -> None:
    cli.task("exit_code")
    good, bad = cli.ran("exit_code", args=("0",)), cli.ran("exit_code", args=("3",))
    said = cli("wait", good.id)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("completed in ")
    assert said.out.endswith(", exit code 0 (durability: crash)\n")
    assert cli("wait", bad.id).code == 1
    assert cli("wait", bad.id, "--output", "json").json["exit_code"] == 3


def test_wait_gives_up_and_leaves_it(cli: Cli) -> None:
    accepted = cli.running()
    said = cli("wait", accepted.id, "--timeout", "10ms")
    assert (said.code, "still runs" in said.err) == (1, True)
    assert cli("status", accepted.id, "--output", "json").json["status"] == "running"


def test_result_is_the_output_byte_for_byte(cli: Cli, tmp_path: Path) -> None:
    cli.task("wasi/echo")
    execution = cli.ran("echo", b"line\r\n\x1b[1mno end")
    assert cli("result", execution.id) == (0, "line\r\n\x1b[1mno end", "")
    said = cli("result", execution.id, "-o", "answer")
    assert (tmp_path / "answer").read_bytes() == b"line\r\n\x1b[1mno end"
    assert said.out == "answer: 16 bytes\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer"]


def test_result_of_a_failed_one_is_what_it_wrote_until_then(cli: Cli) -> None:
    cli.task("trap/trap")
    said = cli("result", cli.ran("trap").id)
    assert (said.code, said.out) == (1, "half")
    assert said.err.startswith("error: the guest trapped")


def test_result_that_cannot_be_saved_leaves_nothing(cli: Cli, tmp_path: Path) -> None:
    cli.task("hello")
    said = cli("result", cli.ran("hello").id, "-o", "nowhere/answer")
    assert (said.code, said.err) == (
        2,
        "error: cannot write 'nowhere/answer': No such file or directory\n",
    )


def test_result_of_what_runs_is_refused(cli: Cli) -> None:
    accepted = cli.running()
    said = cli("result", accepted.id)
    assert said.code == 4
    assert f"spear wait {accepted.id}" in said.err


# logs


def test_logs_show_level_and_message(cli: Cli) -> None:
    cli.task("hello")
    said = cli("logs", cli.ran("hello").id)
    assert [line[12:] for line in said.out.splitlines()] == [
        " [info] hello from a guest", " [info] the time is 0 ms",
    ]  # fmt: skip


def test_logs_as_json_are_a_document_a_line(cli: Cli) -> None:
    cli.task("hello")
    execution = cli.ran("hello")
    lines = cli("logs", execution.id, "--output", "json", "--after", "1").out.splitlines()
    (line,) = map(json.loads, lines)
    assert (line["seq"], line["message"], line["execution_id"]) == (
        2,
        "the time is 0 ms",
        execution.id,
    )


def test_followed_logs_end_with_the_execution(cli: Cli) -> None:
    cli.task("loop/loop", limits=Limits(timeout_ns=50_000_000))
    accepted = cli("submit", "loop").out.strip()
    said = cli("logs", "-f", accepted)
    assert (said.code, said.out.endswith("[info] looping\n")) == (0, True)


def test_a_line_cannot_fake_another_one() -> None:
    line = LogLine(execution_id="x", seq=1, time_ms=1, message="one\n[error] two\n")
    assert logs_verb.text_of(line) == ("00:00:00.001 [info] one\n00:00:00.001 [info] [error] two\n")
    out = LogLine(execution_id="x", seq=1, time_ms=1, stream="stderr", message="plain")
    assert logs_verb.text_of(out) == "00:00:00.001 [stderr] plain\n"
    mark = LogLine(execution_id="x", seq=1, time_ms=0, stream="system", message="gone")
    assert logs_verb.text_of(mark) == "[system] gone\n"  # when is not known


def test_logs_on_a_terminal_are_escaped(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from spear.cli import terminal

    accepted = cli.running()
    cli.node.runs._log(cli.node.runs.find(accepted.id), "info", "\x1b[2Jgone")
    assert "\x1b[2Jgone" in cli("logs", accepted.id).out
    monkeypatch.setattr(terminal, "is_terminal", lambda _: True)
    assert "\\x1b[2Jgone" in cli("logs", accepted.id).out


# cancel, rm, ids


def test_cancel_ends_it_and_rm_forgets_it(cli: Cli) -> None:
    accepted = cli.running()
    assert cli("rm", accepted.id).code == 4
    said = cli("cancel", accepted.id, "--reason", "wrong input")
    assert (said.code, said.out) == (
        0, f"execution {accepted.id} is terminated (durability: power)\n",
    )  # fmt: skip
    found = cli("status", accepted.id, "--output", "json").json
    assert (found["status"], found["error"]["message"]) == ("terminated", "wrong input")
    assert cli("rm", accepted.id).out == f"execution {accepted.id} is forgotten\n"
    assert cli("wait", accepted.id).code == 3


def test_a_table_shows_the_end_of_an_id_and_verbs_take_it(cli: Cli) -> None:
    cli.task("hello")
    execution = cli.ran("hello")
    (row,) = cli("ls").rows
    assert row[0] == execution.id[-8:]
    for part in (execution.id[-8:], execution.id[-6:], execution.id[:13], execution.id):
        assert cli("wait", part).code == 0, part


def test_a_part_that_fits_several_is_ambiguous(cli: Cli) -> None:
    cli.task("hello")
    first = "01890000-0000-7000-8000-00000000aaaa"
    second = "01890000-0000-7000-8000-00000100aaaa"
    for id in (first, second):
        cli.ran("hello", execution_id=id)
    said = cli("wait", first[:8])
    assert said.code == 2
    assert first in said.err
    assert second in said.err
    assert cli("wait", first[-8:]).code == 0
    assert cli("wait", "00aaaa").code == 2
    assert cli("wait", "bbaaaa").code == 3
    assert cli("wait", first[:5]).code == 3


# ls, status


def test_ls_lists_the_newest_first(cli: Cli) -> None:
    cli.task("exit_code")
    ids = [cli.ran("exit_code", args=(str(code),)).id for code in range(3)]
    rows = cli("ls").rows
    assert [row[0] for row in rows] == [id[-8:] for id in reversed(ids)]
    assert [row[2] for row in rows] == ["failed", "failed", "completed"]
    assert len(cli("ls", "--status", "failed").rows) == 2
    short = cli("ls", "--limit", "2")
    assert len(short.rows) == 2
    assert "--limit shows more" in short.err
    assert len(cli("ls", "--limit", "2", "--output", "json").json) == 2


def test_ls_of_nothing_says_so_and_json_is_an_empty_list(cli: Cli) -> None:
    for kind in ("executions", "tasks", "artifacts", "instances", "schedules"):
        assert cli("ls", kind) == (0, "", f"no {kind}\n")
        assert cli("ls", kind, "--output", "json") == (0, "[]\n", "")


def test_ls_refuses_a_filter_that_would_do_nothing(cli: Cli) -> None:
    assert cli("ls", "artifacts", "--task", "x").code == 2
    assert cli("ls", "instances", "--status", "ready").code == 2
    assert cli("ls", "nothing").code == 2


def test_a_module_is_submitted_with_entries_of_its_config(cli: Cli) -> None:
    assert cli("submit", "hello", "--set", "budget.calls=3").code == 2
    refused = cli("submit", "x.wasm", "--set", "budget.cals=3")
    assert refused.code == 2
    assert "budget.calls" in refused.err
    assert cli("submit", "x.wasm", "--set", "budget.calls").code == 2


def test_status_of_the_node_an_execution_and_a_task(cli: Cli) -> None:
    cli.task("trap/trap")
    execution = cli.ran("trap")
    node = cli("status")
    assert node.fields["version"] == "0.1.0"
    assert node.fields["executions"] == "total 1"
    info = cli.do(cli.node.info())
    assert list(node.fields)[: len(info)] == sorted(name.replace("_", " ") for name in info)
    assert cli("status", "--output", "json").json["info"]["node_name"] == "fake"
    one = cli("status", execution.id[-8:])
    assert one.fields["id"] == execution.id
    assert "error: the guest trapped" in one.err
    task = cli("status", "trap", "--output", "json").json
    assert (task["spec"]["name"], task["version"]) == ("trap", 1)
    assert cli("status", "nobody").code == 3


def test_json_has_every_field_with_times_in_milliseconds(cli: Cli) -> None:
    cli.task("hello")
    execution = cli.ran("hello")
    found = cli("status", execution.id, "--output", "json").json
    assert found["created_ms"] == execution.created_ns / 1e6
    assert found["error"] is None
    assert found["output_encoding"] == "utf-8"
    assert found["children"] == []
    assert not [key for key in found if key.endswith("_ns")]


# The whole


def test_a_node_that_is_not_there_is_exit_code_5_with_advice(cli: Cli, tmp_path: Path) -> None:
    from spear.cli import tree

    code = tree.invoke(["ls", "--node", f"unix:{tmp_path}/no.sock"])
    said = cli._capture.readouterr()
    assert code == 5
    assert b"no node answers" in said.err
    assert b"hint: spear up starts a node" in said.err
    assert tree.invoke(["ls", "--node", f"unix:{tmp_path}/no.sock", "--output", "json"]) == 5
    found = json.loads(cli._capture.readouterr().out)
    assert (found["error"]["code"], "spear up" in found["error"]["hint"]) == ("UNREACHABLE", True)


def test_entries_of_a_config_reach_the_node_by_each_verb_that_takes_them(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, wanted = ("--set", "budget.calls=3"), {"budget.calls": "3"}
    assert cli("task", "register", guest_path("hello"), *entry).code == 0
    assert cli.do(cli.node.task("hello")).spec.config == wanted
    changed = cli("task", "update", guest_path("hello"), "--set", "budget.calls=4")
    assert changed.code == 0
    assert cli.do(cli.node.task("hello")).spec.config == {"budget.calls": "4"}
    seen, submit = [], cli.node.submit

    async def noting(task: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(getattr(task, "config", None))
        return await submit(task, *args, **kwargs)

    monkeypatch.setattr(cli.node, "submit", noting)
    assert cli("submit", guest_path("hello"), *entry).code == 0
    file = tmp_path / "t.toml"
    file.write_text(f'name = "t"\nartifact = "{guest_path("hello")}"\n')
    assert cli("submit", "-f", file, *entry).code == 0
    assert seen == [wanted, None]  # a file's task is registered, and submitted by its name
    assert cli.do(cli.node.task("t")).spec.config == wanted

"""What people mistype is answered in their words, before anything is done: names of tasks, states,
times and sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_over_fake import Cli, cli_fixture  # noqa: F401
from conftest import guest_path

from spear.cli.running import inputs
from spear.cli.verbs.kept import object as object_verb
from spear.errors import NotFound
from spear.protocol.pb.spear.v1.object_pb2 import ObjectHead

# Names of tasks

BY_NAME = [
    ("invoke", "gret"), ("submit", "gret"), ("status", "gret"), ("ls", "--task", "gret"),
    ("ls", "instances", "--task", "gret"), ("instance", "ls", "--task", "gret"),
    ("task", "show", "gret"), ("task", "rm", "gret"), ("task", "activate", "gret"),
    ("task", "deactivate", "gret"), ("schedule", "add", "gret", "--every", "1h"),
]  # fmt: skip


@pytest.mark.parametrize("words", BY_NAME, ids=" ".join)
def test_a_task_that_is_not_there_is_told_with_the_nearest(
    cli: Cli, words: tuple[str, ...]
) -> None:
    cli.task("hello", name="greet")
    cli.task("wasi/echo")
    said = cli(*words)
    assert (said.code, said.out) == (3, "")
    assert said.err.endswith(": did you mean 'greet'?\n")
    assert cli(*words, "--output", "json").json["error"]["code"] == "NOT_FOUND"


@pytest.mark.parametrize("words", BY_NAME, ids=" ".join)
def test_where_none_is_near_the_list_is_named(cli: Cli, words: tuple[str, ...]) -> None:
    said = cli(*words)
    assert said.code == 3
    assert said.err.endswith(": spear ls tasks lists those that are there\n")


def test_what_else_is_not_found_is_told_as_it_is(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.task("hello")

    async def invoke(*_: object) -> None:
        raise NotFound("no artifact 3f9a")

    monkeypatch.setattr(cli.node, "invoke", invoke)
    assert cli("invoke", "hello").err == "error: no artifact 3f9a\n"


def test_executions_of_a_task_that_is_gone_are_listed(cli: Cli) -> None:
    cli.task("hello")
    cli.ran("hello")
    cli("task", "rm", "hello")
    assert [row[1] for row in cli("ls", "--task", "hello").rows] == ["hello"]
    cli("submit", guest_path("wasi/echo"), "--wait")
    assert [row[1] for row in cli("ls", "--task", "echo").rows] == ["echo"]


def test_a_task_that_was_never_called_has_no_executions(cli: Cli) -> None:
    cli.task("hello")
    said = cli("ls", "--task", "hello")
    assert (said.code, said.err) == (0, "no executions\n")


def test_a_state_of_tasks_is_one_of_them(cli: Cli) -> None:
    said = cli("ls", "tasks", "--status", "bogus")
    assert said.code == 2
    assert "one of registered, active, inactive, not 'bogus'" in said.err


# Times and sizes


@pytest.mark.parametrize("value", ["-5s", "0", "0ms", "20000d"])
@pytest.mark.parametrize(
    "words",
    [
        ("invoke", "echo", "--timeout"),
        ("submit", "echo", "--timeout"),
        ("task", "update", "echo", "--timeout"),
        ("schedule", "add", "echo", "--every"),
        ("schedule", "add", "echo", "--every", "1h", "--timeout"),
        ("model", "test", "stub", "--timeout"),
    ],
    ids=" ".join,
)
def test_a_duration_that_cannot_be_is_told_as_it_was_typed(
    cli: Cli, words: tuple[str, ...], value: str
) -> None:
    cli.task("wasi/echo")
    said = cli(*words, value)
    assert said.code == 2
    assert said.err.splitlines()[0] == (
        f"error: {words[-1]}: expected more than 0 and up to 10000d, found {value!r}"
    )
    assert cli("ls", "--output", "json").json == []


@pytest.mark.parametrize("words", [("wait", "12345678", "--timeout"), ("node", "drain", "--grace")])
def test_no_time_at_all_is_a_time_to_wait_but_less_is_not(cli: Cli, words: tuple[str, ...]) -> None:
    assert f"{words[-1]}: expected 0 and up to 10000d, found '-1s'" in cli(*words, "-1s").err
    assert "expected" not in cli(*words, "0s").err


def test_a_memory_of_nothing_is_refused(cli: Cli) -> None:
    for value in ("0", "-1MiB"):
        said = cli("task", "register", guest_path("hello"), "--memory", value)
        assert (said.code, f"--memory: expected more than 0, found {value!r}" in said.err) == (
            2,
            True,
        )


@pytest.mark.parametrize("when", ["2020-01-01T00:00", "2020-01-31T12:00+02:00"])
def test_a_moment_that_is_past_is_told_as_it_was_typed(cli: Cli, when: str) -> None:
    cli.task("hello")
    said = cli("schedule", "add", "hello", "--at", when)
    assert said.code == 2
    assert f"--at takes a time to come: {when!r} is past, it is 2" in said.err
    assert "spear schedule add --help" in said.err


def test_a_schedule_takes_no_key_as_each_run_has_one_of_its_own(cli: Cli) -> None:
    cli.task("hello")
    said = cli("schedule", "add", "hello", "--every", "1h", "--key", "x")
    assert (said.code, "No such option '--key'" in said.err) == (2, True)
    assert "--key" not in cli("schedule", "add", "--help").out
    assert "--key" in cli("submit", "--help").out


# Inputs that are too large


@pytest.mark.parametrize(
    "words", [("invoke", "echo"), ("submit", "echo"), ("schedule", "add", "echo", "--every", "1h")]
)
def test_an_input_that_no_call_takes_is_refused_with_what_to_do(
    cli: Cli, words: tuple[str, ...], tmp_path: Path
) -> None:
    cli.task("wasi/echo")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(inputs.BYTES_MAX + 1)
    said = cli(*words, "--input", "large")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("error: the input is larger than 63.9 MiB, the most that is taken")
    assert "--dir" in said.err


def test_an_object_is_put_whole_or_not_at_all(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(tmp_path / "large", "wb") as file:
        file.truncate(inputs.BYTES_MAX * 2)  # a node may take more than its own default
    assert cli("object", "put", "shared/large", "large").code == 0
    found = cli("object", "stat", "shared/large", "--output", "json").json
    assert found["size"] == inputs.BYTES_MAX * 2
    monkeypatch.setattr(object_verb, "_BYTES_MAX", 9)
    (tmp_path / "small").write_bytes(b"0123456789")
    said = cli("object", "put", "shared/small", "small")
    assert (said.code, "larger than 9 bytes" in said.err) == (2, True)
    assert cli("object", "stat", "shared/small").code == 3


def test_a_file_in_place_of_a_task_is_told_how_it_becomes_one(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "greet.wasm").write_bytes(guest_path("hello").read_bytes())
    said = cli("invoke", "greet.wasm")
    assert said.code == 3
    assert "it is a file: spear task register greet.wasm makes a task of it" in said.err


def test_an_object_in_use_is_told_by_the_option_that_removes_it(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(b"1")
    cli("object", "put", "shared/a", "value")
    cli("object", "pin", "shared/a")
    assert "hint: spear object rm --force" in cli("object", "rm", "shared/a").err
    assert cli("object", "rm", "shared/a", "--force").code == 0


# Words that are no text


@pytest.mark.parametrize("words", [("object", "stat"), ("artifact", "show"), ("task", "show")])
def test_a_word_that_is_no_text_is_told_so(
    cli: Cli, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def told(word: str, **_: object) -> None:
        ObjectHead(key=word)  # as a client does

    for name in ("stat_object", "artifact", "task"):
        monkeypatch.setattr(cli.node, name, told)
    said = cli(*words, "shared/\udcff")
    assert (said.code, said.out) == (2, "")
    assert "'shared/\\udcff' is not text in UTF-8: see the locale" in said.err


# Options


def test_an_option_before_the_verb_is_told_where_it_stands(cli: Cli) -> None:
    said = cli("--node", "unix:x", "ls")
    assert (said.code, said.out) == (2, "")
    assert "hint: options stand behind the verb" in said.err
    assert "spear ls --help" in cli("ls", "--bogus").err

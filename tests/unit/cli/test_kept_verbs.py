"""The verbs about what a node keeps, over a fake node: tasks, schedules, artifacts, objects,
instances; and the node itself."""

from __future__ import annotations

import hashlib
import io
import tarfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from cli_over_fake import Cli, cli_fixture  # noqa: F401
from conftest import guest_path

from spear.cli import terminal
from spear.cli.screens import bars
from spear.records.execution import Instance

# Tasks


def test_a_module_is_registered_under_its_name(cli: Cli) -> None:
    said = cli("task", "register", guest_path("hello"))
    assert said == (0, "task hello is registered, version 1 (durability: power)\n", "")
    assert cli("task", "register", guest_path("hello")).code == 0
    assert cli("invoke", "hello").out == "Hello, SPEAR!\n"


def test_options_make_the_spec(cli: Cli) -> None:
    said = cli(
        "task", "register", guest_path("environ"), "--name", "greet", "--env", "A=1", "--timeout",
        "2s", "--memory", "1MiB", "--fuel", "1000", "--priority", "high", "--concurrency", "2",
        "--description", "greets", "--dir", "/data:/d:rw", "--output", "json", "--", "one", "two",
    )  # fmt: skip
    spec = said.json["spec"]
    assert (spec["name"], spec["env"], spec["args"]) == ("greet", {"A": "1"}, ["one", "two"])
    assert (
        spec["limits"] | {"timeout_ms": 2000, "memory_bytes": 1 << 20, "fuel": 1000}
        == (spec["limits"])
    )
    assert (spec["priority"], spec["concurrency"]) == ("high", 2)
    assert spec["dirs"] == [{"host": "/data", "guest": "/d", "writable": True}]


def test_a_name_that_is_taken_is_refused_and_updated(cli: Cli) -> None:
    cli("task", "register", guest_path("hello"))
    taken = cli("task", "register", guest_path("hello"), "--priority", "low")
    assert (taken.code, taken.err.startswith("error: task 'hello' has another spec")) == (4, True)
    said = cli("task", "update", guest_path("hello"), "--priority", "low", "--if-version", "1")
    assert (said.code, said.out) == (0, "task hello is at version 2 (durability: power)\n")
    assert cli("task", "update", guest_path("hello"), "--if-version", "1").code == 4
    assert cli("task", "update", guest_path("wasi/echo")).code == 3


def test_tasks_are_listed_shown_and_removed(cli: Cli) -> None:
    cli.task("hello", description="says \x1b[31mhello")
    cli.task("wasi/echo")
    assert [row[0] for row in cli("task", "ls").rows] == ["echo", "hello"]
    assert "\\x1b[31m" in cli("task", "ls").out
    shown = cli("task", "show", "hello").fields
    assert (shown["version"], shown["spec.description"]) == ("1", "says \\x1b[31mhello")
    assert cli("task", "rm", "hello").out == "task hello is removed\n"
    assert cli("task", "show", "hello").code == 3
    assert [found["spec"]["name"] for found in cli("ls", "tasks", "--output", "json").json] == [
        "echo"
    ]


def test_a_task_is_switched_off_and_on(cli: Cli) -> None:
    cli.task("hello")
    assert cli("task", "deactivate", "hello").out.startswith("task hello is inactive (")
    assert cli("invoke", "hello").code == 4
    assert [row[0] for row in cli("task", "ls", "--status", "inactive").rows] == ["hello"]
    assert cli("task", "activate", "hello").out.startswith("task hello is active (")
    assert cli("invoke", "hello").code == 0


def test_what_is_no_module_is_wrong_use(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "text.wasm").write_text("text")
    said = cli("task", "register", "text.wasm")
    assert (said.code, "no wasm module" in said.err) == (2, True)
    assert cli("task", "register", "nothing.wasm").code == 3


@pytest.mark.parametrize("verb", [("task", "register"), ("submit",)])
@pytest.mark.parametrize(
    "form",
    ['artifact = "a.wasm"\nchecksum = "{}"', 'artifact = {{path = "a.wasm", checksum = "{}"}}'],
)
def test_other_bytes_than_a_task_file_s_checksum_says_are_refused(
    cli: Cli, tmp_path: Path, verb: tuple[str, ...], form: str
) -> None:
    (tmp_path / "a.wasm").write_bytes(guest_path("hello").read_bytes())
    digest = hashlib.sha256(guest_path("hello").read_bytes()).hexdigest()
    (tmp_path / "spear.toml").write_text('name = "a"\n' + form.format("0" * 64))
    said = cli(*verb, "spear.toml")
    assert (said.code, said.out) == (2, "")
    assert f"has the sha256 {digest}, the task file says {'0' * 64}" in said.err
    assert cli("ls", "artifacts", "--output", "json").json == []
    (tmp_path / "spear.toml").write_text('name = "a"\n' + form.format(digest))
    assert cli(*verb, "spear.toml").code == 0


def test_a_folder_without_a_task_file_says_so(cli: Cli, tmp_path: Path) -> None:
    said = cli("task", "register", ".")
    assert (said.code, said.err) == (3, "error: no task file './spear.toml'\n")


# Lists


@pytest.mark.parametrize(
    "words",
    [["ls", "tasks"], ["ls", "artifacts"], ["ls", "schedules"], ["task", "ls"], ["artifact", "ls"]],
)
def test_that_a_list_was_cut_off_is_told(cli: Cli, words: list[str]) -> None:
    for guest in ("hello", "wasi/echo"):
        task = cli.task(guest).name
        assert cli("schedule", "add", task, "--every", "1h").code == 0
    cut = cli(*words, "--limit", "1")
    assert (len(cut.rows), cut.err) == (1, "these are the first 1; --limit shows more\n")
    whole = cli(*words, "--limit", "2")
    assert (len(whole.rows), whole.err) == (2, "")
    assert len(cli(*words, "--limit", "1", "--output", "json").json) == 1


# Schedules


def test_a_schedule_says_when_it_is_due(cli: Cli, tmp_path: Path) -> None:
    cli.task("wasi/echo")
    (tmp_path / "question").write_bytes(b"why?")
    said = cli(
        "schedule", "add", "echo", "--every", "1h", "--name", "hourly", "--webhook", "http://there/",
        "--input", "question", "--missed", "all", "--overlap", "--timeout", "5s", "--", "Ada",
    )  # fmt: skip
    assert said.code == 0
    assert "every 60m" in said.out or "every 1h" in said.out
    (found,) = cli("schedule", "ls", "--output", "json").json
    spec = found["spec"]
    assert (spec["every_ms"], spec["input"], spec["missed"], spec["overlap"]) == (
        3_600_000, "why?", "all", True,
    )  # fmt: skip
    assert spec["invocation"]["args"] == ["Ada"]
    assert spec["invocation"]["timeout_ms"] == 5000
    assert spec["invocation"]["webhook"] == "http://there/"
    (row,) = cli("ls", "schedules").rows
    assert row[:3] == [found["id"][-8:], "hourly", "echo"]


@pytest.mark.parametrize(
    ("when", "key", "value"),
    [
        (["--cron", "0 6 * * 1-5"], "cron", "0 6 * * 1-5"),
        (["--at", "2030-01-31T12:00"], "at_ms", 1_896_091_200_000),
        (["--at", "2030-01-31T14:00+02:00"], "at_ms", 1_896_091_200_000),
    ],
)
def test_the_ways_to_say_when(cli: Cli, when: list[str], key: str, value: object) -> None:
    cli.task("hello")
    assert cli("schedule", "add", "hello", *when, "--output", "json").json["spec"][key] == value


def test_when_is_said_once(cli: Cli) -> None:
    cli.task("hello")
    for words in ([], ["--every", "1h", "--cron", "* * * * *"], ["--at", "tomorrow"]):
        assert cli("schedule", "add", "hello", *words).code == 2, words
    assert cli("schedule", "add", "nobody", "--every", "1h").code == 3
    assert cli("ls", "schedules", "--output", "json").json == []


def test_a_schedule_is_found_by_its_name_or_its_end(cli: Cli) -> None:
    cli.task("hello")
    id = cli("schedule", "add", "hello", "--every", "1h", "--name", "a", "--output", "json").json[
        "id"
    ]
    assert cli("schedule", "show", "a", "--output", "json").json["id"] == id
    assert cli("schedule", "show", id[-8:]).fields["id"] == id
    assert cli("schedule", "rm", id[-6:]).out == f"schedule {id} is removed\n"
    assert cli("schedule", "rm", "a").code == 3


# Artifacts


def test_an_artifact_comes_back_as_it_was(cli: Cli, tmp_path: Path) -> None:
    data = guest_path("hello").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    said = cli("artifact", "put", guest_path("hello"), "--version", "1.2")
    assert said == (0, f"{digest}\n", f"{guest_path('hello')} is kept (durability: power)\n")
    assert cli("artifact", "get", digest[:8], "-o", "copy.wasm").code == 0
    assert (tmp_path / "copy.wasm").read_bytes() == data
    shown = cli("artifact", "show", digest[:12], "--output", "json").json
    assert (shown["digest"], shown["version"], shown["name"]) == (digest, "1.2", "hello")
    assert cli("artifact", "ls").rows[0][0] == digest[:12]


def test_an_artifact_in_use_is_kept(cli: Cli) -> None:
    task = cli.task("hello")
    assert cli("artifact", "rm", task.spec.artifact).code == 4
    cli("task", "rm", "hello")
    assert cli("artifact", "rm", task.spec.artifact[:8]).code == 0
    assert cli("artifact", "show", task.spec.artifact).code == 3


def test_artifacts_stay_for_those_that_need_them(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    model = cli("artifact", "put", "model.bin", "--runtime", "process").out.strip()
    cli("artifact", "put", guest_path("hello"), "--needs", model)
    assert cli("artifact", "rm", model).code == 4
    assert cli("artifact", "put", "nothing").code == 3


# Objects


def test_an_object_is_put_looked_at_and_removed(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(b"\0\xffvalue")
    said = cli("object", "put", "shared/a", "value", "--meta", "kind=test", "--durable")
    assert said.out.startswith("shared/a is at version ")
    cli("object", "get", "shared/a", "-o", "back")
    assert (tmp_path / "back").read_bytes() == b"\0\xffvalue"
    found = cli("object", "stat", "shared/a", "--output", "json").json
    assert (found["size"], found["metadata"], found["durability"]) == (7, {"kind": "test"}, "power")
    (row,) = cli("object", "ls", "shared/").rows
    assert row[:2] == ["shared/a", "7"]
    assert cli("object", "ls", "other/").err == "no objects\n"
    assert cli("object", "rm", "shared/a").out == "shared/a is removed\n"
    assert cli("object", "get", "shared/a").code == 3


def test_a_large_put_says_that_it_sends(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels: list[str] = []

    def waiting(label: str) -> AbstractContextManager[None]:
        labels.append(label)
        return nullcontext()

    monkeypatch.setattr(bars, "waiting", waiting)
    for size in (1 << 20, 3 << 19):
        (tmp_path / "value").write_bytes(bytes(size))
        assert cli("object", "put", "shared/a", "value").code == 0
    assert labels == ["sending 1.5 MiB"]


def test_versions_and_pins_guard_an_object(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(b"1")
    version = cli("object", "put", "shared/a", "value", "--output", "json").json["version"]
    assert cli("object", "put", "shared/a", "value", "--new").code == 4
    assert cli("object", "put", "shared/a", "value", "--if-version", "0").code == 4
    assert cli("object", "put", "shared/a", "value", "--if-version", str(version)).code == 0
    assert cli("object", "pin", "shared/a").out == "shared/a is pinned\n"
    assert cli("object", "rm", "shared/a").code == 4
    assert cli("object", "unpin", "shared/a", "--output", "json").json == {
        "key": "shared/a", "unpinned": True,
    }  # fmt: skip
    assert cli("object", "pin", "shared/a").code == 0
    assert cli("object", "rm", "shared/a", "--force").code == 0


def test_a_long_list_of_objects_says_that_there_is_more(cli: Cli) -> None:
    for number in range(3):
        cli.do(cli.node.put_object(f"shared/{number}", b""))
    said = cli("object", "ls", "--limit", "2")
    assert (len(said.rows), "--limit shows more" in said.err) == (2, True)


@pytest.mark.parametrize("to_file", [True, False])
def test_objects_are_exported_as_an_archive(cli: Cli, tmp_path: Path, to_file: bool) -> None:
    values = {"shared/a": b"", "shared/b/\u00fc": b"\0" * 512, "shared/c" * 40: b"c" * 100_001}
    for key, value in values.items():
        cli.do(cli.node.put_object(key, value, metadata={"a=b%": key}))
    cli.do(cli.node.put_object("other", b"1"))
    if to_file:
        assert cli("object", "export", "shared/", "-o", "all.tar").out.startswith(
            "all.tar: objects 3, "
        )
        data = (tmp_path / "all.tar").read_bytes()
    else:
        data = cli("object", "export", "shared/").out.encode()
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        entries = {entry.name: entry for entry in found}
        for name, entry in entries.items():
            file = found.extractfile(entry)
            assert file is not None
            assert file.read() == values.pop(name)
    assert values == {}
    info = cli.do(cli.node.stat_object("shared/a"))
    headers = entries["shared/a"].pax_headers
    assert headers["SCHILY.xattr.user.spear.version"] == str(info.version)
    assert headers["SCHILY.xattr.user.a%3Db%25"] == "shared/a"
    assert entries["shared/a"].mtime == info.updated_ms / 1000


def test_an_archive_does_not_go_to_a_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = cli.task("hello").spec.artifact
    cli.do(cli.node.put_object("shared/a", b"1"))
    monkeypatch.setattr(terminal, "is_terminal", lambda fd: fd == terminal.STDOUT)
    for words in (("object", "export", "shared/"), ("artifact", "get", artifact)):
        said = cli(*words)
        assert (said.code, said.out) == (2, "")
        assert "is not for a terminal: say -o FILE, or pipe it" in said.err
        assert cli(*words, "-o", "file").code == 0


def test_an_export_of_nothing_says_so(cli: Cli) -> None:
    said = cli("object", "export", "shard/", "-o", "all.tar")
    assert (said.code, said.out) == (0, "all.tar: objects 0, 1 KiB\n")
    assert said.err == "there is no object whose key begins with 'shard/'\n"
    found = cli("object", "export", "shard/", "-o", "all.tar", "--output", "json")
    assert (found.json, found.err) == ({"file": "all.tar", "size": 1024, "objects": 0}, "")


def test_keys_that_are_no_names_of_files_lose_nothing(cli: Cli) -> None:
    """To tar one that ends with a slash is a folder, and a zero is the end of any name."""
    values = {"shared/a/": b"1", "shared/b\0c": b"2", "shared/b\0d": b"3"}
    for key, value in values.items():
        cli.do(cli.node.put_object(key, value, metadata={"spear.version": "0"}))
    data = cli("object", "export").out.encode()
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        for entry, name in zip(found, ("a%2F", "b%00c", "b%00d"), strict=True):
            file = found.extractfile(entry)
            assert file is not None
            key = entry.pax_headers["SCHILY.xattr.user.spear.key"]
            assert (entry.name, file.read()) == (f"shared/{name}", values[key])
            version = str(cli.do(cli.node.stat_object(key)).version)
            assert entry.pax_headers["SCHILY.xattr.user.spear.version"] == version


# Instances, the node


def test_an_instance_is_ended_by_the_end_of_its_id(cli: Cli) -> None:
    id = "01890000-0000-7000-8000-0000deadbeef"
    cli.node.add_instance(
        Instance(id=id, task_id="t", task_name="basket", node_name="fake", status="ready")
    )
    (row,) = cli("instance", "ls", "--task", "basket").rows
    assert row[:3] == ["deadbeef", "basket", "ready"]
    cli.task("hello", name="other")
    assert cli("instance", "ls", "--task", "other").err == "no instances\n"
    assert cli("instance", "rm", "deadbeef").out == f"instance {id} is terminated\n"
    assert cli("instance", "rm", "deadbeef").code == 3


def test_a_node_is_looked_at_and_drained(cli: Cli) -> None:
    assert cli("node", "status", "--output", "json").json["info"]["node_name"] == "fake"
    assert cli("node", "drain", "--grace", "2m").out == "the node has drained\n"
    assert cli.node.drained_ns == 120 * 10**9
    assert cli("node", "drain", "--grace", "soon").code == 2


def test_a_node_is_backed_up_and_cleaned(cli: Cli, tmp_path: Path) -> None:
    cli.task("hello")
    said = cli("node", "backup", "kept")
    assert (said.code, said.out) == (0, f"{tmp_path}/kept: files 1, rows 1\n")
    assert cli("node", "backup", "kept").code == 4
    assert cli("gc").out == "removed: nothing\n"
    assert cli("gc", "--output", "json").json == {"executions": 0, "files": 0}
    assert cli("node", "restore", "nothing").code == 3

"""`spear run --repeat`: what reaches stdout, stderr, a terminal, and the exit code."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import compile_bombs
import pytest
from conftest import Command

pytest.importorskip("spear._core.executor")
Guest = Callable[[str], Path]


def document(result: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    assert result.stderr == b""
    found: dict[str, Any] = json.loads(result.stdout)
    assert (found["kind"], found["exit_code"]) == ("repeat", result.returncode)
    return found


def rows(stderr: bytes) -> dict[str, str]:
    """The table's rows by their names."""
    return {line[:11].strip(): line[11:].strip() for line in stderr.decode().splitlines()}


def test_the_first_output_goes_to_stdout_and_a_table_to_stderr(
    spear: Command, guest: Guest
) -> None:
    result = spear("run", guest("echo"), "--repeat", "200", "--parallel=8", input=b"once\n")
    assert (result.returncode, result.stdout) == (0, b"once\n")
    found = rows(result.stderr)
    assert found["runs"].startswith("200  8 at a time, ")
    assert found["completed"] == "200"
    assert set(found) == {"runs", "completed", "latency", "memory"}


def test_every_run_gets_the_same_input_arguments_and_environment(
    spear: Command, guest: Guest, tmp_path: Path
) -> None:
    """A guest that does not find its input exits with another code, and so would the command."""
    (tmp_path / "in").write_bytes(b"x" * 100_000)
    again = ("--repeat", "20", "--output", "json")
    found = document(spear("run", guest("echo"), *again, "--input", tmp_path / "in"))
    assert (found["completed"], found["output_bytes"]) == (20, 100_000)
    found = document(spear("run", guest("environ"), *again, "--env", "A=1", "--", "one"))
    assert found["output"] == "arg environ\narg one\nenv A=1\n"


@pytest.mark.parametrize(
    ("name", "more", "code", "cause"),
    [
        ("exit_code", ("--", "3"), 3, "exit"),
        ("unreachable", (), 134, "trap"),
        ("stdout_flood", (), 137, "output_limit"),
        ("loop", ("--timeout", "50ms"), 124, "deadline"),
    ],
)
def test_the_exit_code_is_the_first_failure_s(
    spear: Command, guest: Guest, name: str, more: tuple[str, ...], code: int, cause: str
) -> None:
    again = ("--repeat", "4", "--output", "json")
    result = spear("run", guest(name), *again, *more, env={"SPEARLET_LIMITS_OUTPUT": "4KiB"})
    assert result.returncode == code
    found = document(result)
    assert (found["status"], found["causes"]) == ("failed", {cause: 4})
    assert [failure["run"] for failure in found["failures"]] == [1, 2, 3]


def test_the_first_failures_are_shown_with_the_last_of_their_logs(
    spear: Command, guest: Guest
) -> None:
    result = spear("run", guest("loop"), "--repeat", "5", "--timeout", "50ms")
    lines = result.stderr.decode().splitlines()
    assert lines[0].startswith("run 1 timeout: the guest was stopped at its deadline")
    assert lines[1] == "    [info] looping for ever"
    assert [line.split(":")[0] for line in lines if line.startswith("run ")] == [
        "run 1 timeout", "run 2 timeout", "run 3 timeout",
    ]  # fmt: skip


def test_nothing_steers_what_is_no_terminal(spear: Command, guest: Guest) -> None:
    result = spear("run", guest("hello"), "--repeat", "50")
    assert b"\x1b" not in result.stdout + result.stderr
    assert b"\r" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--parallel", "2"), "--parallel says how many repeated runs go at a time"),
        (("--repeat", "0"), "--repeat: expected 1 to 1000000, found 0"),
        (("--repeat", "1000001"), "--repeat: expected 1 to 1000000, found 1000001"),
        (("--repeat", "x"), "--repeat: expected a whole number, found 'x'"),
        (("--repeat", "2", "--parallel", "0"), "--parallel: expected 1 to 20000, found 0"),
        (("--repeat",), "--repeat needs a value"),
    ],
)
def test_wrong_counts_are_refused(
    spear: Command, guest: Guest, flags: tuple[str, ...], sentence: str
) -> None:
    result = spear("run", guest("hello"), *flags)
    assert (result.returncode, result.stdout) == (125, b"")
    assert sentence in result.stderr.decode()


def test_parallel_stays_within_a_limit_that_was_set(spear: Command, guest: Guest) -> None:
    limit = {"SPEARLET_EXECUTOR_MAX_PARKED": "4"}
    words = ("run", guest("sleeper"), "--repeat", "8", "--output", "json", "--parallel")
    result = spear(*words, "5", "--", "10", env=limit)
    assert result.returncode == 125
    assert "--parallel: expected 1 to 4, found 5" in json.loads(result.stdout)["error"]["message"]
    assert document(spear(*words, "4", "--", "10", env=limit))["completed"] == 8


def test_a_module_that_cannot_start_is_refused_as_for_one_run(
    spear: Command, guest: Guest, tmp_path: Path
) -> None:
    again = ("--repeat", "3", "--output", "json")
    for module, code in ((tmp_path / "none.wasm", "INVALID_ARGUMENT"),
                         (guest("no_start"), "MODULE_INVALID")):  # fmt: skip
        result = spear("run", module, *again)
        found = json.loads(result.stdout)
        assert (result.returncode, found["status"], found["error"]["code"]) == (
            125, "refused", code,
        )  # fmt: skip
    result = spear("run", guest("hello"), *again, "--memory", "64KiB")
    assert json.loads(result.stdout)["error"]["code"] == "MODULE_LIMIT"


def started(
    command_line: list[str], environment: dict[str, str], *words: str | Path, **streams: Any
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*command_line, "run", *map(str, words)], env=environment, stdin=subprocess.DEVNULL,
        **streams,
    )  # fmt: skip


def until_some_ended(terminal: int) -> None:
    """Reads until the bar shows that four or more of the thousand runs ended."""
    shown = b""
    while not re.search(rb"\b([4-9]|\d\d+)/1000", shown):
        shown += os.read(terminal, 4096)


def rest_of(terminal: int) -> bytes:
    """What the terminal got until nobody held its other end."""
    shown = b""
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:
        pass
    return shown


def test_a_terminal_shows_the_progress_until_an_interrupt_and_then_the_table(
    command_line: list[str], environment: dict[str, str], guest: Guest
) -> None:
    ours, theirs = pty.openpty()
    words = (guest("loop"), "--repeat", "1000", "--parallel", "2", "--timeout", "100ms")
    with started(
        command_line, {**environment, "TERM": "xterm"}, *words,
        stdout=subprocess.PIPE, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        until_some_ended(ours)
        process.send_signal(signal.SIGINT)
        shown = rest_of(ours)
        assert process.wait(60) == 130
        assert process.stdout is not None
        assert process.stdout.read() == b""
    os.close(ours)
    _, cleared, table = shown.rpartition(b"\x1b[2K")
    assert cleared, "the bar is cleared away"
    assert b"\x1b" not in table
    assert table.count(b"run ") == 3
    assert b"error: interrupted" in table
    assert b"deadline" in table
    assert b"given up" in table


def test_an_interrupt_gives_the_document_so_far(
    command_line: list[str], environment: dict[str, str], guest: Guest
) -> None:
    ours, theirs = pty.openpty()
    words = (guest("loop"), "--repeat", "1000", "--output", "json", "--timeout", "100ms")
    with started(
        command_line, {**environment, "TERM": "xterm"}, *words,
        stdout=subprocess.PIPE, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        until_some_ended(ours)
        process.send_signal(signal.SIGINT)
        rest_of(ours)
        assert process.stdout is not None
        found = json.loads(process.stdout.read())
        assert process.wait(60) == 130
    os.close(ours)
    assert (found["status"], found["exit_code"]) == ("interrupted", 130)
    assert 4 <= found["ended"] < 1000
    assert found["timeout"] == found["ended"]


def test_an_interrupt_of_the_compile_ends_the_command(
    command_line: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    bomb = tmp_path / "bomb.wasm"
    bomb.write_bytes(compile_bombs.slow())
    for again in ((), ("--repeat", "2")):
        with started(
            command_line, {**environment, "SPEARLET_COMPILE_TIMEOUT": "1h"}, bomb, *again,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            threads = Path(f"/proc/{process.pid}/task")
            while not any((each / "children").read_text() for each in threads.iterdir()):
                os.sched_yield()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
            assert (process.returncode, out, err) == (130, b"", b"error: interrupted\n")

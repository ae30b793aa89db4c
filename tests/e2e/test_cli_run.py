"""`spear run` as its users see it: the command, its streams, its exit codes."""

from __future__ import annotations

import base64
import json
import os
import pty
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


def record(result: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    assert result.stderr == b""
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_hello_greets_on_stdout_and_logs_on_stderr(spear: Command, guest: Guest) -> None:
    result = spear("run", guest("hello"))
    assert (result.returncode, result.stdout) == (0, b"Hello, SPEAR!\n")
    first, second = result.stderr.decode().splitlines()
    assert first == "[info] hello from a guest"
    assert second.startswith("[info] the time is ")


def test_stdin_is_the_payload_when_it_is_no_terminal(spear: Command, guest: Guest) -> None:
    data = bytes(range(256)) * 1000
    assert spear("run", guest("echo"), input=data).stdout == data
    assert spear("run", guest("echo"), "--input", "-", input=data).stdout == data


def test_input_comes_from_a_file(spear: Command, guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "payload").write_bytes(b"from a file")
    result = spear("run", "--input", tmp_path / "payload", guest("echo"), input=b"not this")
    assert result.stdout == b"from a file"


def test_arguments_and_environment_reach_the_guest_and_nothing_else(
    spear: Command, guest: Guest
) -> None:
    result = spear("run", "--env", "A=1", guest("environ"), "--env=B=x=y", "--", "one", "--two")
    assert result.stdout.decode().splitlines() == [
        "arg environ", "arg one", "arg --two", "env A=1", "env B=x=y",
    ]  # fmt: skip


@pytest.mark.parametrize("code", [0, 1, 3, 124, 125, 134])
def test_the_exit_code_is_the_guest_s(spear: Command, guest: Guest, code: int) -> None:
    result = spear("run", guest("exit_code"), "--", str(code))
    assert (result.returncode, result.stderr) == (code, b"")


def test_a_negative_exit_code_is_a_failure_and_kept(spear: Command, guest: Guest) -> None:
    result = spear("run", "--output", "json", guest("exit_code"), "--", "-1")
    found = record(result)
    assert (found["status"], found["cause"], found["exit_code"]) == ("failed", "exit", -1)
    assert result.returncode == 255  # as a shell sees the -1 of any process


def test_a_loop_is_ended_at_its_deadline(spear: Command, guest: Guest) -> None:
    result = spear("run", guest("loop"), "--timeout", "200ms")
    assert result.returncode == 124
    assert b"hint: --timeout gives it more time" in result.stderr


def test_a_sleeper_is_ended_at_its_deadline(spear: Command, guest: Guest) -> None:
    assert spear("run", guest("sleeper"), "--timeout=0.1", "--", "-1").returncode == 124


def test_a_trap_shows_where_by_the_guest_s_names(spear: Command, guest: Guest) -> None:
    result = spear("run", guest("trap"))
    assert result.returncode == 134
    said = result.stderr.decode()
    assert "error: " in said
    places = [said.index(name) for name in ("read_price", "price_of", "sum_prices")]
    assert places[0] < places[2]


@pytest.mark.parametrize(
    "name", ["traps/divide", "traps/out_of_bounds", "traps/recurse", "traps/unreachable"]
)
def test_every_trap_has_its_exit_code(spear: Command, guest: Guest, name: str) -> None:
    result = spear("run", guest(name), "--output", "json")
    found = record(result)
    assert (result.returncode, found["status"], found["cause"]) == (134, "failed", "trap")
    assert found["error"]["code"] == "TRAP"
    assert found["backtrace"]
    assert found["exit_code"] is None


def test_the_output_limit_ends_the_guest(spear: Command, guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[spearlet]\nlimits.output = "64KiB"\n')
    result = spear("run", guest("stdout_flood"), "--config", tmp_path / "c.toml")
    assert result.returncode == 137
    assert len(result.stdout) <= 65536
    assert b"limits.output" in result.stderr


def test_the_log_limit_cuts_the_log_and_says_so(
    spear: Command, guest: Guest, tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text('[spearlet]\nlimits.log = "1KiB"\n')
    result = spear("run", guest("log_flood"), "--config", tmp_path / "c.toml")
    assert result.returncode == 0
    assert b"the log reached its limit" in result.stderr


def test_the_memory_limit_holds(spear: Command, guest: Guest) -> None:
    small, large = (
        int(spear("run", guest("grow"), "--memory", size).stdout) for size in ("1MiB", "2MiB")
    )
    assert (small, large) == (16, 32)


def test_json_tells_everything_once(spear: Command, guest: Guest) -> None:
    found = record(spear("run", "--output", "json", guest("hello"), "--timeout", "5s"))
    assert (found["status"], found["cause"], found["exit_code"]) == ("completed", "exit", 0)
    assert found["output"] == "Hello, SPEAR!\n"
    assert found["logs"][0]["message"] == "hello from a guest"
    assert found["limits"]["timeout_ms"] == 5000
    assert found["times"]["created_ms"] > 1.6e12
    assert found["memory_bytes"] > 0
    assert len(found["execution_id"]) == 36
    assert found["task"] == "hello"
    assert found["durability"] == "volatile"


def test_json_marks_output_that_is_no_text(spear: Command, guest: Guest) -> None:
    found = record(spear("run", "--output", "json", guest("echo"), input=b"\xff\xfe"))
    assert found["output_encoding"] == "base64"
    assert base64.b64decode(found["output"]) == b"\xff\xfe"


def test_json_tells_a_guest_s_124_from_a_deadline(spear: Command, guest: Guest) -> None:
    own = record(spear("run", "--output", "json", guest("exit_code"), "--", "124"))
    ended = record(spear("run", "--output", "json", "--timeout", "50ms", guest("loop")))
    assert (own["status"], own["exit_code"]) == ("failed", 124)
    assert (ended["status"], ended["exit_code"]) == ("timeout", None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bad/component", "component"),
        ("bad/unknown_imports", "import"),
        ("bad/wrong_signature", "->"),
        ("bad/no_start", "_start"),
        ("bad/two_memories", "memor"),
        ("bad/memory_over_limit", "memory"),
        ("bad/imported_memory", "memory"),
        ("bad/huge_table", "10000000 elements"),
        ("bad/start_signature", "(i32) -> i32; an entry is () -> ()"),
    ],
)
def test_a_bad_module_is_refused_with_the_reason(
    spear: Command, guest: Guest, name: str, said: str
) -> None:
    result = spear("run", guest(name))
    assert (result.returncode, result.stdout) == (125, b"")
    assert result.stderr.startswith(b"error: ")
    assert said in result.stderr.decode().splitlines()[0]
    assert b"Traceback" not in result.stderr


def test_a_reactor_is_refused_with_the_way_to_call_it(spear: Command, guest: Guest) -> None:
    for repeated in ((), ("--repeat", "2")):
        result = spear("run", guest("reactors/reactor"), *repeated)
        assert (result.returncode, result.stdout) == (125, b"")
        error, hint = result.stderr.decode().splitlines()
        assert "no function '_start'" in error
        assert hint.startswith("hint: it is a reactor, not a command: ")
    assert b"hint: spear doctor" in spear("run", guest("bad/no_start")).stderr


@pytest.mark.parametrize(
    ("named", "hint"),
    [
        ("spear.toml", b"hint: a task file is run by a node: spear submit -f spear.toml --wait"),
        (".", b"hint: a task file is run by a node: spear submit -f . --wait"),
        ("greet", b"hint: a registered task is called by spear invoke greet"),
    ],
)
def test_what_is_no_module_is_told_how_it_is_run(
    spear: Command, tmp_path: Path, named: str, hint: bytes
) -> None:
    result = spear("run", named)
    assert result.returncode == 125
    assert result.stderr.splitlines()[-1] == hint


def test_a_module_without_a_memory_export_runs_with_a_warning(spear: Command, guest: Guest) -> None:
    result = spear("run", guest("bad/no_memory"))
    assert result.returncode == 0
    assert b"memory" in result.stderr


@pytest.mark.parametrize("size", [0, 3, 7, 100, 1000])
def test_a_truncated_module_is_refused(
    spear: Command, guest: Guest, size: int, tmp_path: Path
) -> None:
    (tmp_path / "cut.wasm").write_bytes(guest("hello").read_bytes()[:size])
    result = spear("run", tmp_path / "cut.wasm")
    assert result.returncode == 125
    assert result.stderr.startswith(b"error: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no module given"),
        (["nothing.wasm"], "cannot read 'nothing.wasm'"),
        (["HELLO", "extra"], "arguments of the guest come after --"),
        (["HELLO", "--timeout", "0"], "expected 1ms to 365d, found 0"),
        (["HELLO", "--timeout", "-5s"], "expected 1ms to 365d, found -5s"),
        (["HELLO", "--timeout", "1000000h"], "expected 1ms to 365d, found 1000000h"),
        (["HELLO", "--timeout", "soon"], "250ms, 5s, 2m or 1h"),
        (["HELLO", "--timeout"], "--timeout needs a value"),
        (["HELLO", "--memory", "1TiB"], "64KiB, 16MiB or 1GiB"),
        (["HELLO", "--memory", "100GiB"], "expected 64KiB to 4GiB"),
        (["HELLO", "--env", "NAME"], "NAME=VALUE"),
        (["HELLO", "--input", "nothing"], "cannot read the input 'nothing'"),
        (["HELLO", "--config", "nothing"], "no configuration file 'nothing'"),
        (["HELLO", "--output", "xml"], "one of text, json"),
        (["HELLO", "--tiemout", "5"], "did you mean --timeout?"),
        (["HELLO", "--bogus", "5"], "no option --bogus: known are --input"),
    ],
)
def test_a_bad_option_is_refused_with_what_is_accepted(
    spear: Command, guest: Guest, arguments: list[str], said: str
) -> None:
    words = [str(guest("hello")) if word == "HELLO" else word for word in arguments]
    result = spear("run", *words)
    assert (result.returncode, result.stdout) == (125, b"")
    assert said in result.stderr.decode()
    assert b"Traceback" not in result.stderr


@pytest.mark.parametrize("flag", ["--timeout", "--memory"])
def test_a_flag_s_value_is_refused_by_the_flag_s_name(
    spear: Command, guest: Guest, flag: str
) -> None:
    said = spear("run", guest("hello"), flag, "x").stderr.decode()
    assert said.startswith(f"error: {flag}: expected a ")


@pytest.mark.parametrize(
    "words",
    [
        ["nothing.wasm", "--output", "json"],
        ["HELLO", "--output", "json", "--bogus", "1"],
        ["--bogus", "HELLO", "--output=json"],
        ["HELLO", "--output=json", "--timeout"],
        ["HELLO", "--output=json", "--timeout", "soon"],
        ["--output=json"],
    ],
)
def test_a_refusal_is_the_same_document(spear: Command, guest: Guest, words: list[str]) -> None:
    hello = str(guest("hello"))
    result = spear("run", *(hello if word == "HELLO" else word for word in words))
    found = record(result)
    assert (result.returncode, found["status"], found["execution_id"]) == (125, "refused", None)
    whole = record(spear("run", hello, "--output", "json"))
    assert list(found) == list(whole)
    for key in ("times", "limits", "usage", "tree_usage", "artifact"):
        assert found[key].keys() == whole[key].keys()


def test_an_environment_that_is_not_served_is_refused(spear: Command, guest: Guest) -> None:
    result = spear("run", guest("hello"), env={"SPEARLET_HTTP_ADDR": "debug"})
    assert (result.returncode, result.stdout) == (125, b"")
    assert b"environment SPEARLET_HTTP_ADDR" in result.stderr


def test_a_module_that_needs_more_memory_is_told_how_much(spear: Command, guest: Guest) -> None:
    module = guest("memory_over_limit")
    hint = spear("run", module).stderr.decode().splitlines()[-1]
    assert hint == "hint: --memory 125MiB is enough for it to start"
    assert spear("run", module, "--memory", "125MiB").returncode == 0
    table = spear("run", guest("huge_table")).stderr
    assert b"--memory" not in table


def test_json_has_what_is_cut_off_among_its_warnings(
    spear: Command, guest: Guest, tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text('[spearlet]\nlimits.log = "1KiB"\n')
    words = ("--config", tmp_path / "c.toml", "--output", "json")
    found = record(spear("run", guest("log_flood"), *words))
    assert found["log_truncated"] is True
    assert ["limits.log" in warning for warning in found["warnings"]] == [True]


def test_a_burst_of_log_lines_arrives_whole(spear: Command, guest: Guest) -> None:
    result = spear("run", guest("log_flood"))
    assert result.returncode == 0
    assert result.stderr.decode().splitlines() == [f"[info] line {i:08}" for i in range(10_000)]


def test_room_asked_for_is_accepted(spear: Command, guest: Guest) -> None:
    asked = {"SPEARLET_EXECUTOR_WORKERS": "2", "SPEARLET_EXECUTOR_MAX_PARKED": "20"}
    assert spear("run", guest("hello"), env=asked).returncode == 0


def test_compiled_code_is_kept_in_a_private_cache(
    spear: Command, guest: Guest, tmp_path: Path
) -> None:
    sources = [
        record(spear("run", "--output", "json", guest("hello")))["artifact"]["source"]
        for _ in range(2)
    ]
    assert sources == ["compiled", "cache"]
    assert (tmp_path / "cache" / "spear").stat().st_mode & 0o777 == 0o700


def test_a_cache_that_cannot_be_used_is_a_warning(
    spear: Command, guest: Guest, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    result = spear("run", guest("hello"), env={"SPEAR_CACHE_DIR": str(tmp_path / "file")})
    assert (result.returncode, result.stdout) == (0, b"Hello, SPEAR!\n")
    assert result.stderr.count(b"warning: ") == 1


def test_a_cache_open_to_others_is_a_warning(spear: Command, guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    result = spear("run", guest("hello"), env={"SPEAR_CACHE_DIR": str(tmp_path / "open")})
    assert result.returncode == 0
    assert b"warning: " in result.stderr


class Started:
    """A command that still runs."""

    def __init__(self, words: list[str], environment: dict[str, str], **streams: Any) -> None:
        known = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(words, env=environment, **known | streams)

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def test_log_lines_come_while_the_guest_still_runs(
    command_line: list[str], environment: dict[str, str], guest: Guest
) -> None:
    words = [*command_line, "run", str(guest("sleeper")), "--", "60000"]
    with Started(words, environment) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"[info] going to sleep for 60000 ms\n"
        assert process.poll() is None


def test_an_interrupt_ends_the_guest_with_130(
    command_line: list[str], environment: dict[str, str], guest: Guest
) -> None:
    words = [*command_line, "run", str(guest("sleeper")), "--", "60000"]
    with Started(words, environment) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(30) == 130
        assert rest.splitlines()[-1] == b"error: interrupted"
        assert b"    at " not in rest


def test_an_interrupt_ends_a_busy_guest(
    command_line: list[str], environment: dict[str, str], guest: Guest
) -> None:
    words = [*command_line, "run", str(guest("loop"))]
    with Started(words, environment) as process:
        assert process.stderr is not None
        process.stderr.readline()  # it logs once, then it loops
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert rest.splitlines()[-1] == b"error: interrupted"
        assert b"    at " not in rest
        assert process.wait(30) == 130


def test_a_closed_pipe_is_quiet(
    command_line: list[str], environment: dict[str, str], guest: Guest
) -> None:
    words = [*command_line, "run", str(guest("stdout_flood")), "--", "8000000"]
    with Started(words, environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 137


def test_a_full_disk_is_said(
    command_line: list[str], environment: dict[str, str], guest: Guest
) -> None:
    words = [*command_line, "run", str(guest("hello"))]
    with (
        open("/dev/full", "wb") as full,
        Started(words, environment, stdout=full) as process,
    ):
        assert process.stderr is not None
        assert b"No space left on device" in process.stderr.read()
        assert process.wait(30) == 125


def test_a_closed_stdin_is_empty(
    command_line: list[str], environment: dict[str, str], guest: Guest
) -> None:
    words = ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *command_line, "run", str(guest("echo"))]
    with Started(words, environment) as process:
        assert process.stdout is not None
        assert process.stdout.read() == b""
        assert process.wait(30) == 0


def test_a_closed_stdout_is_said(
    command_line: list[str], environment: dict[str, str], guest: Guest
) -> None:
    words = ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command_line, "run", str(guest("hello"))]
    with Started(words, environment) as process:
        assert process.stderr is not None
        assert b"error: cannot write the guest's output" in process.stderr.read()
        assert process.wait(30) == 125


def on_a_terminal(words: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """The exit code and all that a terminal is sent, where it is stdin, stdout and stderr."""
    main, side = pty.openpty()
    with Started(words, environment, stdin=side, stdout=side, stderr=side) as process:
        os.close(side)
        said = b""
        try:
            while part := os.read(main, 1 << 16):
                said += part
        except OSError:  # EIO: the other side is closed
            pass
        finally:
            os.close(main)
        return process.wait(30), said.decode().replace("\r\n", "\n")


def test_a_terminal_is_no_payload(
    command_line: list[str], environment: dict[str, str], guest: Guest
) -> None:
    assert on_a_terminal([*command_line, "run", str(guest("wasi/echo"))], environment) == (0, "")


def test_on_a_terminal_a_log_has_no_control_character(
    command_line: list[str], environment: dict[str, str], guest: Guest
) -> None:
    words = [*command_line, "run", str(guest("hostcalls/log_errors"))]
    code, said = on_a_terminal(words, environment)
    assert code == 0
    lines = said.splitlines()
    assert lines[3] == "[info] a\ufffd\ufffdb"
    assert lines[4:6] == ["[info] a\\x00b", "[info] c"]
    assert all(line.isprintable() for line in lines)


def test_on_a_terminal_an_error_begins_its_own_line(
    command_line: list[str], environment: dict[str, str], guest: Guest, tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text('[spearlet]\nlimits.output = "32KiB"\n')
    words = ["run", str(guest("stdout_flood")), "--config", str(tmp_path / "c.toml")]
    code, said = on_a_terminal([*command_line, *words, "--", "100000", "1", "0"], environment)
    assert code == 137
    guests, newline, errors = said.partition("\nerror: ")
    assert (len(guests), newline) == (32768, "\nerror: ")
    assert "limits.output" in errors
    assert " at " not in errors


def test_a_module_that_takes_too_long_to_compile_is_refused_with_the_setting(
    spear: Command, tmp_path: Path
) -> None:
    bomb = tmp_path / "bomb.wasm"
    bomb.write_bytes(compile_bombs.slow())
    limit = {"SPEARLET_COMPILE_TIMEOUT": "200ms"}
    result = spear("run", bomb, env=limit)
    assert (result.returncode, result.stdout) == (125, b"")
    error, hint = result.stderr.decode().splitlines()
    assert error.startswith("error: the module took longer than 200ms to compile (compile.timeout)")
    assert hint == "hint: compile.timeout in the configuration allows more"
    found = record(spear("run", "--output", "json", bomb, env=limit))
    assert (found["status"], found["error"]["code"]) == ("refused", "MODULE_LIMIT")


def test_a_module_that_takes_too_much_memory_to_compile_is_refused_with_the_setting(
    spear: Command, tmp_path: Path
) -> None:
    bomb = tmp_path / "bomb.wasm"
    bomb.write_bytes(compile_bombs.large())
    result = spear("run", bomb, env={"SPEARLET_COMPILE_MEMORY": "64MiB"})
    assert result.returncode == 125
    error, hint = result.stderr.decode().splitlines()
    assert error.startswith("error: the module takes more than 64MiB of memory to compile")
    assert hint == "hint: compile.memory in the configuration allows more"


def test_doctor_tells_what_a_compile_is_refused_for(spear: Command, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.wasm"
    bomb.write_bytes(compile_bombs.slow())
    result = spear("doctor", bomb, env={"SPEARLET_COMPILE_TIMEOUT": "200ms"})
    assert result.returncode == 1
    assert b"took longer than 200ms" in result.stdout

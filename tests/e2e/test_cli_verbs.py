"""The verbs beside `run`: version, help, completion, doctor, config."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Command


def test_the_version_is_the_package_s(spear: Command) -> None:
    result = spear("--version")
    assert (result.returncode, result.stdout) == (0, b"spear 0.1.0\n")


def test_help_lists_the_verbs(spear: Command) -> None:
    result = spear("--help")
    assert result.returncode == 0
    assert all(verb in result.stdout.decode() for verb in ("run", "doctor", "config", "completion"))


def test_help_of_run_lists_its_options_and_exit_codes(spear: Command) -> None:
    said = spear("run", "--help").stdout.decode()
    for part in ("--input", "--env", "--timeout", "--memory", "--config", "--output", "124"):
        assert part in said


def test_without_a_verb_help_is_shown_as_wrong_use(spear: Command) -> None:
    result = spear()
    assert result.returncode == 2
    assert b"Usage: spear" in result.stderr


@pytest.mark.parametrize("words", [["rnu"], ["doctor", "--nothing"], ["completion", "tcsh"]])
def test_wrong_use_is_said_with_a_hint(spear: Command, words: list[str]) -> None:
    result = spear(*words)
    assert result.returncode == 2
    assert result.stderr.startswith(b"error: ")
    assert b"hint: spear" in result.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_scripts_name_the_command(spear: Command, shell: str) -> None:
    result = spear("completion", shell)
    assert result.returncode == 0
    assert b"_SPEAR_COMPLETE" in result.stdout


def test_the_shell_is_given_verbs_and_options(spear: Command) -> None:
    verbs = spear(
        env={"_SPEAR_COMPLETE": "bash_complete", "COMP_WORDS": "spear ", "COMP_CWORD": "1"}
    )
    assert b"run" in verbs.stdout
    options = spear(
        env={"_SPEAR_COMPLETE": "bash_complete", "COMP_WORDS": "spear run --t", "COMP_CWORD": "2"}
    )
    assert b"--timeout" in options.stdout


def test_config_show_tells_values_and_sources(spear: Command, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[spearlet]\nnode_name = "mine"\n')
    result = spear(
        "config", "show", "--config", tmp_path / "c.toml", "--output", "json",
        env={"SPEARLET_LIMITS_TIMEOUT": "5s"},
    )  # fmt: skip
    found = json.loads(result.stdout)
    assert found["node_name"] == {"value": "mine", "source": f"file {tmp_path / 'c.toml'}"}
    assert found["limits.timeout"] == {
        "value": "5s", "source": "environment SPEARLET_LIMITS_TIMEOUT",
    }  # fmt: skip
    assert found["limits.memory"]["source"] == "default"


def test_a_bad_configuration_is_one_sentence(spear: Command, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[spearlet]\nlimits.tiemout = 5\n")
    result = spear("config", "show", "--config", tmp_path / "c.toml")
    assert result.returncode == 2
    assert b"nearest known one is 'limits.timeout'" in result.stderr


def test_a_file_that_is_no_toml_is_wrong_use(spear: Command, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[spearlet")
    for words in (["config", "show"], ["doctor"]):
        result = spear(*words, "--config", tmp_path / "c.toml")
        assert (result.returncode, result.stdout) == (2, b"")
        assert b"is not TOML" in result.stderr


def test_a_configuration_that_is_not_there_is_not_found(spear: Command) -> None:
    for words in (["config", "show"], ["doctor"]):
        result = spear(*words, "--config", "nothing.toml")
        assert (result.returncode, result.stdout) == (3, b"")
        assert b"no configuration file 'nothing.toml'" in result.stderr


def test_config_show_lists_what_is_refused(spear: Command) -> None:
    refused = {"SPEARLET_HTTP_ADDR": "debug", "SPEARLET_LIMITS_TIMEOUT": "soon"}
    table = spear("config", "show", env=refused)
    assert table.returncode == 2
    (row,) = [line for line in table.stdout.decode().splitlines() if line.startswith("http.")]
    assert row.split()[:4] == ["http.server.addr", "refused", "environment", "SPEARLET_HTTP_ADDR"]
    assert "is not served: the HTTP surface" in row
    assert table.stderr.count(b"error: ") == 2
    found = json.loads(spear("config", "show", "--output", "json", env=refused).stdout)
    assert found["http.server.addr"]["value"] is None
    assert "is not served" in found["http.server.addr"]["refused"]
    assert found["limits.timeout"]["value"] == "1m"
    assert "found 'soon'" in found["limits.timeout"]["refused"]
    assert "refused" not in found["limits.memory"]


def test_doctor_goes_on_where_a_variable_is_refused(
    spear: Command, guest: Callable[[str], Path]
) -> None:
    for words in ([], [guest("hello")]):
        result = spear("doctor", *words, env={"SPEARLET_HTTP_ADDR": "debug"})
        assert (result.returncode, result.stderr) == (1, b"")
        assert b"-> unset SPEARLET_HTTP_ADDR" in result.stdout


def test_doctor_takes_a_configuration(
    spear: Command, guest: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text('[spearlet]\nlimits.memory = "128MiB"\n')
    module = guest("memory_over_limit")
    assert spear("doctor", module).returncode == 1
    assert spear("doctor", module, "--config", tmp_path / "c.toml").returncode == 0


EVERY_VERB = [
    ["--version"],
    ["--help"],
    ["run", "--help"],
    ["run", "HELLO"],
    ["run", "HELLO", "--output", "json"],
    ["run", "nothing.wasm", "--output", "json"],
    ["doctor"],
    ["doctor", "--output", "json"],
    ["doctor", "--help"],
    ["doctor", "HELLO"],
    ["config", "show"],
    ["config", "show", "--output", "json"],
    ["completion", "zsh"],
]


@pytest.mark.parametrize("redirect", [">/dev/full", ">&-"])
@pytest.mark.parametrize("words", EVERY_VERB, ids=" ".join)
def test_what_cannot_be_written_is_one_sentence(
    words: list[str], redirect: str, command_line: list[str], environment: dict[str, str],
    guest: Callable[[str], Path],
) -> None:  # fmt: skip
    own = [str(guest("hello")) if word == "HELLO" else word for word in words]
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirect}', "sh", *command_line, *own], env=environment,
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60, text=True,
    )  # fmt: skip
    reason = "No space left on device" if "full" in redirect else "Bad file descriptor"
    (said,) = [line for line in done.stderr.splitlines() if not line.startswith("[info] ")]
    assert said.startswith("error: cannot write")
    assert said.endswith(f": {reason}")
    assert done.returncode == (125 if words[0] == "run" else 1)


@pytest.mark.parametrize("words", EVERY_VERB, ids=" ".join)
def test_a_reader_that_has_gone_is_no_error_to_tell(
    words: list[str], command_line: list[str], environment: dict[str, str],
    guest: Callable[[str], Path],
) -> None:  # fmt: skip
    own = [str(guest("hello")) if word == "HELLO" else word for word in words]
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as gone:
        done = subprocess.run(
            [*command_line, *own], env=environment, stdin=subprocess.DEVNULL, stdout=gone,
            stderr=subprocess.PIPE, timeout=60, text=True,
        )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if not line.startswith("[info] ")] == []
    assert done.returncode == (137 if words[0] == "run" else 1)


def test_doctor_describes_the_machine(spear: Command) -> None:
    result = spear("doctor", "--output", "json")
    found = {finding["name"]: finding for finding in json.loads(result.stdout)}
    assert {"python", "system", "engine", "cores", "vm.max_map_count", "cache"} <= set(found)
    missing = [name for name, finding in found.items() if finding["verdict"] == "missing"]
    assert result.returncode == bool(missing)


def test_doctor_describes_a_module(spear: Command, guest: Callable[[str], Path]) -> None:
    said = spear("doctor", guest("hello")).stdout.decode()
    assert "small" in said
    assert "time_now_ms" in said


def test_doctor_says_why_a_module_cannot_run(spear: Command, guest: Callable[[str], Path]) -> None:
    result = spear("doctor", guest("component"))
    assert result.returncode == 1
    assert b"component" in result.stdout


def test_a_module_that_is_not_there_is_one_sentence(spear: Command) -> None:
    result = spear("doctor", "nothing.wasm")
    assert (result.returncode, result.stdout) == (3, b"")
    assert b"cannot read 'nothing.wasm'" in result.stderr

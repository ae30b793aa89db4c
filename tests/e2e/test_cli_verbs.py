"""The verbs beside `run`: version, help, completion, doctor, config."""

from __future__ import annotations

import json
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
    assert result.returncode == 1
    assert b"nearest known one is 'limits.timeout'" in result.stderr


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
    assert (result.returncode, result.stdout) == (1, b"")
    assert b"cannot read 'nothing.wasm'" in result.stderr

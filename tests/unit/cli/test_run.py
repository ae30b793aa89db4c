"""The pieces of `spear run` that need no engine."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from guest_runs import guest_bytes

from spear import config as configuration
from spear.cli import exits, run, terminal
from spear.cli.arguments import UsageError, parse
from spear.cli.running import inputs, screen
from spear.config import Config


def line(message: str, stream: str = "log", level: int = 3) -> SimpleNamespace:
    return SimpleNamespace(message=message, stream=stream, level=level)


def test_a_log_line_has_its_level_and_a_stderr_line_is_plain() -> None:
    assert screen.prefixed(line("careful")) == "[warn] careful\n"
    assert screen.prefixed(line("plain", "stderr", 4)) == "plain\n"


def test_a_newline_ends_a_log_line_once_and_cannot_fake_another() -> None:
    assert screen.prefixed(line("one\n")) == "[warn] one\n"
    assert screen.prefixed(line("one\n[error] two")) == "[warn] one\n[warn] [error] two\n"


def test_an_empty_log_line_is_shown() -> None:
    assert screen.prefixed(line("")) == "[warn] \n"


def test_the_environment_is_what_was_given() -> None:
    assert inputs.environment(["A=1", "B=x=y", "A=2", "C="]) == {"A": "2", "B": "x=y", "C": ""}
    for bad in ("A", "=1", ""):
        with pytest.raises(UsageError, match="NAME=VALUE"):
            inputs.environment([bad])


def test_a_backtrace_has_a_line_a_place() -> None:
    places = [("leaf", None), ("deep", 16), ("deep", 16), ("deep", 17), ("main", 255)]
    frames = [SimpleNamespace(function=name, offset=offset) for name, offset in places]
    assert screen._places(frames).splitlines() == [
        "    at leaf",
        "    at deep (module offset 0x10), 2 times",
        "    at deep (module offset 0x11)",
        "    at main (module offset 0xff)",
    ]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in configuration.SETTINGS:
        monkeypatch.delenv(setting.environment, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def config_of(*words: str) -> Config:
    config = run.config_of(parse(words, run.OPTIONS))
    run._make_room_for_one(config)
    return config


def test_a_run_makes_room_for_one_guest_and_says_who_set_it() -> None:
    config = config_of("file")
    assert (config.workers, config.guests_max) == (1, 1)
    assert config.sources["executor.workers"] == "spear run"
    assert config.sources["executor.max_parked"] == "spear run"


def test_a_run_keeps_the_room_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEARLET_EXECUTOR_WORKERS", "3")
    config = config_of("file")
    assert (config.workers, config.guests_max) == (3, 1)
    assert config.sources["executor.workers"] == "environment SPEARLET_EXECUTOR_WORKERS"


def test_limits_reach_the_node_as_values() -> None:
    parsed = parse(["a/b.wasm", "--timeout", "1500ms", "--input", "/dev/null"], run.OPTIONS)
    given = run._options(parsed, "a/b.wasm", run.config_of(parsed))
    assert (given["name"], given["timeout"], given["log_lines_max"]) == ("b", 1.5, 262144)


def test_what_of_the_log_is_not_shown_is_a_warning() -> None:
    def said(lost: int, truncated: bool) -> list[str]:
        return screen._warnings(SimpleNamespace(log_lost=lost, log_truncated=truncated))  # type: ignore[arg-type]

    assert said(0, False) == []
    assert said(1, False) == ["1 log line came too fast to be shown"]
    assert said(7, True)[0] == "7 log lines came too fast to be shown"
    assert "limits.log" in said(7, True)[1]


def ended(code: str, cause: str, **more: object) -> SimpleNamespace:
    frames = [SimpleNamespace(function="leaf", offset=16)]
    error = SimpleNamespace(code=code, message="it ended", backtrace=frames)
    return SimpleNamespace(error=error, cause=cause, log_lost=0, log_truncated=False, **more)


@pytest.mark.parametrize(
    ("code", "shown"),
    [("TRAP", True), ("DEADLINE", True), ("CANCELLED", False), ("OUTPUT_LIMIT", False)],
)
def test_places_are_shown_for_traps_and_deadlines_only(
    code: str, shown: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    screen.TextScreen().close(ended(code, code.lower()), SimpleNamespace(), None)  # type: ignore[arg-type]
    said = capfd.readouterr().err
    assert said.startswith("error: it ended\n")
    assert ("at leaf" in said) is shown


def test_an_interrupt_is_one_word_without_places(capfd: pytest.CaptureFixture[str]) -> None:
    shown = screen.TextScreen()
    shown.close(ended("DEADLINE", "deadline"), SimpleNamespace(), exits.INTERRUPTED)  # type: ignore[arg-type]
    assert capfd.readouterr().err == "error: interrupted\n"


@pytest.mark.parametrize(("output", "said"), [(b"half", "\nerror: "), (b"whole\n", "error: ")])
def test_an_error_begins_its_own_line_on_a_terminal(
    output: bytes, said: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "is_terminal", lambda _: True)
    shown = screen.TextScreen()
    shown.show(SimpleNamespace(logs=[], output=output))  # type: ignore[arg-type]
    shown.show(SimpleNamespace(logs=[], output=b""))  # type: ignore[arg-type]
    shown.close(ended("TRAP", "trap"), SimpleNamespace(), None)  # type: ignore[arg-type]
    assert capfd.readouterr().err.startswith(said)


def test_an_interrupt_before_the_guest_is_said_as_asked(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "_run", interrupted)
    assert run.main(["file"]) == 130
    assert capfd.readouterr() == ("", "error: interrupted\n")
    assert run.main(["file", "--output", "json"]) == 130
    said = capfd.readouterr()
    assert json.loads(said.out)["error"]["code"] == "INTERRUPTED"
    assert said.err == ""


@pytest.mark.parametrize("more", [[], ["--repeat", "2"]])
def test_an_entry_that_nothing_reads_is_a_warning(
    more: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    agent = tmp_path / "talker.wasm"
    agent.write_bytes(guest_bytes("talker"))
    entries = ("foo.bar=1", "mcp.enabled=true", "budget.calls=3")
    words = [word for entry in entries for word in ("--set", entry)]
    warnings = [f"nothing reads this of the task's config: {key}" for key in
                ("foo.bar", "mcp.enabled")]  # fmt: skip
    assert run.main([str(agent), *words, *more, "--output", "json"]) == 0
    assert json.loads(capfd.readouterr().out)["warnings"] == warnings
    assert run.main([str(agent), *words, *more]) == 0
    said = capfd.readouterr().err
    assert all(f"warning: {warning}\n" in said for warning in warnings)


def test_entries_of_a_config_hold_for_a_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    agent = tmp_path / "talker.wasm"
    agent.write_bytes(guest_bytes("talker"))
    assert run.main([str(agent), "--set", "budget.calls=1", "--", "m=x", "s=0", "s=0"]) == 0
    first, second = capfd.readouterr().out.splitlines()
    assert "choices" in json.loads(first)
    assert json.loads(second)["error"]["code"] == "budget_spent"

"""`spear run --deterministic`, `--trace`, `--replay` and `--fuel`, as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Guest = Callable[[str], Path]


def test_that_models_and_tasks_are_not_served_is_said_where_a_user_looks(
    spear, guest: Guest
) -> None:
    said = " ".join(spear("run", "--help").stdout.decode().split())
    assert "models and other tasks are not served in it" in said
    for name, call in (("chat/chat", "cchat_create"), ("caller", "task_invoke")):
        done = spear("run", guest(name), "--deterministic", "--", "s|a|b")
        refused = f"[warn] spear.{call} is not served in a deterministic run, as its answers come "
        assert done.stderr.decode().startswith(refused)


def test_the_same_run_again_is_the_same_byte_for_byte(spear, guest: Guest) -> None:
    first = spear("run", guest("clock"), "--deterministic", "--seed", "3", "--", "5000")
    assert first.returncode == 0
    assert first.stdout.startswith(b"1577836800000 1577836800 ")
    assert first.stdout.endswith(b" 5000\n")
    again = spear("run", guest("clock"), "--deterministic", "--seed=3", "--", "5000")
    assert (again.stdout, again.stderr) == (first.stdout, first.stderr)
    other = spear("run", guest("clock"), "--deterministic", "--seed", "4", "--", "5000")
    assert other.stdout != first.stdout


def test_the_run_is_the_same_on_every_machine(spear, guest: Guest, tmp_path: Path) -> None:
    """The digest is that of another machine, by this engine's count of fuel."""
    trace = tmp_path / "run.trace"
    done = spear(
        "run", guest("clock"), "--deterministic", "--seed", "3", "--trace", trace, "--", "5000"
    )
    assert done.returncode == 0
    end = json.loads(trace.read_text().splitlines()[-1])
    assert (end["steps"], end["digest"]) == (4, "80bc69d8d02dfc42")


def test_the_document_is_the_same_too(spear, guest: Guest) -> None:
    def document() -> bytes:
        command = ("run", guest("clock"), "--deterministic", "--output", "json")
        found = json.loads(spear(*command).stdout)
        assert found["fuel"] > 0
        del found["cpu_ms"], found["artifact"]
        return json.dumps(found).encode()

    assert document() == document()


def test_a_run_is_recorded_and_replayed(spear, guest: Guest, tmp_path: Path) -> None:
    trace = tmp_path / "run.trace"
    command = ("run", guest("sleeper"), "--env", "KEY=canary", "--", "50")
    recorded = spear(*command[:2], "--deterministic", "--seed", "9", "--trace", trace, *command[2:])
    assert recorded.returncode == 0
    text = trace.read_text()
    assert "canary" not in text
    assert json.loads(text.splitlines()[0])["seed"] == 9
    assert json.loads(text.splitlines()[-1])["end"] == "completed"
    second = tmp_path / "again.trace"
    replayed = spear(*command[:2], "--replay", trace, "--trace", second, *command[2:])
    assert (replayed.returncode, replayed.stdout) == (0, recorded.stdout)
    assert second.read_text() == text


@pytest.mark.parametrize(("change", "said"), [
    (("--", "51"), b"args is not what it was"),
    (("--env", "A=B", "--", "50"), b"env is not what it was"),
    (("--input", "/dev/zero", "--", "50"), b"limits.input"),
    (("--timeout", "5s", "--", "50"), b"limit timeout_ns was 60000000000"),
    (("--fuel", "5000000", "--", "50"), b"limit fuel was None"),
])  # fmt: skip
def test_other_inputs_are_named_before_anything_runs(
    spear, guest: Guest, tmp_path: Path, change: tuple[str, ...], said: bytes
) -> None:
    trace = tmp_path / "run.trace"
    assert (
        spear("run", guest("sleeper"), "--deterministic", "--trace", trace, "--", "50").returncode
        == 0
    )
    done = spear("run", guest("sleeper"), "--replay", trace, *change)
    assert (done.returncode, done.stdout) == (125, b"")
    assert said in done.stderr


def test_the_first_difference_stops_the_replay_and_shows_both_sides(
    spear, guest: Guest, tmp_path: Path
) -> None:
    trace = tmp_path / "run.trace"
    spear("run", guest("sleeper"), "--deterministic", "--trace", trace, "--", "50")
    rows = trace.read_text().splitlines()
    step = json.loads(rows[2])
    step[-1] = "0" * 16
    trace.write_text("\n".join([*rows[:2], json.dumps(step), *rows[3:]]) + "\n")
    done = spear("run", guest("sleeper"), "--replay", trace, "--", "50")
    assert done.returncode == 125
    assert b"the replay differs at step 2" in done.stderr
    assert b"recorded  park of guest 1" in done.stderr
    assert b"replayed  park of guest 1" in done.stderr
    assert b"slept well" not in done.stdout


@pytest.mark.parametrize(("line", "change", "said"), [
    (2, lambda row: [*row[:4], row[4] + 1, *row[5:]], b"the replay differs at step 2"),
    (2, lambda row: [row[0], "slice", *row[2:]], b"the replay differs at step 2"),
    (-1, lambda end: end | {"end": "failed"}, b"at the end: end was failed, now it is completed"),
    (-1, lambda end: end | {"output": "0" * 64}, b"at the end: output was 000"),
])  # fmt: skip
def test_all_that_was_recorded_is_compared(
    spear, guest: Guest, tmp_path: Path, line: int, change: Callable[[Any], Any], said: bytes
) -> None:
    trace = tmp_path / "run.trace"
    spear("run", guest("sleeper"), "--deterministic", "--trace", trace, "--", "50")
    rows = trace.read_text().splitlines()
    rows[line] = json.dumps(change(json.loads(rows[line])))
    trace.write_text("\n".join(rows) + "\n")
    done = spear("run", guest("sleeper"), "--replay", trace, "--", "50")
    assert done.returncode == 125
    assert said in done.stderr


def test_a_recording_that_was_cut_off_is_replayed_up_to_there(
    spear, guest: Guest, tmp_path: Path
) -> None:
    trace = tmp_path / "run.trace"
    spear("run", guest("sleeper"), "--deterministic", "--trace", trace, "--", "50")
    rows = trace.read_text().splitlines(keepends=True)
    trace.write_text("".join(rows[:3]) + rows[3][:7])
    done = spear("run", guest("sleeper"), "--replay", trace, "--", "50")
    assert done.returncode == 125
    assert b"stops after step 2: it did not finish" in done.stderr


@pytest.mark.parametrize(("options", "said"), [
    (("--seed", "1"), b"--seed is for runs that are --deterministic"),
    (("--trace", "f"), b"--trace is for runs that are --deterministic"),
    (("--deterministic", "--seed", "x"), b"--seed: expected a whole number"),
    (("--deterministic", "--seed", str(2**64)), b"--seed: expected 0 to"),
    (("--deterministic=yes",), b"--deterministic takes no value"),
    (("--replay", "nowhere"), b"cannot read 'nowhere'"),
    (("--deterministic", "--trace", "no/such/folder"), b"cannot write 'no/such/folder'"),
    (("--fuel", "0"), b"--fuel: expected 1 to 4611686018427387904, found 0"),
    (("--fuel", "much"), b"--fuel: expected a whole number"),
])  # fmt: skip
def test_wrong_options_are_refused(spear, guest: Guest, options, said: bytes) -> None:
    done = spear("run", guest("hello"), *options)
    assert done.returncode == 125
    assert said in done.stderr
    assert done.stdout == b""


def test_a_seed_that_is_not_the_recording_s_is_refused(spear, guest: Guest, tmp_path) -> None:
    trace = tmp_path / "run.trace"
    spear("run", guest("hello"), "--deterministic", "--trace", trace)
    done = spear("run", guest("hello"), "--replay", trace, "--seed", "8")
    assert done.returncode == 125
    assert b"the recording has seed 0" in done.stderr


def test_fuel_ends_a_loop(spear, guest: Guest) -> None:
    done = spear("run", guest("loop"), "--fuel", "1000000")
    assert done.returncode == 137
    assert b"used up its fuel of 1000000" in done.stderr
    assert b"--fuel gives it more" in done.stderr


def test_a_loop_reaches_its_deadline_in_the_world_s_time(spear, guest: Guest) -> None:
    done = spear("run", guest("loop"), "--deterministic", "--timeout", "20ms")
    assert done.returncode == 124

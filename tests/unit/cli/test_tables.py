"""Tables on a terminal: what does not fit is cut at the right, and a pipe gets everything."""

from __future__ import annotations

import re

import pytest

from spear.cli import terminal
from spear.cli.screens import tables
from spear.records.execution import Execution

NOW = 1_800_000_000 * 10**9
RECORDS = [
    Execution(
        id=f"01890000-0000-7000-8000-0000dead000{number}", task_name=f"task-{number}-\u4e16\u754c",
        status="completed", exit_code=0, created_ns=NOW, duration_ns=10**6,
    )
    for number in range(3)
]  # fmt: skip


def lines(monkeypatch: pytest.MonkeyPatch, columns: int) -> list[str]:
    monkeypatch.setattr(terminal, "is_terminal", lambda fd: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", "25")  # without it a dumb terminal has 80 columns
    monkeypatch.setenv("TERM", "dumb")
    return tables.text_of(tables.EXECUTIONS, RECORDS, NOW).splitlines()


@pytest.mark.parametrize("columns", [10, 20, 40])
def test_a_narrow_terminal_keeps_the_ids_whole(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    found = lines(monkeypatch, columns)
    assert [line[:8] for line in found] == ["ID      ", "dead0000", "dead0001", "dead0002"]
    assert all(line.endswith("…") for line in found)


@pytest.mark.parametrize("columns", [21, 22, 23, 24])
def test_a_wide_character_is_not_cut_in_two(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    from rich.cells import cell_len

    assert max(map(cell_len, lines(monkeypatch, columns))) <= columns


def test_what_fits_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    found = lines(monkeypatch, 100)
    assert found[1].split() == ["dead0000", "task-0-世界", "completed", "0", "now", "1", "ms"]
    assert "…" not in "".join(found)


def test_a_pipe_gets_everything_on_lines_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "is_terminal", lambda fd: False)
    monkeypatch.setenv("COLUMNS", "10")
    text = tables.text_of(tables.EXECUTIONS, RECORDS, NOW)
    assert text.endswith("1 ms\n")
    assert len(text.splitlines()) == 4


def test_lines_end_with_their_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "is_terminal", lambda fd: False)
    lines = tables.text_of(tables.EXECUTIONS, [*RECORDS, Execution(id="x" * 8)], NOW).splitlines()
    assert [line.rstrip() for line in lines] == lines
    assert lines[0].index("STATUS") == lines[1].index("completed") + 2  # two cells a character


def test_colours_change_no_character(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = lines(monkeypatch, 60)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    found = tables.text_of(tables.EXECUTIONS, RECORDS, NOW)
    assert "\x1b[32mcompleted\x1b[0m" in found
    assert "\x1b[1mSTATUS\x1b[0m" in found
    assert re.sub(r"\x1b\[[0-9;]*m", "", found).splitlines() == plain

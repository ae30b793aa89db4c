"""The pieces of `spear run` that need no engine."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from spear.cli import run
from spear.cli.arguments import UsageError


def line(message: str, stream: str = "log", level: int = 3) -> SimpleNamespace:
    return SimpleNamespace(message=message, stream=stream, level=level)


def test_a_log_line_has_its_level_and_a_stderr_line_is_plain() -> None:
    assert run._prefixed(line("careful")) == "[warn] careful\n"
    assert run._prefixed(line("plain", "stderr", 4)) == "plain\n"


def test_a_newline_ends_a_log_line_once_and_cannot_fake_another() -> None:
    assert run._prefixed(line("one\n")) == "[warn] one\n"
    assert run._prefixed(line("one\n[error] two")) == "[warn] one\n[warn] [error] two\n"


def test_an_empty_log_line_is_shown() -> None:
    assert run._prefixed(line("")) == "[warn] \n"


def test_the_environment_is_what_was_given() -> None:
    assert run._environment(["A=1", "B=x=y", "A=2", "C="]) == {"A": "2", "B": "x=y", "C": ""}
    for bad in ("A", "=1", ""):
        with pytest.raises(UsageError, match="NAME=VALUE"):
            run._environment([bad])


def test_a_backtrace_has_a_line_a_place() -> None:
    places = [("leaf", 2**64 - 1), ("deep", 16), ("deep", 16), ("deep", 17), ("main", 255)]
    frames = [SimpleNamespace(function=name, offset=offset) for name, offset in places]
    assert run._places(frames).splitlines() == [
        "    at leaf",
        "    at deep (module offset 0x10), 2 times",
        "    at deep (module offset 0x11)",
        "    at main (module offset 0xff)",
    ]

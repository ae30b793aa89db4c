"""Exit codes are those of the contract."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from spear import errors
from spear.cli import exits
from spear.errors import SpearError


@pytest.mark.parametrize(
    ("status", "cause", "guest", "code"),
    [
        ("completed", "exit", 0, 0),
        ("failed", "exit", 3, 3),
        ("failed", "exit", 124, 124),
        ("failed", "exit", 256, 1),
        ("failed", "exit", -1, 255),
        ("failed", "exit", -256, 1),
        ("timeout", "deadline", None, 124),
        ("failed", "trap", None, 134),
        ("failed", "output_limit", None, 137),
        ("failed", "fuel", None, 137),
        ("terminated", "cancelled", None, 137),
        ("failed", "no_memory", None, 137),
        ("failed", "lost", None, 137),
        ("failed", "instantiate", None, 125),
        ("failed", "invalid_argument", None, 125),
        ("failed", "artifact", None, 125),
    ],
)
def test_every_end_has_its_code(status: str, cause: str, guest: int | None, code: int) -> None:
    execution = SimpleNamespace(status=status, cause=cause, exit_code=guest)
    assert exits.of_execution(execution) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidArgument("x"), 2),
        (errors.ModuleInvalid("x"), 2),
        (errors.NotFound("x"), 3),
        (errors.VersionConflict(b"k", 1, 2), 4),
        (errors.ObjectInUse("x"), 4),
        (errors.NodeClosed("x"), 5),
        (errors.ModuleLimit("x"), 6),
        (errors.NodeBusy("x"), 6),
        (SpearError("x"), 1),
    ],
)
def test_an_error_has_the_code_of_its_status(error: SpearError, code: int) -> None:
    assert exits.of_error(error) == code

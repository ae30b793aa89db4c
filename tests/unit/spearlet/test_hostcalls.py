"""What answers posted calls is there for programs that make them, and for no other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import make_config

import spear
from spear.errors import InvalidArgument

pytest.importorskip("spear._core.executor")
Guest = Callable[[str], Path]


def imported_by(folder: Path, guest: Path) -> set[str]:
    script = (
        "import sys, spear\n"
        f"with spear.Spearlet.sync({{'cache_dir': {str(folder / 'cache')!r}}}) as node:\n"
        f"    assert node.run({str(guest)!r}).status == 'completed'\n"
        "print(*(name for name in sys.modules if name.startswith('spear.')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_a_guest_that_asks_for_nothing_brings_in_nothing(tmp_path: Path, guest: Guest) -> None:
    found = imported_by(tmp_path, guest("noop"))
    assert not {name for name in found if name.startswith(("spear.hostcalls.", "spear.telemetry"))}


def test_one_that_asks_brings_in_what_answers_but_no_network(tmp_path: Path, guest: Guest) -> None:
    found = imported_by(tmp_path, guest("caller"))
    assert "spear.hostcalls.llm.chat" in found
    assert "spear.hostcalls.llm.http.client" not in found


def test_a_library_has_no_tasks_to_call(tmp_path: Path, guest: Guest) -> None:
    with spear.Spearlet.sync(config=make_config(tmp_path)) as node:
        execution = node.run(guest("caller"), args=["s|echo|x"], config={"budget.calls": "1"})
        assert execution.output == b"-38\n"
        with pytest.raises(InvalidArgument, match=r"budget\.calls"):
            node.run(guest("caller"), config={"budget.cals": "1"})

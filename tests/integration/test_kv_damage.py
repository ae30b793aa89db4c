"""Damaged files of the metadata store: never a row silently lost or changed, never a crash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import kv_damage
import pytest

TRIALS = 120
TRIALS_SOAK = 10_000


def ends(folder: Path, seed: int, trials: int, fault: str = "") -> list[str]:
    """How each trial went; the process that made them has come to its end."""
    words = [sys.executable, kv_damage.__file__, str(folder), str(seed), str(trials), fault]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-300:]}\n{done.stderr}"
    return [line for line in done.stdout.splitlines() if line.split(":")[0].isdigit()]


def test_damage_is_noticed_or_harmless(tmp_path: Path) -> None:
    found = ends(tmp_path / "kv", 1, TRIALS)
    assert len(found) == TRIALS
    assert [line for line in found if "SILENT" in line] == []
    for words in ("noticed when opened", "noticed when read", "whole"):
        assert any(words in line for line in found), words


@pytest.mark.parametrize("fault", kv_damage.FAULTS)
def test_a_guard_left_out_is_seen(tmp_path: Path, fault: str) -> None:
    assert any("SILENT" in line for line in ends(tmp_path / "kv", 1, 60, fault))


@pytest.mark.soak
def test_damage_is_noticed_or_harmless_many_times(tmp_path: Path) -> None:
    found = ends(tmp_path / "kv", 1000, TRIALS_SOAK)
    assert len(found) == TRIALS_SOAK
    assert [line for line in found if "SILENT" in line] == []

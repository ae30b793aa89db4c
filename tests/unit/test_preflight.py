"""What is missing for a build is said in one line, with what to install."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def preflight(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "scripts/preflight.sh", *arguments],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_complete_machine_passes_quietly():
    done = preflight(sys.executable)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "env", "what"),
    [
        ([sys.executable], {"CC": "no-such-compiler"}, "gcc"),
        (["no-such-python"], {}, "no-such-python"),
        ([sys.executable], {"CC": "false"}, "libc6-dev"),
    ],
)
def test_what_is_missing_is_one_line(arguments: list[str], env: dict[str, str], what: str):
    done = preflight(*arguments, **env)
    lines = (done.stdout + done.stderr).strip().splitlines()
    assert done.returncode != 0
    assert len(lines) == 1
    assert what in lines[0]
    assert "install" in lines[0]

"""What `make demo` runs, and the examples it shows, are what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def python(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip


@pytest.mark.skipif(
    not (Path(sys.executable).parent / "spear").exists(), reason="the command is not installed"
)
def test_the_demo_passes_without_a_terminal(environment: dict[str, str]) -> None:
    done = python("scripts/demo.py", environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].startswith("All as it should be.")


def test_clients_of_one_agent_get_their_frames_back(environment: dict[str, str]) -> None:
    done = python("examples/stream_echo/stream_echo.py", "5", "30", environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "150 of 150 frames" in done.stdout
    assert "the agent says: 150 frames of 5 streams echoed" in done.stdout


def test_a_runaway_harms_nobody_beside_it(environment: dict[str, str]) -> None:
    done = python("examples/together/together.py", "0.6", environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if " ms  " in line]
    assert [line.split()[2] for line in (lines[0], lines[-1])] == ["runaway", "runaway"]
    assert sum("completed" in line for line in lines) == 5
    assert "timeout" in lines[-1]


def test_no_visitor_is_forgotten(environment: dict[str, str]) -> None:
    done = python("examples/memory/remember.py", "40", environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "40 visits counted, 40 notes kept, 0 lost;" in done.stdout
    refused = next(line for line in done.stdout.splitlines() if "writes were refused" in line)
    assert int(refused.split()[0]) > 40

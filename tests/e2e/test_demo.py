"""What `make demo` runs, and the examples it shows, are what they say."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

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
    assert "--replay" in done.stdout
    assert (
        "10,000 agents parked in one process" in done.stdout
        or loaded("scripts/demo.py").no_room_for_a_crowd()
    )


def test_a_step_that_goes_wrong_fails_and_one_that_cannot_be_shown_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    demo = loaded("scripts/demo.py")
    words = ["python", "-c", "print('SCRATCH')"]
    right = demo.Step("", words, output=["a/folder"])
    wrong = demo.Step("", words, code=3, output=["other"], errors=["none"])
    left_out = demo.Step("", words, code=3, refusal=lambda: "no such kernel")
    given = [demo.perform(demo.Screen(), step, "a/folder") for step in (right, wrong, left_out)]
    assert given == [True, False, True]
    said = capsys.readouterr().out
    assert "wrong: exit code 3 was expected, found 0" in said
    assert "wrong: stdout does not say 'other'" in said
    assert "wrong: stderr does not say 'none'" in said
    assert "left out, this machine cannot: no such kernel" in said


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


def test_a_crowd_waits_is_measured_and_goes_home(environment: dict[str, str]) -> None:
    done = python("examples/crowd/crowd.py", "300", environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    parked, shape, worker, gone = done.stdout.splitlines()
    sizes = re.fullmatch(
        r"300 agents parked in one process after [\d.]+ s: "
        r"([\d.]+) KiB resident each, ([\d.]+) KiB of page tables beside it",
        parked,
    )
    assert sizes is not None, parked
    assert all(0 < float(size) < 1024 for size in sizes.groups())
    assert shape == "each is sleeper.wasm, small: begins with a memory of 2 pages"
    assert 'The most frequent word is "' in worker
    assert re.fullmatch(r"300 of 300 cancelled and ended in [\d.]+ s, 0 are left", gone)


def test_a_crowd_is_as_large_as_the_kernel_s_mappings_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crowd, limit = loaded("examples/crowd/crowd.py"), tmp_path / "max_map_count"
    limit.write_text("65530\n")
    monkeypatch.setattr(crowd, "MAPS_LIMIT", str(limit))
    assert crowd.room(10_000) == 10_000
    assert capsys.readouterr().out == ""
    assert crowd.room(12_000) == 10_755
    said = capsys.readouterr().out
    assert "room for 10,755 of 12,000 agents" in said
    limit.write_text(said.rpartition("sysctl -w vm.max_map_count=")[2])
    assert crowd.room(12_000) == 12_000


def test_a_reactor_is_called_from_python(environment: dict[str, str]) -> None:
    done = python("examples/reactor/reactor.py", "20", environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines[:3] == [
        "shared: [2, 3, 13] items after each put, 12.5 in total",
        "fresh:  [2, 1, 10] items after each put",
        "put is (i32, f64) -> i64, and refuses others: 'two' is no integer",
    ]
    assert lines[3] == "quote slept 20 ms and gave 10.0; its log: ['asking for 20 % off']"


def loaded(path: str) -> ModuleType:
    """The file as a module, not run."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module

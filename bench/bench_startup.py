"""Start-up of the command and of the package against a bare interpreter.

Rule: same interpreter, same environment, in turn, on one vCPU, output to a pipe; a figure is the
median of several starts. The guest's first instruction is dated by its first output, which comes
later, so the figure is an upper bound.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.report import interleaved, record

ROOT = Path(__file__).resolve().parents[1]
HELLO = ROOT / "examples" / "hello" / "hello.wasm"
STARTS = 7  # a round
BARE = (sys.executable, "-c", "pass")
SCRIPT = Path(sys.executable).parent / "spear"
COMMAND = (str(SCRIPT),) if SCRIPT.exists() else (sys.executable, "-m", "spear.cli.main")


@pytest.fixture(autouse=True)
def _one_vcpu() -> Iterator[None]:
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cpus)})
    yield
    os.sched_setaffinity(0, cpus)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home of its own, so that no configuration of the user's is read."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": path}
    return kept | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}


def start_ms(command: Sequence[str], environment: dict[str, str]) -> tuple[float, float]:
    """Milliseconds to the first output (stdout or stderr; its end if there is none) and in all."""
    began = time.perf_counter_ns()
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, bufsize=0, cwd=environment["HOME"],
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        text = process.stdout.read(1)
        first = time.perf_counter_ns() - began
        text += process.stdout.read()
        process.wait()
        whole = time.perf_counter_ns() - began
    assert process.returncode == 0, text.decode()
    return first / 1e6, whole / 1e6


class Starts:
    """Contenders for `interleaved`: each call starts a command several times. The time to the
    first output of the same starts is kept aside."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self.first_ms: dict[str, list[float]] = {}

    def contender(self, name: str, command: Sequence[str]) -> Callable[[], float]:
        return partial(self._run, name, command)

    def _run(self, name: str, command: Sequence[str]) -> float:
        taken = [start_ms(command, self._environment) for _ in range(STARTS)]
        self.first_ms.setdefault(name, []).append(median(first for first, _ in taken))
        return median(whole for _, whole in taken)


def test_start_of_a_guest(benchmark, environment):
    starts = Starts(environment)
    run = [*COMMAND, "run", str(HELLO)]
    start_ms(run, environment)  # the module's code is in the cache from now on
    values = interleaved(
        benchmark,
        {
            "spear run": starts.contender("spear run", run),
            "python -c pass": starts.contender("python -c pass", BARE),
            "spear --version": starts.contender("version", [*COMMAND, "--version"]),
            "import wasmtime": starts.contender(
                "wasmtime", [sys.executable, "-c", "import wasmtime"]
            ),
        },
        rounds=7,
    )
    whole = values.pop("spear run")
    note = "examples/hello: small guest, 2 pages; compiled code in the cache"
    record(
        "spear run hello.wasm to the guest's first output, one vCPU",
        starts.first_ms["spear run"][-len(whole) :],
        "ms",
        values,
        {"python -c pass": ("<=", 6.0)},
        note=note,
    )
    record(
        "spear run hello.wasm, whole process, one vCPU",
        whole,
        "ms",
        {"python -c pass": values["python -c pass"]},
        {},
        note=note,
    )


def test_start_of_a_guest_without_the_cache(benchmark, environment, tmp_path):
    number = iter(range(1000))

    def cold() -> float:
        fresh = environment | {"XDG_CACHE_HOME": str(tmp_path / f"empty-{next(number)}")}
        return start_ms([*COMMAND, "run", str(HELLO)], fresh)[0]

    starts = Starts(environment)
    values = interleaved(
        benchmark,
        {
            "spear run": lambda: median(cold() for _ in range(3)),
            "python -c pass": starts.contender("bare", BARE),
        },
    )
    record(
        "spear run hello.wasm to the guest's first output, nothing cached, one vCPU",
        values.pop("spear run"),
        "ms",
        values,
        {},
        note="examples/hello: small guest, 2 pages; compiled at this start",
    )


def test_import_of_the_package(benchmark, environment):
    starts = Starts(environment)
    values = interleaved(
        benchmark,
        {
            "import spear": starts.contender("spear", [sys.executable, "-c", "import spear"]),
            "python -c pass": starts.contender("bare", BARE),
        },
        rounds=7,
    )
    record(
        "python -c 'import spear', one vCPU",
        values.pop("import spear"),
        "ms",
        values,
        {"python -c pass": ("<=", 2.0)},
    )

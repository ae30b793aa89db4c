"""What all tests share: the guests, the command, a clock that stands still, a configuration that
no file or variable of the machine reaches."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from manual_clock import ManualClock
from property_examples import register

from spear import config as configuration
from spear.config import Config

ROOT = Path(__file__).parent.parent
GUEST_FOLDERS = (ROOT / "examples", ROOT / "tests" / "guests")
SCRIPT = Path(sys.executable).parent / "spear"  # of an installed package, plain or editable
LET_GO_S = 30.0
Command = Callable[..., "subprocess.CompletedProcess[bytes]"]


register()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Ten thousand tests are half a million objects that stay: every full collection of garbage
    would walk through them all, those that tests ask for too (a fourth of a run's time)."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


def guest_path(name: str) -> Path:
    """The committed .wasm of an example or test guest, by its stem or `folder/stem`."""
    pattern = f"{name}.wasm" if "/" in name else f"*/{name}.wasm"
    found = [path for folder in GUEST_FOLDERS for path in sorted(folder.glob(pattern))]
    assert len(found) == 1, f"guest {name!r}: expected one file, found {found}"
    return found[0]


@pytest.fixture(autouse=True, scope="module")
def no_executor_left() -> Iterator[None]:
    """A guest that is left running takes a core from all tests after it: an executor whose calls
    are still served at the end of its module was never closed."""
    before = _serving()
    yield
    if left := _serving() - before:
        gc.collect()
        for thread in left:
            thread.join(LET_GO_S)
    assert not [thread for thread in left if thread.is_alive()], "an executor was never closed"


def _serving() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "spear-calls"}


@pytest.fixture(scope="session")
def guest() -> Callable[[str], Path]:
    return guest_path


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Defaults, with a cache of its own."""
    return make_config(tmp_path)


def make_config(folder: Path, **settings: object) -> Config:
    """`limits__timeout` stands for the key `limits.timeout`."""
    flags = {key.replace("__", "."): (f"--{key}", value) for key, value in settings.items()}
    environ = {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    return configuration.load(flags=flags, environ=environ)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What a command started by a test sees: a home of its own."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_PRELOAD", "ASAN_OPTIONS")
            if name in os.environ}  # fmt: skip
    if not SCRIPT.exists():
        kept["PYTHONPATH"] = str(Path(configuration.__file__).parents[1])
    return kept | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.fixture
def command_line() -> list[str]:
    """How `spear` is started: the installed script, else the module."""
    return [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-m", "spear.cli.main"]


@pytest.fixture
def spear(command_line: list[str], environment: dict[str, str], tmp_path: Path) -> Command:
    """Runs `spear ARGUMENTS...` to its end, away from the source tree."""

    def run(
        *arguments: str | Path, input: bytes = b"", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        words: Sequence[str] = [*command_line, *map(str, arguments)]
        return subprocess.run(
            words, input=input, capture_output=True, timeout=60, cwd=tmp_path,
            env=environment | dict(env or {}),
        )  # fmt: skip

    return run

"""What several benchmarks stand on: one vCPU, executors that are closed, a loop, native floors."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from spear._core import engineapi
from spear._core.executor import Executor

ROOT = Path(__file__).resolve().parents[1]
NATIVE = ROOT / "bench" / "native"


@pytest.fixture
def pinned() -> Iterator[None]:
    """This thread, and what it starts meanwhile, on one vCPU."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cpus)})
    yield
    os.sched_setaffinity(0, cpus)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """A uvloop. Asked for before `executor_of`, it outlives the executors."""
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as made:
        yield made


@pytest.fixture
def executor_of() -> Iterator[Callable[..., Executor]]:
    """Makes executors with so many workers and closes them afterwards."""
    with ExitStack() as stack:

        def make(workers: int, **settings: Any) -> Executor:
            executor = Executor(workers=workers, **settings)
            stack.callback(executor.close)
            return executor

        yield make


@pytest.fixture(scope="session")
def floor(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """Runs the C floor of guests, compiled now, and gives what it prints."""
    compiler = shutil.which("gcc") or pytest.skip("no gcc for the C floor")
    core, program = ROOT / "spear" / "_core", tmp_path_factory.mktemp("native") / "guest_floor"
    sources = [NATIVE / "guest_floor.c", core / "guestmem.c"]
    flags = ["-O3", "-std=gnu11", "-I", core, "-pthread", "-Wno-unused-function"]
    subprocess.run([compiler, *flags, "-o", program, *sources, "-ldl"], check=True)
    library = engineapi.library()[1]

    def run(*arguments: object) -> dict[str, Any]:
        command = list(map(str, (program, library, *arguments)))
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="session")
def cython_module(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ModuleType]:
    """Compiles a module of `bench/native` against the package's contracts and imports it."""
    cython = pytest.importorskip("Cython.Build")

    def build(name: str) -> ModuleType:
        from setuptools import Distribution, Extension

        folder = tmp_path_factory.mktemp(name)
        source = shutil.copy(NATIVE / f"{name}.pyx", folder)
        extensions = cython.cythonize(
            [Extension(name, [source], extra_compile_args=["-O3", "-pthread"])],
            include_path=[str(ROOT)],
            language_level=3,
            quiet=True,
        )
        command = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(folder), str(folder)
        command.ensure_finalized()
        command.run()
        (built,) = folder.glob(f"{name}*.so")
        spec = importlib.util.spec_from_file_location(name, built)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return build

"""Tries an installed SPEAR: what the wheel holds, every native module, the command, the library.

    python scripts/smoke.py WHEEL EXAMPLES

Rule: runs in the environment the wheel was installed into and must not see the source tree.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import zipfile
from pathlib import Path

WANTED = (
    "spear/py.typed", "spear/cli/main.py", "spear/_core/framing.pyi", "spear/config.py",
    "spear/protocol/proto/spearlet/function.proto", "spear/protocol/pb/spear/v1/task_pb2.pyi",
)  # fmt: skip
REFUSED = (".c", ".pyx", ".o", ".toml", ".wasm")
FOLDERS = ("spear/", "spear-")


def check_content(wheel: Path) -> list[str]:
    """The native modules' names, once the wheel has all it should and nothing else."""
    names = zipfile.ZipFile(wheel).namelist()
    missing = [name for name in WANTED if name not in names]
    strange = [n for n in names if n.endswith(REFUSED) or not n.startswith(FOLDERS)]
    assert not missing, f"the wheel lacks {missing}"
    assert not strange, f"the wheel holds {strange}"
    built = [Path(n).name.partition(".")[0] for n in names if n.endswith(".so")]
    typed = [Path(n).stem for n in names if n.startswith("spear/_core/") and n.endswith(".pyi")]
    assert sorted(built) == sorted(typed), f"built {built}, described {typed}"
    return built


def check_modules(names: list[str]) -> None:
    """Each is importable and comes from the installed wheel."""
    for name in names:
        found = importlib.import_module(f"spear._core.{name}").__file__ or ""
        assert Path(found).is_relative_to(sys.prefix), f"{name} was found at {found}"


def spear(*arguments: str | Path, code: int = 0) -> str:
    """The output of the command, which must end with that exit code."""
    command = [str(Path(sys.executable).parent / "spear"), *map(str, arguments)]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, f"{arguments}: exit code {done.returncode}\n{done.stderr}"
    return done.stdout


def check_command(examples: Path) -> None:
    assert spear("--version").startswith("spear ")
    assert "run" in spear("--help")
    spear("doctor")
    assert spear("run", examples / "hello/hello.wasm") == "Hello, SPEAR!\n"
    spear("run", examples / "trap/trap.wasm", code=134)
    spear("run", examples / "loop/loop.wasm", "--timeout", "100ms", code=124)


def check_library(examples: Path) -> None:
    import spear

    with spear.Spearlet.sync() as node:
        execution = node.run(examples / "answer/answer.wasm", input="to be or not to be")
        assert execution.completed, execution.error
        assert b'"to"' in execution.output, execution.output
    assert spear.FrameDecoder(100).receive(spear.encode(b"frame")) == [b"frame"]


def check_messages() -> None:
    from spear.protocol.convert.task import TASK
    from spear.records.task import Task, TaskSpec

    task = Task(id="1", version=1, spec=TaskSpec(name="greet", artifact="00"))
    assert TASK.record(TASK.message(task)) == task


def main() -> None:
    """Raises AssertionError at the first thing that is wrong."""
    wheel, examples = map(Path, sys.argv[1:3])
    modules = check_content(wheel)
    check_modules(modules)
    check_command(examples)
    check_library(examples)
    check_messages()
    print(f"{wheel.name}: {len(modules)} native modules, command and library work")


if __name__ == "__main__":
    main()

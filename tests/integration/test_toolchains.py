"""Guests as toolchains make them, with their standard libraries: exact outputs and exit codes.

One guest a language (tests/guests/toolchains), whose first argument says what to do. The .wasm
files are committed; only rebuilding them needs the toolchains.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from guest_runs import ended, executor, guest, logged

from spear._core.executor import Executor
from spear._core.filetable import Directory

LANGUAGES = {"c": "C", "rust": "Rust", "zig": "Zig", "as": "AssemblyScript"}
WITH_FILES = ("c", "rust", "zig")  # AssemblyScript's shim has none
WHAT = {
    "hello": ((), {}, "hello from {language}\n", 0),
    "args": (("one", "two words", "ü"), {}, "5 ü\n", 0),
    "env": ((), {"env": {"OTHER": "x", "NAME": "a value = ü"}}, "a value = ü\n", 0),
    "stdin": ((), {"stdin": b"line one\nno newline" * 40}, "LINE ONE\nNO NEWLINE" * 40, 0),
    "sleep": ((), {}, "time passed\n", 0),
    "random": ((), {}, "random\n", 0),
    "exit": (("42",), {}, "", 42),
}  # fmt: skip
LISTED = {"c": "link three two\n", "rust": "deep three two\n", "zig": "deep two\n"}
LEFT = {"c": "three", "rust": "three", "zig": ""}


@pytest.fixture(scope="module")
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


def output(node: Executor, language: str, *args: str, code: int = 0, **more: Any) -> str:
    run = node.start(guest(f"tool_{language}"), args=("tool", *args), **more)
    outcome = ended(run)
    assert (outcome.cause, outcome.exit_code) == ("exit", code), (run.output, logged(run, "stderr"))
    return run.output.decode()


@pytest.mark.parametrize("inline", [False, True], ids=["worker", "inline"])
@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_toolchain_s_guest_gives_exactly(node: Executor, language: str, what: str, inline: bool):
    args, more, expected, code = WHAT[what]
    found = output(node, language, what, *args, code=code, inline=inline, **more)
    assert found == expected.format(language=LANGUAGES[language])


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """One to write, one to read, and what belongs to neither."""
    for name in ("data", "read"):
        (tmp_path / name).mkdir()
    (tmp_path / "read" / "given").write_text("for reading only\n")
    (tmp_path / "secret").write_text("secret")
    return tmp_path


@pytest.mark.parametrize("language", WITH_FILES)
def test_a_toolchain_s_guest_uses_files(node: Executor, folders: Path, language: str):
    dirs = [
        Directory(folders / "data", "/data", writable=True),
        Directory(folders / "read", "/read"),
    ]
    found = output(node, language, "files", dirs=dirs)
    assert found == LISTED[language] + "for reading only\n"
    left = sorted(path.name for path in (folders / "data" / "made").iterdir())
    assert " ".join(left) == LEFT[language]
    assert (folders / "read" / "given").read_text() == "for reading only\n"


def test_the_command_grants_directories(
    spear: Callable[..., subprocess.CompletedProcess[bytes]], folders: Path
):
    module = Path(__file__).parents[1] / "guests" / "toolchains" / "tool_c.wasm"
    grants = ("--dir", f"{folders}/data:/data:rw", f"--dir={folders}/read:/read")
    done = spear("run", module, *grants, "--", "files")
    assert (done.returncode, done.stdout) == (0, b"link three two\nfor reading only\n"), done.stderr
    refused = spear("run", module, "--dir", f"{folders}/data:/data", "--", "files")
    assert refused.returncode == 1
    assert b"Read-only file system" in refused.stdout

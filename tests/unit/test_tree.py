"""What no file of the tree may hold: a path of one machine, or the host of a package registry."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Folders that are made, not written, and the names of environments and caches.
MADE = {"build", "dist", "__pycache__", ".git"}
MADE_PREFIXES = (".venv", ".mypy", ".ruff", ".pytest", ".hypothesis", ".benchmarks")
MADE_SUFFIXES = (".so", ".wasm", ".egg-info")
FORBIDDEN = {
    "a path of one machine": re.compile(
        r"(?<![\w.}~])/(?:home|root|work|Users|mnt|tmp)/[A-Za-z]\w*"
    ),
    "the host of a registry": re.compile(
        r"pypi\.org|pythonhosted\.org|npmjs\.|crates\.io|--(?:extra-)?index-url|find-links"
    ),
}


def made(name: str) -> bool:
    return name in MADE or name.startswith(MADE_PREFIXES) or name.endswith(MADE_SUFFIXES)


def texts() -> Iterator[tuple[str, str]]:
    """Name and text of every file that was written; links are not followed."""
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not made(name)]
        for name in files:
            path = Path(folder, name)
            if made(name) or path == Path(__file__):
                continue
            try:
                yield str(path.relative_to(ROOT)), path.read_text()
            except UnicodeDecodeError:
                continue


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    found = [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if FORBIDDEN[what].search(line)
    ]
    assert found == []


def test_the_patterns_see_what_they_forbid() -> None:
    path, host = FORBIDDEN.values()
    assert path.search("cd /home/ada/spear")
    assert not path.search("$HOME/x or build/tmp/y or ~/work/z")
    assert host.search("https://files.pythonhosted.org/x")


def test_the_command_s_package_is_a_link_to_its_folder() -> None:
    assert os.readlink(ROOT / "spear" / "cli") == "../cli"

"""The import direction of the layers, and the owners of what the machine gives (AST, no import)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Each line may import those above it and, within a line, only itself.
LAYERS = (
    ("errors",),
    ("units", "pace"),
    ("tomltable",),
    ("clock", "records"),
    ("config_llm",),
    ("config",),
    ("_core",),
    ("telemetry", "security"),
    ("protocol", "kv"),
    ("client",),
    ("hostcalls",),
    ("runtime",),
    ("spearlet", "sms", "graph"),
    ("gateway",),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# Who may ask the machine, by what is asked (style, rule 16).
OWNERS = {
    "time": {"spear/clock.py"},
    "random": set(),
    "uuid": set(),
    "secrets": set(),
    "socket": {
        "spear/protocol/sockets.py",
        "spear/protocol/transport.py",
        "spear/spearlet/readiness.py",
    },
    "os.environ": {"spear/config.py"},
    "os.getenv": set(),
    "os.urandom": {"spear/clock.py"},
    "os.uname": {"spear/clock.py", "spear/_core/aotcache.py"},
    "datetime": {"spear/clock.py"},
}  # fmt: skip
FILES = sorted([*(ROOT / "spear").rglob("*.py"), *(ROOT / "cli").rglob("*.py")])


def layer(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] == "cli" else parts[1]


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all imports, the lazy ones and those for type checkers included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def asked(tree: ast.AST) -> set[str]:
    """Names of OWNERS that the code imports or reaches as an attribute of `os`."""
    found = {name for full in imported(tree) for name in (full.partition(".")[0], full)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
    return found & set(OWNERS)


def wrong_imports(own: str, names: Iterator[str]) -> list[str]:
    targets = [name.split(".")[1] for name in names if name.startswith("spear.")]
    known = [target for target in targets if target in RANK]
    return [t for t in known if t != own and RANK[t] >= RANK[own]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_the_layers(path: Path) -> None:
    own = layer(path)
    if own == "__init__":  # the package's lazy public names
        return
    assert own in RANK, f"{own} has no place in the layers"
    assert wrong_imports(own, imported(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_owners_ask_the_machine(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    strangers = {what for what in asked(ast.parse(path.read_text())) if name not in OWNERS[what]}
    assert strangers == set()


def test_the_checks_see_what_they_forbid() -> None:
    upward = ast.parse("def f():\n    from spear.spearlet import node\n")
    assert wrong_imports("runtime", imported(upward)) == ["spearlet"]
    sideways = ast.parse("import spear.records")
    assert wrong_imports("clock", imported(sideways)) == ["records"]
    nosy = ast.parse("import os, time\nfrom random import random\nos.environ['A']\n")
    assert asked(nosy) == {"time", "random", "os.environ"}

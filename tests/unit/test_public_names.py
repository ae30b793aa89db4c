"""`import spear` costs nothing; its names are there when used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import spear
from spear import errors

NATIVE = {
    "Directory", "FrameDecoder", "encode", "encode_many", "DELETE", "ObjectStore", "DueQueue",
    "RunQueue",
}  # fmt: skip
PRIVATE: set[str] = set()  # classes of spear/errors.py that are deliberately not exported
HEAVY = ("typing", "asyncio", "re", "click", "rich", "msgspec", "uvloop", "hashlib", "spear.errors")


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys\nsys.path[:] = {sys.path!r}\n{script}"],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    return set(found.stdout.decode().split())


def test_importing_the_package_imports_nothing_else() -> None:
    assert not modules_after("import spear") & set(HEAVY)


def test_what_a_run_imports_before_the_engine_has_no_loop_and_no_click() -> None:
    found = modules_after("import spear.cli.main, spear.cli.run, spear.spearlet.library")
    assert not found & {"asyncio", "click", "rich", "msgspec", "uvloop", "json", "tomllib",
                        "dataclasses", "inspect", "pathlib", "threading"}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(spear.__all__) - NATIVE))
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(spear, name) is not None


def test_every_error_is_public() -> None:
    """One that is not to be caught by name stands in PRIVATE, with the reason."""
    classes = {
        name for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }  # fmt: skip
    assert len(classes) > 10
    assert classes - PRIVATE == classes & set(spear.__all__)
    assert classes >= PRIVATE


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(spear.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    names = {alias.asname for node in block.body for alias in node.names}  # type: ignore[attr-defined]
    assert names == set(spear.__all__) - {"__version__"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sparelet'"):
        _ = spear.Sparelet


def test_dir_lists_the_public_names() -> None:
    assert {"Spearlet", "ObjectStore", "__version__"} <= set(dir(spear))

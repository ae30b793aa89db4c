"""`import spear` costs nothing; its names are there when used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import spear

NATIVE = {"FrameDecoder", "encode", "encode_many", "DELETE", "ObjectStore", "DueQueue", "RunQueue"}
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
    found = modules_after("import spear.cli.main, spear.cli.run, spear.spearlet.node")
    assert not found & {"asyncio", "click", "rich", "msgspec", "uvloop", "json", "tomllib",
                        "dataclasses", "inspect", "pathlib", "threading"}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(spear.__all__) - NATIVE))
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(spear, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sparelet'"):
        _ = spear.Sparelet


def test_dir_lists_the_public_names() -> None:
    assert {"Spearlet", "ObjectStore", "__version__"} <= set(dir(spear))

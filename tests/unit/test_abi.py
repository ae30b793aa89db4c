"""The description of the ABI, the C header and the host say the same.

Rule: nothing is compared with a list kept here; the three are held to each other.
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import wasm_asm as asm
from guest_runs import engine

from spear import __version__
from spear._core.engine import host_imports

ROOT = Path(__file__).resolve().parents[2]
ABI: dict[str, Any] = json.loads((ROOT / "sdk/abi/spear.json").read_text())
IMPORTS: dict[str, dict[str, Any]] = {row["name"]: row for row in ABI["imports"]}
HEADER = (ROOT / "sdk/c/spear.h").read_text()
HOST = {name: row for (module, name), row in host_imports().items() if module == ABI["module"]}
DECLARED = re.compile(r'SPEAR_IMPORT\("(\w+)"\)\s*(\w+) (sp_\w+)\(([^;]*)\);')
FOLLOWERS = {"in": "in_len", "out": "len_inout", "inout": "len_inout"}
FIELDS = {
    "name", "c_name", "section", "summary", "params", "result", "gives", "errors", "blocking",
    "served", "since",
}  # fmt: skip
every_import = pytest.mark.parametrize("name", IMPORTS)


def c_type(text: str) -> str:
    """The wasm type of a C parameter; one that is no number is an address."""
    return "i64" if re.fullmatch(r"int64_t( \w+)?", text) else "i32"


def c_functions() -> dict[str, tuple[str, str, list[str], list[str]]]:
    """What the header declares: name, result, types and whole parameters by import."""
    found = {}
    for name, result, function, inside in DECLARED.findall(HEADER):
        params = [] if inside == "void" else [" ".join(p.split()) for p in inside.split(",")]
        found[name] = (function, result, [c_type(param) for param in params], params)
    return found


C_FUNCTIONS = c_functions()


def signature(row: dict[str, Any]) -> str:
    params = ", ".join(param["type"] for param in row["params"])
    return f"({params}) -> {row['result'] or '()'}"


def test_the_three_have_the_same_imports() -> None:
    assert list(IMPORTS) == list(HOST), "in the order of the ABI"
    assert set(C_FUNCTIONS) == set(IMPORTS)
    assert len(IMPORTS) == len(ABI["imports"])


@every_import
def test_the_host_links_what_is_described(name: str) -> None:
    assert HOST[name] == (signature(IMPORTS[name]), IMPORTS[name]["served"])


@every_import
def test_the_header_declares_what_is_described(name: str) -> None:
    row = IMPORTS[name]
    function, result, types, params = C_FUNCTIONS[name]
    assert function == row["c_name"]
    assert types == [param["type"] for param in row["params"]]
    assert {"void": None, "int64_t": "i64", "int32_t": "i32"}[result] == row["result"]
    for param, described in zip(params, row["params"], strict=True):
        pointed = "*" in param
        assert pointed == (described["kind"] not in ("value", "in_len")), (param, described)
        if described["kind"] == "in":
            assert param.startswith("const ")


@every_import
def test_a_row_is_complete_and_consistent(name: str) -> None:
    row = IMPORTS[name]
    assert set(row) == FIELDS
    assert row["summary"].endswith(".")
    kinds = [param["kind"] for param in row["params"]] + [""]
    for kind, following in itertools.pairwise(kinds):
        assert FOLLOWERS.get(kind, following) == following
    assert [k for k in kinds if k in FOLLOWERS.values()] == [
        FOLLOWERS[k] for k in kinds if k in FOLLOWERS
    ]
    assert row["errors"] == sorted(row["errors"], key=ABI["errno"].__getitem__)
    assert (row["gives"] is None) == (row["result"] is None)
    assert "EFAULT" in row["errors"] or not FOLLOWERS.keys() & set(kinds)
    assert "ENOSPC" in row["errors"] or "len_inout" not in kinds


@every_import
def test_what_is_served_says_since_when(name: str) -> None:
    since = IMPORTS[name]["since"]
    assert (since is not None) == IMPORTS[name]["served"]
    if since is not None:
        assert [int(part) for part in since.split(".")] <= [int(p) for p in __version__.split(".")]


def test_what_may_wait_is_what_the_host_lets_wait() -> None:
    letters = {"i32": "i", "i64": "I", None: ""}
    rows = [
        (ABI["module"], name, "".join(letters[p["type"]] for p in row["params"]),
         letters[row["result"]])
        for name, row in IMPORTS.items()
    ]  # fmt: skip
    module = engine().load(asm.module(rows))
    blocking = {n for n, row in IMPORTS.items() if row["blocking"] and row["served"]}
    answered = set(module.posted)  # these wait for Python, of which the ABI says nothing
    assert set(module.waiting) - answered == blocking - answered
    assert set(module.waiting) >= blocking


def test_the_error_numbers_are_one_table() -> None:
    header = re.findall(r"SPEAR_(E(?!RROR)[A-Z]+) = (\d+),", HEADER)
    assert {name: int(number) for name, number in header} == ABI["errno"]
    native = (ROOT / "spear/_core/abibits.pxd").read_text()
    found = re.findall(r"^    (E[A-Z]+) = (\d+)$", native, re.MULTILINE)
    assert {name: int(number) for name, number in found} == ABI["errno"]


def test_the_header_comments_name_only_errors_that_exist() -> None:
    mentioned = set(re.findall(r"-(E[A-Z]{3,})\b", HEADER))
    assert mentioned <= set(ABI["errno"])


def test_each_import_names_a_section_of_the_abi_that_lists_imports() -> None:
    assert {row["section"] for row in IMPORTS.values()} == {2, 16}

"""What doctor finds, on this machine and in a module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import make_config
from wasm_bytes import HEADER, command

from spear.cli import doctor_machine, doctor_module
from spear.cli.finding import Finding
from spear.errors import InvalidArgument


def verdicts(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.verdict for finding in findings}


def test_this_machine_is_described() -> None:
    found = verdicts(doctor_machine.machine_findings())
    assert found["python"] == found["system"] == found["cores"] == "ok"
    assert {"engine", "executor", "vm.max_map_count", "PAGEMAP_SCAN", "cache"} <= set(found)


def test_more_guests_than_mappings_is_noted(tmp_path: Path) -> None:
    few, many = (make_config(tmp_path, executor__max_parked=n) for n in (1, 20_000))
    assert doctor_machine._maps(few).verdict == "ok"
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    if limit < 120_000:
        assert "sysctl -w vm.max_map_count=240000" in doctor_machine._maps(many).advice


@pytest.mark.parametrize(("mode", "verdict"), [(0o700, "ok"), (0o755, "note"), (0o777, "note")])
def test_a_cache_open_to_others_is_noted(mode: int, verdict: str, tmp_path: Path) -> None:
    cache = tmp_path / "c"
    cache.mkdir()
    cache.chmod(mode)
    assert doctor_machine._cache(make_config(tmp_path, cache_dir=str(cache))).verdict == verdict


def test_a_cache_that_is_no_directory_or_missing_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = make_config(tmp_path, cache_dir=str(tmp_path / "file"))
    assert doctor_machine._cache(file).verdict == "note"
    below = make_config(tmp_path, cache_dir=str(tmp_path / "file" / "c"))
    assert doctor_machine._cache(below).verdict == "note"
    new = make_config(tmp_path, cache_dir=str(tmp_path / "new" / "c"))
    assert "made when first needed" in doctor_machine._cache(new).found
    assert doctor_machine._cache(make_config(tmp_path, cache_dir="off")).found == "off"


def declared(wasm: bytes, tmp_path: Path) -> dict[str, Finding]:
    path = tmp_path / "m.wasm"
    path.write_bytes(wasm)
    return {finding.name: finding for finding in doctor_module.module_findings(str(path))}


def test_a_small_command_is_fine(tmp_path: Path) -> None:
    found = declared(command(), tmp_path)
    assert [found[name].verdict for name in ("module", "shape", "memory", "entry")] == ["ok"] * 4
    assert found["imports"].found == "spear: log"
    assert "names" not in found


def test_a_large_module_gets_the_linker_s_option(tmp_path: Path) -> None:
    shape = declared(command(pages=259), tmp_path)["shape"]
    assert shape.verdict == "note"
    assert "-Wl,-z,stack-size=65536" in shape.advice


def test_a_module_without_entry_and_memory_says_so(tmp_path: Path) -> None:
    found = declared(HEADER, tmp_path)
    assert found["entry"].verdict == "missing"
    assert found["memory"].verdict == found["names"].verdict == "note"


def test_what_is_no_module_is_one_finding(tmp_path: Path) -> None:
    found = declared(b"\0asm\x0d\0\x01\0", tmp_path)
    assert "component" in found["module"].found
    assert list(found) == ["module"]


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="cannot read"):
        doctor_module.module_findings(str(tmp_path))


def test_unknown_imports_are_named_by_the_engine(guest: Callable[[str], Path]) -> None:
    pytest.importorskip("spear._core.engine")
    findings = doctor_module.module_findings(str(guest("unknown_imports")))
    assert "missing" in verdicts(findings).values()

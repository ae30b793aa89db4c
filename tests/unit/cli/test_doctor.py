"""What doctor finds, on this machine and in a module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import make_config
from wasm_bytes import HEADER, command

from spear.cli.verbs.machine import doctor, doctor_machine, doctor_module
from spear.cli.verbs.machine.finding import Finding
from spear.errors import InvalidArgument, NotFound


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


def test_a_reactor_is_told_from_a_command_that_lacks_its_entry(
    guest: Callable[[str], Path],
) -> None:
    entries = [
        {f.name: f for f in doctor_module.module_findings(str(guest(name)))}["entry"]
        for name in ("reactors/reactor", "no_start")
    ]
    assert [entry.verdict for entry in entries] == ["missing"] * 2, "spear run takes neither"
    assert entries[0].found.startswith("no _start, it is a reactor: ")
    assert entries[0].found.endswith(": ready, count, nap, say, spin, boom, leave, mix")
    assert "executor.instantiate" in entries[0].advice
    assert entries[1].found == "no _start; exported functions: other"
    assert "build a command" in entries[1].advice


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


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="cannot read"):
        doctor_module.module_findings(str(tmp_path / "nothing"))


def test_no_two_findings_have_one_name(guest: Callable[[str], Path]) -> None:
    for name in ("hello", "memory_over_limit", "unserved"):
        names = [finding.name for finding in doctor_module.module_findings(str(guest(name)))]
        assert len(names) == len(set(names))


def test_an_entry_with_a_wrong_signature_is_not_called_missing(
    guest: Callable[[str], Path],
) -> None:
    found = doctor_module.module_findings(str(guest("start_signature")))
    entry = next(finding for finding in found if finding.name == "entry")
    assert entry.verdict == "missing"
    assert entry.found == "function '_start' is (i32) -> i32; an entry is () -> ()"


def test_one_function_is_not_functions_and_sizes_have_units(guest: Callable[[str], Path]) -> None:
    found = {f.name: f for f in doctor_module.module_findings(str(guest("memory_over_limit")))}
    assert found["module"].found == "core wasm, 110 bytes, 1 function"
    assert found["memory"].found == "125 MiB at start, 64 MiB allowed"
    assert found["memory"].advice == "spear run --memory 125MiB"


def test_unserved_names_are_counted_and_wrapped(guest: Callable[[str], Path]) -> None:
    findings = doctor_module.module_findings(str(guest("unserved")))
    unserved = next(finding for finding in findings if finding.name == "unserved")
    assert unserved.found.startswith("9 of 11 imports: mic_close, ")
    assert max(map(len, doctor._table(findings).splitlines())) <= 100


def test_a_name_cannot_begin_a_line_of_the_table() -> None:
    said = doctor._table([Finding("imports", "ok", "env: a\nMISSING  module  fake")])
    assert said.count("\n") == 1


def test_a_configuration_asked_for_counts_for_a_module(
    guest: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text('[spearlet]\nlimits.memory = "128MiB"\n')
    path = str(guest("memory_over_limit"))
    found = doctor_module.module_findings(path, str(tmp_path / "c.toml"))
    assert "missing" not in verdicts(found).values()


def test_a_variable_that_is_refused_is_a_finding_with_its_remedy(
    guest: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPEARLET_HTTP_ADDR", "debug")
    for found in (
        doctor_module.module_findings(str(guest("hello"))),
        doctor_machine.machine_findings(),
    ):
        (refused,) = [finding for finding in found if finding.verdict == "refused"]
        assert refused.advice == "unset SPEARLET_HTTP_ADDR"
        assert len(found) > 5


def test_a_file_that_is_no_configuration_is_a_finding_unless_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text("[spearlet")
    monkeypatch.setenv("SPEAR_HOME", str(tmp_path))
    assert verdicts(doctor_machine.machine_findings())["configuration"] == "refused"
    with pytest.raises(InvalidArgument, match="is not TOML"):
        doctor_machine.machine_findings(str(tmp_path / "config.toml"))

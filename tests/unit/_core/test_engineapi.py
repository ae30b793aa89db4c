"""Which engine library is taken: the version gate, and what is said where there is none."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from guest_runs import python

from spear._core import engineapi
from spear.errors import EngineUnavailable

PLATFORM = f"{sys.platform}-{os.uname().machine}"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place to install packages in, looked at instead of the real one."""

    def find_spec(name: str) -> SimpleNamespace | None:
        found = tmp_path / name / "__init__.py"
        return SimpleNamespace(origin=str(found)) if found.exists() else None

    monkeypatch.setattr(engineapi, "PathFinder", SimpleNamespace(find_spec=find_spec))
    monkeypatch.setattr(engineapi, "_found", None)
    return tmp_path


def install(site: Path, version: str | None, *, library: bytes | None = b"") -> Path:
    package = site / "wasmtime"
    (package / PLATFORM).mkdir(parents=True)
    (package / "__init__.py").touch()
    if version is not None:
        (site / f"wasmtime-{version}.dist-info").mkdir()
    if library is not None:
        (package / PLATFORM / "_libwasmtime.so").write_bytes(library)
    return package


def test_the_installed_release_is_found_without_importing_the_package():
    probe = (
        "import sys; from spear._core import engineapi; version, path = engineapi.library();"
        "assert path.endswith('_libwasmtime.so'), path; engineapi.check_version(version);"
        "assert 'wasmtime' not in sys.modules"
    )
    done = python(probe)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_range_is_what_the_package_asks_for():
    assert engineapi.VERSION_FLOOR == (50, 0, 1)
    assert engineapi.VERSION_CEILING == (51, 0, 0)
    assert engineapi.VERSION_FLOOR not in engineapi.REFUSED


@pytest.mark.parametrize("version", ["50.0.1", "50.0.2", "50.1.0", "50.99.99"])
def test_releases_in_the_range_are_taken(version: str):
    engineapi.check_version(version)


@pytest.mark.parametrize("version", ["1.0.0", "36.0.19", "49.0.4", "50.0.0", "50"])
def test_older_releases_are_refused_with_the_range(version: str):
    with pytest.raises(EngineUnavailable) as caught:
        engineapi.check_version(version)
    for part in (f"wasmtime {version}", "50.0.1", "51.0.0", "pip install"):
        assert part in str(caught.value)


@pytest.mark.parametrize("version", ["51.0.0", "51.0.1", "60.0.0", "500.0.1"])
def test_releases_that_were_not_tried_are_refused(version: str):
    with pytest.raises(EngineUnavailable, match="up to, not including, 51"):
        engineapi.check_version(version)


@pytest.mark.parametrize(
    "version", ["", "dev", "50.0.1rc1", "50.0.x", "50.0.1+local", "50..1", "50.0.2.dev1"]
)
def test_what_is_not_a_release_is_refused(version: str):
    with pytest.raises(EngineUnavailable, match="not a release"):
        engineapi.check_version(version)


def test_a_refused_release_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(engineapi.REFUSED, (50, 0, 7), "CVE-0000-1")
    with pytest.raises(EngineUnavailable, match=r"50\.0\.7 is refused: CVE-0000-1; install"):
        engineapi.check_version("50.0.7")


def test_an_error_of_the_gate_is_an_import_error():
    assert issubclass(EngineUnavailable, ImportError)


def test_a_missing_package_gives_the_remedy(installed: Path):
    with pytest.raises(EngineUnavailable, match=r"is not installed; install .*pip install"):
        engineapi.library()


def test_a_package_without_metadata_is_refused(installed: Path):
    install(installed, None)
    with pytest.raises(EngineUnavailable, match="has no metadata"):
        engineapi.library()


def test_a_package_of_another_release_is_refused(installed: Path):
    install(installed, "49.0.4")
    with pytest.raises(EngineUnavailable, match=r"wasmtime 49\.0\.4 is installed"):
        engineapi.library()


def test_a_package_without_a_library_for_this_machine_is_refused(installed: Path):
    install(installed, "50.0.1", library=None)
    with pytest.raises(EngineUnavailable, match=f"no library for {sys.platform} on .*missing"):
        engineapi.library()


def test_a_package_found_is_remembered(installed: Path):
    package = install(installed, "50.0.3")
    found = engineapi.library()
    assert found == ("50.0.3", str(package / PLATFORM / "_libwasmtime.so"))
    shutil.rmtree(package)
    assert engineapi.library() == found


# ---- what the native modules say at their import

IMPORT = """
import sys
sys.path.insert(0, {site!r})
try:
    import spear._core.guest
except ImportError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("version", "library", "said"),
    [
        ("49.0.0", b"", "wasmtime 49.0.0 is installed, this build takes 50.0.1 up to"),
        ("50.0.1", b"", "the library of wasmtime 50.0.1"),
        ("50.0.1", b"not a library" * 100, "invalid ELF header"),
    ],
)
def test_an_import_with_a_wrong_engine_says_so(
    tmp_path: Path, version: str, library: bytes, said: str
):
    install(tmp_path, version, library=library)
    done = python(IMPORT.format(site=str(tmp_path)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("EngineUnavailable ")
    assert said in done.stdout


def test_a_library_without_a_function_is_refused_by_the_functions_name(tmp_path: Path):
    """Any other shared library will do: it lacks the first function that is asked for."""
    install(tmp_path, "50.0.1", library=Path(engineapi.__file__).read_bytes())
    done = python(IMPORT.format(site=str(tmp_path)))
    assert "has no function 'wasm_config_new'" in done.stdout, (done.stdout, done.stderr)

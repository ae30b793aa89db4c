"""The cache of compiled modules: it saves time or gives a warning, and never a wrong guest."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from guest_runs import ROOT, ended, engine, executor, guest_bytes

from spear._core import aotcache
from spear._core.engine import Engine, Module

STRANGER = 12345
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def load(folder: Path, name: str = "hello") -> Module:
    return engine().load(guest_bytes(name), cache_dir=str(folder))


def stored(folder: Path) -> Path:
    """The one entry, made by a first load."""
    assert load(folder).source == "compiled"
    (path,) = folder.iterdir()
    return path


def works(module: Module) -> bool:
    with executor(workers=1) as node:
        return ended(node.start(module)).status == "completed"


def with_sum(code: bytes) -> bytes:
    return code + hashlib.sha256(code).digest()


# ---- stored and found


def test_a_module_is_compiled_once(folder: Path):
    first, second = load(folder), load(folder)
    assert (first.source, second.source) == ("compiled", "cache")
    assert (first.warning, second.warning) == ("", "")
    assert works(first)
    assert works(second)


def test_without_a_folder_nothing_is_cached(folder: Path):
    assert engine().load(guest_bytes("hello")).source == "compiled"
    assert engine().load(guest_bytes("hello")).source == "compiled"
    assert not folder.exists()


def test_folder_and_entry_are_for_their_owner_only(folder: Path):
    path = stored(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.suffix == ".cwasm"
    assert path.name.startswith(load(folder).digest)


def test_each_module_has_its_entry(folder: Path):
    for name in ("hello", "answer", "noop"):
        load(folder, name)
    assert len(list(folder.iterdir())) == 3
    assert {load(folder, name).source for name in ("hello", "answer", "noop")} == {"cache"}


def test_an_entrys_name_depends_on_module_version_and_settings():
    names = {
        aotcache.entry_name(digest, version, settings)
        for digest in ("aa", "bb") for version in ("50.0.1", "50.0.2") for settings in ("x", "y")
    }  # fmt: skip
    assert len(names) == 8


def test_an_entry_is_found_by_another_engine(folder: Path):
    stored(folder)
    assert Engine(slots=4).load(guest_bytes("hello"), cache_dir=str(folder)).source == "cache"


def test_folders_are_made_with_those_above(tmp_path: Path):
    assert load(tmp_path / "a" / "b" / "c").warning == ""
    assert load(tmp_path / "a" / "b" / "c").source == "cache"


def test_the_stored_entry_is_code_and_its_sum(folder: Path):
    data = stored(folder).read_bytes()
    assert data == with_sum(data[:-32])


# ---- damaged


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "one byte": lambda data: data[:1],
    "only the sum of nothing": lambda data: with_sum(b""),
    "cut by a byte": lambda data: data[:-1],
    "cut in the middle": lambda data: data[: len(data) // 2],
    "a byte longer": lambda data: data + b"\0",
    "a byte of the head": lambda data: flip(data, 0),
    "a byte of the code": lambda data: flip(data, len(data) // 2),
    "last byte of the code": lambda data: flip(data, len(data) - 33),
    "first byte of the sum": lambda data: flip(data, len(data) - 32),
    "last byte of the sum": lambda data: flip(data, len(data) - 1),
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_compiled_again_and_replaced(folder: Path, damage: str):
    path = stored(folder)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    module = load(folder)
    assert module.source == "compiled"
    assert "damaged" in module.warning
    assert str(path) in module.warning
    assert works(module)
    assert (load(folder).source, load(folder).warning) == ("cache", "")


FOREIGN: dict[str, Callable[[bytes], bytes]] = {
    "another version": lambda code: code.replace(b"\x0250\x18", b"\x0249\x18"),
    "another machine": lambda code: code.replace(b"\x18x86_64-", b"\x18x86_65-"),
    "not code": lambda code: b"\x7fELF" + bytes(500),
    "wasm": lambda code: guest_bytes("hello"),
    "nothing but a byte": lambda code: b"\0",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_an_entry_of_another_engine_is_refused_by_the_engine(folder: Path, kind: str):
    path = stored(folder)
    code = path.read_bytes()[:-32]
    foreign = FOREIGN[kind](code)
    assert foreign != code
    path.write_bytes(with_sum(foreign))
    module = load(folder)
    assert module.source == "compiled"
    assert "was not taken" in module.warning
    assert str(path) in module.warning
    assert works(module)
    assert load(folder).source == "cache"


def test_entries_of_other_settings_are_not_looked_at(folder: Path):
    path = stored(folder)
    digest, _, rest = path.name.partition("-")
    path.rename(path.with_name(f"{digest}-{'0' * 16}.cwasm"))
    assert rest
    module = load(folder)
    assert (module.source, module.warning) == ("compiled", "")


# ---- not ours alone


@as_root
def test_an_entry_of_someone_else_is_not_used(folder: Path):
    path = stored(folder)
    os.chown(path, STRANGER, STRANGER)
    module = load(folder)
    assert module.source == "compiled"
    assert f"belongs to uid {STRANGER}, not to uid {os.geteuid()}" in module.warning
    assert load(folder).source == "cache", "our own entry took its place"


@as_root
def test_a_folder_of_someone_else_is_not_used(folder: Path):
    stored(folder)
    os.chown(folder, STRANGER, STRANGER)
    module = load(folder)
    assert module.source == "compiled"
    assert f"belongs to uid {STRANGER}" in module.warning
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("mode", [0o660, 0o606, 0o666])
def test_an_entry_that_others_may_write_is_not_used(folder: Path, mode: int):
    path = stored(folder)
    path.chmod(mode)
    module = load(folder)
    assert module.source == "compiled"
    assert f"can be written by others (mode {mode:04o})" in module.warning
    assert path.stat().st_mode & 0o777 == 0o600, "replaced by an entry of our own"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_may_write_is_not_used(folder: Path, mode: int):
    stored(folder)
    folder.chmod(mode)
    module = load(folder)
    assert module.source == "compiled"
    assert f"can be written by others (mode {mode:04o})" in module.warning


def test_an_entry_that_others_may_read_is_used(folder: Path):
    stored(folder).chmod(0o644)
    folder.chmod(0o755)
    assert (load(folder).source, load(folder).warning) == ("cache", "")


def test_a_symlink_in_place_of_an_entry_is_not_followed(folder: Path, tmp_path: Path):
    path = stored(folder)
    target = tmp_path / "elsewhere"
    path.rename(target)
    path.symlink_to(target)
    module = load(folder)
    assert module.source == "compiled"
    assert "cannot be read" in module.warning
    assert not path.is_symlink()
    assert target.exists()


def test_a_folder_in_place_of_an_entry_gives_a_warning(folder: Path):
    path = stored(folder)
    path.unlink()
    path.mkdir()
    module = load(folder)
    assert module.source == "compiled"
    assert str(path) in module.warning or str(folder) in module.warning
    assert works(module)


def test_a_pipe_in_place_of_an_entry_does_not_hang(folder: Path):
    path = stored(folder)
    path.unlink()
    os.mkfifo(path)
    done = subprocess.run(
        [sys.executable, "-c", LOAD_ONCE, str(folder)], capture_output=True, text=True, timeout=20,
        env=child_environment(), check=False,
    )  # fmt: skip
    assert done.stdout.split()[0] == "compiled", done.stderr


# ---- not writable


def test_a_file_in_place_of_the_folder_gives_a_warning(tmp_path: Path):
    place = tmp_path / "file"
    place.write_bytes(b"")
    module = load(place)
    assert module.source == "compiled"
    assert "cannot be made" in module.warning or "not a folder" in module.warning
    assert works(module)


def test_a_folder_below_a_file_gives_a_warning(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    module = load(tmp_path / "file" / "cache")
    assert module.source == "compiled"
    assert "Not a directory" in module.warning


LOAD_ONCE = """
import sys
from guest_runs import guest_bytes
from spear._core.engine import Engine
module = Engine(slots=4).load(guest_bytes("hello"), cache_dir=sys.argv[1])
print(module.source, module.warning)
"""


def child_environment() -> dict[str, str]:
    paths = [os.environ.get("PYTHONPATH", ""), str(ROOT / "tests"), str(ROOT)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def test_a_folder_that_cannot_be_written_gives_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """Root may write anywhere, so the system's refusal is put in its place."""

    def refuse(path: str, *rest: object, **more: object) -> int:
        if path.endswith(".part"):
            raise PermissionError(13, "Permission denied", path)
        return os_open(path, *rest, **more)  # type: ignore[arg-type]

    os_open = os.open
    monkeypatch.setattr(aotcache.os, "open", refuse)
    module = load(folder)
    assert module.source == "compiled"
    assert f"was not cached in {folder}: Permission denied" in module.warning
    assert list(folder.iterdir()) == []
    assert works(module)


def test_a_full_disk_leaves_no_part_behind(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(aotcache.os, "replace", refuse)
    assert "No space left" in load(folder).warning
    assert list(folder.iterdir()) == []


# ---- at once


def test_many_threads_share_an_entry(folder: Path):
    barrier, loaded = threading.Barrier(8), []

    def work() -> None:
        barrier.wait()
        loaded.append(load(folder, "answer"))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [module.warning for module in loaded] == [""] * 8
    assert len(list(folder.iterdir())) == 1
    assert load(folder, "answer").source == "cache"


def test_many_processes_share_an_entry(folder: Path):
    command = [sys.executable, "-c", LOAD_ONCE, str(folder)]
    pipe = subprocess.PIPE
    children = [
        subprocess.Popen(command, text=True, env=child_environment(), stdout=pipe, stderr=pipe)
        for _ in range(4)
    ]
    said = [child.communicate(timeout=60) for child in children]
    assert {out.strip() for out, _ in said} <= {"compiled", "cache"}, said
    assert len(list(folder.iterdir())) == 1
    assert load(folder).source == "cache"


def test_what_was_checked_is_what_is_used_whatever_is_renamed(folder: Path):
    path = stored(folder)
    genuine = path.read_bytes()
    handle, warning = aotcache.find(str(folder), path.name)
    assert handle is not None
    assert warning == ""
    try:
        folder.rename(folder.with_name("aside"))
        folder.mkdir()
        path.write_bytes(with_sum(b"another entry"))
        with open(f"/proc/self/fd/{handle}", "rb") as file:
            assert file.read() == genuine
    finally:
        os.close(handle)

"""Compiled modules on disk: found by content, trusted only where nobody else can write.

The rule: an entry is the engine's code followed by the code's sha256, written to a temporary name
and renamed, so a reader sees a whole entry or none. A folder or file that is not ours, or that
others may write, is never read; whatever is wrong gives a warning and the module is compiled, so
the cache can only save time.
"""

from __future__ import annotations

import os
import stat
from _thread import get_ident

_SUM_BYTES = 32


def _sha256(data: bytes) -> bytes:
    import hashlib

    return hashlib.sha256(data, usedforsecurity=False).digest()


def digest_of(wasm: bytes) -> str:
    """Sha256 of a module, hex: its name everywhere."""
    return _sha256(wasm).hex()


def entry_name(digest: str, engine_version: str, settings: str) -> str:
    """The file's name for one module, engine and settings."""
    key = _sha256(f"{engine_version} {os.uname().machine} {settings}".encode()).hex()[:16]
    return f"{digest}-{key}.cwasm"


def _untrusted(path: str, found: os.stat_result) -> str:
    """Why a file or folder is not ours alone, or ""."""
    if found.st_uid != os.geteuid():
        return f"{path} belongs to uid {found.st_uid}, not to uid {os.geteuid()}"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path} can be written by others (mode {stat.S_IMODE(found.st_mode):04o})"
    return ""


def _check_folder(folder: str) -> str:
    """Makes the folder if it is missing; why it cannot be used, or ""."""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        found = os.stat(folder)
    except OSError as error:
        return f"the cache folder {folder} cannot be made: {error.strerror}"
    if not stat.S_ISDIR(found.st_mode):
        return f"the cache folder {folder} is not a folder"
    reason = _untrusted(folder, found)
    return f"the cache is not used: {reason}" if reason else ""


def is_usable(folder: str) -> bool:
    """Whether entries may be read from and written to `folder`."""
    return not _check_folder(folder)


def find(folder: str, name: str) -> tuple[int | None, str]:
    """(descriptor of a whole and trusted entry, or None; warning, or ""). The caller closes it.

    What is checked is what is used: the entry is opened below the folder that was looked at, and
    read and mapped through the one descriptor, whatever is renamed meanwhile.
    """
    reason = _check_folder(folder)
    if reason:
        return None, reason
    path = os.path.join(folder, name)
    try:
        handle = _open_entry(folder, name)
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"the cached code {path} cannot be read: {error.strerror}"
    reason = _check_entry(path, handle)
    if reason:
        os.close(handle)
        return None, reason
    return handle, ""


def _open_entry(folder: str, name: str) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    below = os.open(folder, flags | os.O_DIRECTORY)
    try:
        if _untrusted(folder, os.fstat(below)):
            raise FileNotFoundError(folder)
        return os.open(name, flags | os.O_NONBLOCK, dir_fd=below)
    finally:
        os.close(below)


def _check_entry(path: str, handle: int) -> str:
    """Why an open entry is not used, or ""."""
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        return f"the cached code is not used: {path} is no file"
    reason = _untrusted(path, found)
    if reason:
        return f"the cached code is not used: {reason}"
    try:
        data = _read_all(handle)
    except OSError as error:
        return f"the cached code {path} cannot be read: {error.strerror}"
    if len(data) <= _SUM_BYTES or _sha256(data[:-_SUM_BYTES]) != data[-_SUM_BYTES:]:
        return f"the cached code {path} is damaged; the module was compiled again"
    return ""


def _read_all(handle: int) -> bytes:
    with open(handle, "rb", closefd=False) as file:
        return file.read()


def store(folder: str, name: str, code: bytes) -> str:
    """Writes an entry; why it could not, or ""."""
    path = os.path.join(folder, name)
    temporary = f"{path}.{os.getpid()}-{get_ident()}.part"
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(handle, "wb") as file:
            file.write(code)
            file.write(_sha256(code))
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        return f"the compiled code was not cached in {folder}: {error.strerror}"
    return ""


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return

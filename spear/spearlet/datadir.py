"""The data directory: everything a daemon keeps, and that only one daemon keeps there.

The rule: its owner alone can change what is in it, and what is made in it is closed to others. The
lock is the kernel's, so it goes with the process that holds it, however that ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from spear.errors import InvalidArgument, KvFull, KvLocked, PermissionDenied, SpearError
from spear.units import is_utf8

LOCK_NAME = "daemon.lock"
UMASK = 0o077  # of a process that makes files there


class DataDir:
    """A data directory that is ours until `close`."""

    def __init__(self, path: str, lock_fd: int) -> None:
        self.path, self._lock_fd = path, lock_fd

    def close(self) -> None:
        """Lets another daemon have it."""
        os.close(self._lock_fd)


def open_data_dir(path: str) -> DataDir:
    """Makes it (mode 0700) where it is not there, and takes it. Raises KvLocked, PermissionDenied,
    InvalidArgument, KvFull."""
    if not is_utf8(path):
        raise InvalidArgument(
            f"the data directory {path!r} is not UTF-8, and the store takes no other: set "
            "storage.data_dir (--storage-path) to another one"
        )
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        _check(path, os.stat(path))
        return DataDir(path, _lock(os.path.join(path, LOCK_NAME), path))
    except OSError as error:
        raise _unusable(path, error) from error


def _check(path: str, found: os.stat_result) -> None:
    uid = os.geteuid()
    if found.st_uid != uid:
        raise PermissionDenied(
            f"the data directory {path!r} belongs to user {found.st_uid}, this is user {uid}: "
            "set storage.data_dir (--storage-path) to a directory of your own"
        )
    if found.st_mode & 0o022:
        raise PermissionDenied(
            f"others may write in the data directory {path!r} (mode "
            f"{stat.S_IMODE(found.st_mode):04o}): chmod 700 it"
        )


def _lock(name: str, path: str) -> int:
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError as error:
        holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        who = f"the daemon with pid {holder}" if holder.isdigit() else "another daemon"
        raise KvLocked(
            f"the data directory {path!r} is in use by {who}: stop it, or set storage.data_dir "
            "(--storage-path) to another one"
        ) from error
    except BaseException:
        os.close(fd)
        raise
    return fd


def _unusable(path: str, error: OSError) -> SpearError:
    where = f"the data directory {path!r}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return KvFull(f"{where}: {error.strerror}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionDenied(f"cannot write in {where}: {error.strerror}")
    return InvalidArgument(f"cannot use {where}: {error.strerror}")

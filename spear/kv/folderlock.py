"""The lock of a store's folder: RocksDB takes its own only while it opens the store, and what is
done before that must not be done to another's.

The rule: it ends with who took it. It is given up at `release`, with the last reference, and with
the process, also where children were forked meanwhile: they have the descriptor too, and close it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from weakref import WeakSet

from spear.errors import KvError
from spear.kv.engine import locked, translated

# What file systems say that lock no folder, NFS among them, or lock nothing.
NO_LOCKS = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class FolderLock:
    """Raises KvLocked where another one has it, KvError."""

    def __init__(self, path: str) -> None:
        self._folder = -1
        try:
            self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            _held.add(self)
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.forget()
            raise _refused(path, error) from error

    def release(self) -> None:
        """For forked children as well. Releasing again does nothing."""
        if self._folder >= 0:
            with contextlib.suppress(OSError):
                fcntl.flock(self._folder, fcntl.LOCK_UN)
            self.forget()

    def forget(self) -> None:
        """Closes the descriptor alone: in a child the parent has the lock still."""
        folder, self._folder = self._folder, -1
        if folder >= 0:
            os.close(folder)

    def __del__(self) -> None:
        self.release()


_held: WeakSet[FolderLock] = WeakSet()


def _refused(path: str, error: OSError) -> KvError:
    if isinstance(error, BlockingIOError):
        return locked(path, ours=False)
    if error.errno in NO_LOCKS:
        return KvError(
            f"the file system of {path!r} cannot lock the metadata store's folder "
            f"({error.strerror}): keep the data directory on a disk of this machine"
        )
    return translated(error, f"locking {path!r}")


def _leave_to_parent() -> None:
    for lock in tuple(_held):
        lock.forget()


os.register_at_fork(after_in_child=_leave_to_parent)

"""The node's token: who shows it is let in over TCP.

The rule: 256 random bits in hex, made at the first start; they lie in a file that only its owner
can read, and a file that others can read is refused. Tokens are compared in constant time.
"""

from __future__ import annotations

import hmac
import os
import stat

from spear.clock import Clock
from spear.errors import InvalidArgument, NotFound, PermissionDenied

_BYTES = 32
_CHARACTERS_MIN, _CHARACTERS_MAX = 32, 4096
_SCHEME = "bearer "


class Token:
    """A secret text that tells whether another is the same; it shows itself nowhere."""

    __slots__ = ("_secret",)

    def __init__(self, text: str) -> None:
        self._secret = text.encode()

    def matches(self, shown: str) -> bool:
        """Whether `shown` is this token; how long it takes says nothing about where they differ."""
        return hmac.compare_digest(self._secret, shown.encode("utf-8", "surrogatepass"))

    def matches_bearer(self, header: str) -> bool:
        """Whether the value of an `authorization` header (`Bearer TOKEN`) shows this token."""
        scheme, shown = header[: len(_SCHEME)], header[len(_SCHEME) :]
        return scheme.lower() == _SCHEME and self.matches(shown)


def open_token(path: str, clock: Clock) -> str:
    """The token in the file, which is made if it is not there. Raises as `read_token`, and
    InvalidArgument where the file cannot be made."""
    try:
        return read_token(path)
    except NotFound:
        _make(path, clock)
        return read_token(path)


def read_token(path: str) -> str:
    """The token in the file. Raises NotFound, PermissionDenied (others can read it, or we cannot),
    InvalidArgument (what it holds is no token)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFound(f"no token file {path!r}: the daemon makes it at its first start") from None
    except OSError as error:
        raise PermissionDenied(f"cannot read the token file {path!r}: {error.strerror}") from None
    try:
        _check_file(path, os.fstat(fd))
        text = os.read(fd, _CHARACTERS_MAX + 2).decode("ascii", "replace").strip()
    finally:
        os.close(fd)
    if not _CHARACTERS_MIN <= len(text) <= _CHARACTERS_MAX or not _is_token(text):
        raise InvalidArgument(
            f"the token file {path!r} holds no token: expected one word of {_CHARACTERS_MIN} to "
            f"{_CHARACTERS_MAX} ASCII characters; delete it and the daemon makes another"
        )
    return text


def _is_token(text: str) -> bool:
    return all("!" <= character <= "~" for character in text)


def _check_file(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise InvalidArgument(f"the token file {path!r} is not a regular file")
    if found.st_mode & 0o077:
        raise PermissionDenied(
            f"the token file {path!r} is open to others (mode {found.st_mode & 0o777:04o}): "
            f"chmod 600 it, and delete it if somebody may have read it"
        )
    if found.st_uid not in (os.geteuid(), 0):
        raise PermissionDenied(f"the token file {path!r} belongs to user {found.st_uid}, not to us")


def _make(path: str, clock: Clock) -> None:
    """Whole or not at all; of two that make it at once both use the one that was first."""
    partial = f"{path}.{clock.random_bytes(8).hex()}"
    try:
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, clock.random_bytes(_BYTES).hex().encode() + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)
        try:
            os.link(partial, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(partial)
    except OSError as error:
        raise InvalidArgument(f"cannot make the token file {path!r}: {error.strerror}") from error

"""Seals rows; see sealing.pyx for the rules."""

from collections.abc import Callable, Mapping

def seal(key: bytes, value: bytes) -> bytes:
    """The value, and behind it the CRC-32 of key and value, little endian."""

def put_all(
    changes: Mapping[bytes, bytes | None],
    put: Callable[[bytes, bytes], object],
    delete: Callable[[bytes], object],
) -> None:
    """Of each change of a dictionary: `put` with the sealed value, `delete` where it is None."""

"""A row as it is stored: the value, then four bytes by which damage and mix-ups are noticed.

The rule: every value read from a disk passes `unseal`. The four bytes are the CRC-32 of key and
value, little endian; the CRC of a text with its CRC behind it is always RESIDUE, so one pass over
the stored bytes checks them without taking them apart.
"""

from __future__ import annotations

from zlib import crc32

from spear._core.sealing import seal as seal
from spear.errors import KvDamaged
from spear.kv.batch import shown

RESIDUE = 0x2144DF1C
SEAL_BYTES = 4


def unseal(key: bytes, stored: bytes) -> bytes:
    """The value. Raises KvDamaged."""
    if crc32(stored, crc32(key)) != RESIDUE or len(stored) < SEAL_BYTES:
        raise KvDamaged(
            f"{shown(key)} was asked for, and its {len(stored)} stored bytes do not match their "
            "checksum: restore a backup, or give up what is lost by `spear node accept-loss`"
        )
    return stored[:-SEAL_BYTES]


def prefix_end(prefix: bytes) -> bytes | None:
    """The least key above all that begin with the prefix; None where there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else None

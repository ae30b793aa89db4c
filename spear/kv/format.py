"""The version of the layout on disk: its row, the steps from older ones, the refusal of newer ones.

The rule: the row FORMAT is read and written alike in every version. Nothing is changed before it is
known that the version can be read; a step can be cut short at any point and goes on when the store
is opened again.

| version | layout |
|---|---|
| 0 | bare values, no row FORMAT |
| 1 | values with their checksum (`rows`), the row FORMAT, the file of `watermark` |
| 2 | of the node's rows, those of executions that are held have a time index of their own |
| 3 | of the node's rows, those of executions by time say how many bytes each takes |
"""

from __future__ import annotations

from collections.abc import Callable

from rocksdict import Rdict, WriteBatch

from spear.errors import KvDamaged, KvFormat
from spear.kv.engine import translated, unchecked
from spear.kv.rows import seal, unseal

CURRENT = 3
FORMAT = b"\0format"
PROGRESS = b"\0migrated"  # the last key that a step has done
STEP_ROWS = 1000


def settle(db: Rdict, path: str, marked: bool, accept_loss: bool = False) -> None:
    """Brings the store to CURRENT. `marked`: it has a watermark, so the row was there once; where
    loss is accepted and the row is lost or damaged, the version is taken to be CURRENT. Raises
    KvFormat, KvDamaged; whatever rocksdict raises passes."""
    try:
        found = _left(db, path) if accept_loss else _found(db, path)
    except KvDamaged:
        if not accept_loss:
            raise
        found, marked = None, True
    if found is None and marked and not accept_loss:
        raise KvDamaged(
            f"the metadata store {path!r} has lost its format row: restore a backup, or give up "
            "what is lost by `spear node accept-loss`"
        )
    if found is None and marked:
        _put_format(db)
        found = CURRENT
    if found is not None and found > CURRENT:
        raise KvFormat(
            f"the metadata store {path!r} has format {found}, this SPEAR knows up to {CURRENT}: "
            "use the newer SPEAR, or restore a backup"
        )
    for version in range(found or 0, CURRENT):
        STEPS[version](db)
    db.flush_wal(True)


def _found(db: Rdict, path: str) -> int | None:
    return _version(db.get(FORMAT), path)


def _left(db: Rdict, path: str) -> int | None:
    """Also of a damaged block: the row's own checksum counts."""
    try:
        stored = db.get(FORMAT, read_opt=unchecked())
    except Exception as error:
        raise translated(error, f"reading the format of {path!r}") from error
    return _version(stored, path)


def _version(stored: bytes | None, path: str) -> int | None:
    if stored is None:
        return None
    text = unseal(FORMAT, stored)
    if not text.isdigit() or len(text) > 9:
        raise KvDamaged(f"the format of {path!r} reads {text[:20]!r}: restore a backup")
    return int(text)


def _put_format(db: Rdict) -> None:
    """All of a step whose version reads the rows of the one before as they are."""
    db.put(FORMAT, seal(FORMAT, b"%d" % CURRENT))


def from_bare_values(db: Rdict) -> None:
    """0 to 1, a batch at a time; each batch takes along how far it has come."""
    stored = db.get(PROGRESS)
    last = unseal(PROGRESS, stored) if stored is not None else b"\0\xff"
    while rows := _bare_rows(db, last):
        batch = WriteBatch(raw_mode=True)
        for key, value in rows:
            batch.put(key, seal(key, value))
        last = rows[-1][0]
        batch.put(PROGRESS, seal(PROGRESS, last))
        db.write(batch)
    batch = WriteBatch(raw_mode=True)
    batch.delete(PROGRESS)
    batch.put(FORMAT, seal(FORMAT, b"1"))
    db.write(batch)


STEPS: dict[int, Callable[[Rdict], None]] = {0: from_bare_values, 1: _put_format, 2: _put_format}


def _bare_rows(db: Rdict, after: bytes) -> list[tuple[bytes, bytes]]:
    rows: list[tuple[bytes, bytes]] = []
    cursor = db.iter()
    cursor.seek(after + b"\0")
    while cursor.valid() and len(rows) < STEP_ROWS:
        rows.append((cursor.key(), cursor.value()))
        cursor.next()
    cursor.status()
    return rows

"""Brings a backup back as a store of its own.

The rule: a store is restored whole or not at all, and never over another one. It is made beside its
final folder and gets the name last; `archive` writes and verifies the file, every store's `backup`
makes one.
"""

from __future__ import annotations

import os
import shutil
import tempfile

from spear.errors import AlreadyExists, KvError
from spear.kv.archive import ArchiveInfo, read_archive, sync_folder, verify
from spear.kv.batch import Batch
from spear.kv.engine import private_folder
from spear.kv.rocks import open_rocks

BATCH_ROWS, BATCH_BYTES = 1000, 4 << 20


async def restore(archive: str, folder: str) -> ArchiveInfo:
    """Makes the store of this archive in `folder`, which is missing or empty. Sequence numbers
    begin anew. Blocks the loop for as long as the rows take.

    Raises NotFound, KvDamaged, KvFormat (of the archive), AlreadyExists, KvFull, KvError.
    """
    info = verify(archive)
    target = os.path.realpath(folder)
    if os.path.lexists(target) and (not os.path.isdir(target) or os.listdir(target)):
        raise AlreadyExists(f"{folder!r} is not an empty folder: restore into another")
    name = os.path.basename(target)
    beside = private_folder(os.path.dirname(target))
    try:
        made = tempfile.mkdtemp(prefix=f"{name}.restore-", dir=beside)
    except OSError as error:
        raise KvError(f"cannot make a folder beside {folder!r}: {error.strerror}") from error
    try:
        await _fill(archive, made)
        os.rename(made, target)  # over an empty folder too
        sync_folder(beside)
    except OSError as error:
        raise KvError(f"cannot restore into {folder!r}: {error.strerror}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return info


async def _fill(archive: str, folder: str) -> None:
    kv = open_rocks(folder)
    try:
        batch = Batch()
        for key, value in read_archive(archive):
            batch.put(key, value)
            if len(batch.changes) >= BATCH_ROWS or batch.bytes >= BATCH_BYTES:
                await kv.commit(batch)
                batch = Batch()
        await kv.commit(batch)
    finally:
        await kv.close()

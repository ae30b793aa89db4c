"""What an operator asks of a node's data: to collect garbage, to be copied, to be brought back.

The rule: a backup is consistent and is checked as it is made: the metadata as of one moment, and
every file that it names. Logs and the node's secrets are not part of it. A restore makes a whole
data directory or none.
"""

from __future__ import annotations

import asyncio
import os
import shutil

from spear.errors import AlreadyExists, InvalidArgument, KvError, NotFound
from spear.spearlet.datadir import UMASK, open_data_dir
from spear.spearlet.node import rows
from spear.spearlet.node.files import Files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.kv.salvage import Salvaged
    from spear.spearlet.node.executions import Executions
    from spear.spearlet.node.history import History
    from spear.spearlet.node.objects import NodeObjects
    from spear.spearlet.node.parts import Parts

_ARCHIVE = "metadata.archive"


class Upkeep:
    """Of one node, on its loop."""

    def __init__(
        self, parts: Parts, history: History, objects: NodeObjects, executions: Executions
    ) -> None:
        self._parts, self._history = parts, history
        self._objects, self._executions = objects, executions
        self._copying = False

    async def collect_garbage(self) -> dict[str, int]:
        """Forgets executions beyond the limits of the history, removes log files beyond theirs and
        files that nothing names; how many of each."""
        kv, files = self._parts.kv, self._parts.files
        forgotten = await self._history.trim()
        logs = await self._parts.logs.sweep()
        inputs = {work.input_digest for work in self._executions.works()}
        return {
            "executions": forgotten,
            "log_files": logs,
            "artifacts": await files.artifacts.sweep(
                lambda digest: kv.get(rows.artifact_key(digest)) is not None
            ),
            "inputs": await files.inputs.sweep(lambda digest: digest in inputs),
            "objects": await files.objects.sweep(self._objects.needs),
            "results": await files.results.sweep(
                lambda digest: bool(kv.scan(rows.result_prefix(digest), limit=1))
            ),
        }

    async def backup(self, folder: str) -> dict[str, int]:
        """Copies what the node keeps into a new folder, while it works; how much of each. Raises
        AlreadyExists, InvalidArgument, KvFull, KvError."""
        if not os.path.isabs(folder):
            raise InvalidArgument(f"{folder!r} is no absolute path on the node")
        if self._copying:
            raise AlreadyExists("another backup is being made")
        self._copying = True
        try:
            return await self._backup(folder)
        finally:
            self._copying = False
            for kind in self._parts.files.each().values():
                kind.frozen = False

    async def _backup(self, folder: str) -> dict[str, int]:
        try:
            os.makedirs(folder, mode=0o700)
        except FileExistsError:
            raise AlreadyExists(f"{folder!r} exists: back up into a new folder") from None
        except OSError as error:
            raise KvError(f"cannot make {folder!r}: {error.strerror}") from error
        kinds = self._parts.files.each()
        for kind in kinds.values():
            kind.frozen = True  # what the metadata names is there until it has been copied
        try:
            await self._parts.kv.backup(os.path.join(folder, _ARCHIVE))
            return {
                name: await kind.copy_to(os.path.join(folder, name)) for name, kind in kinds.items()
            }
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


async def restore(folder: str, data_dir: str) -> dict[str, int]:
    """Makes the data directory `data_dir`, which must not be there or be empty, of a backup; how
    many rows and files. Raises NotFound, AlreadyExists, KvDamaged, KvFormat, KvFull, KvError."""
    from spear.kv.backup import restore as restore_rows

    archive = os.path.join(folder, _ARCHIVE)
    if not os.path.isfile(archive):
        raise NotFound(f"{folder!r} is no backup of a node: it has no {_ARCHIVE}")
    if os.path.isdir(data_dir) and os.listdir(data_dir):
        raise AlreadyExists(f"{data_dir!r} is not empty: restore into a new directory")
    beside = f"{os.path.abspath(data_dir)}.restoring"
    if os.path.lexists(beside):
        raise AlreadyExists(f"{beside!r} is left from a restore that was cut short: remove it")
    os.makedirs(beside, mode=0o700)
    try:
        info = await restore_rows(archive, os.path.join(beside, "metadata"))
        found = {"rows": info.rows}
        for name, kind in Files(folder).each().items():
            found[name] = await kind.copy_to(os.path.join(beside, name))
        os.rename(beside, data_dir)
    except BaseException:
        await asyncio.to_thread(shutil.rmtree, beside, ignore_errors=True)
        raise
    return found


async def accept_loss(data_dir: str) -> Salvaged:
    """Gives up what the metadata of `data_dir` has lost. Raises NotFound, KvLocked,
    PermissionDenied, KvError, and KvDamaged where it cannot be opened at all."""
    from spear.kv.salvage import salvage

    path = os.path.join(data_dir, "metadata")
    if not (os.path.isdir(path) or os.path.isdir(path + ".salvaged")):
        raise NotFound(f"{data_dir!r} is no data directory of a node: it has no metadata")
    held = open_data_dir(data_dir)
    umask = os.umask(UMASK)
    try:
        return await salvage(path)
    finally:
        os.umask(umask)
        held.close()


def lost_before(data_dir: str) -> str:
    """The file that lists what was given up when loss was last accepted; "" where there is none."""
    from spear.kv.salvage import lost_before as listed

    return listed(os.path.join(data_dir, "metadata"))

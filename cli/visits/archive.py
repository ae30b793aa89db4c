"""Objects as a tar archive, made while they come.

The rule: an entry's name is the object's key, so tar itself lists and unpacks them; of one that tar
would cut or take for a folder what does that is escaped, and `user.spear.key` has it whole. Version
and metadata are extended attributes, `user.spear.version` and `user.NAME`, in the headers that tar
knows for them (`tar --xattrs`); of others it would warn at each entry. Metadata of a name that is
ours is left out.
"""

from __future__ import annotations

import tarfile
from collections.abc import AsyncIterator

from spear.records.objects import ObjectInfo

_BLOCK = tarfile.BLOCKSIZE


async def archive(objects: AsyncIterator[tuple[ObjectInfo, bytes]]) -> AsyncIterator[bytes]:
    """The archive's bytes; no more than one object of it is held."""
    async for info, value in objects:
        yield _entry(info)
        yield value
        yield bytes(-len(value) % _BLOCK)
    yield bytes(2 * _BLOCK)


def _entry(info: ObjectInfo) -> bytes:
    entry = tarfile.TarInfo(_name(info.key))
    entry.size, entry.mtime = info.size, info.updated_ms / 1000
    ours = {"spear.version": str(info.version)}
    if entry.name != info.key:
        ours["spear.key"] = info.key
    attributes = {**info.metadata, **ours}
    entry.pax_headers = {_attribute(name): value for name, value in attributes.items()}
    return entry.tobuf(tarfile.PAX_FORMAT)


def _name(key: str) -> str:
    name = key.replace("\0", "%00")
    return f"{name[:-1]}%2F" if name.endswith("/") else name


def _attribute(name: str) -> str:
    """The header's keyword; `=` would end it."""
    return "SCHILY.xattr.user." + name.replace("%", "%25").replace("=", "%3D")

"""Objects as a tar archive, made while they come; `unarchive` reads it.

The rule: an entry's name is the object's key, so tar itself lists and unpacks them; of one that tar
would cut or take for a folder what does that is escaped, and `user.spear.key` has it whole.
Metadata and what is ours are extended attributes, `user.NAME` and `user.spear.NAME`, in the headers
that tar knows for them (`tar --xattrs`); of others it would warn at each entry. Ours are `version`,
`durability`, and `sha256`, of all the rest (`checksum`). Metadata of such a name is left out.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import AsyncIterator, Mapping

from spear.records.objects import ObjectInfo

BLOCK = tarfile.BLOCKSIZE
ATTRIBUTE = "SCHILY.xattr.user."
OURS = VERSION, KEY, DURABILITY, SHA256 = (
    "spear.version", "spear.key", "spear.durability", "spear.sha256",
)  # fmt: skip


async def archive(objects: AsyncIterator[tuple[ObjectInfo, bytes]]) -> AsyncIterator[bytes]:
    """The archive's bytes; no more than one object of it is held."""
    async for info, value in objects:
        yield _entry(info, value)
        yield value
        yield bytes(-len(value) % BLOCK)
    yield bytes(2 * BLOCK)


def _entry(info: ObjectInfo, value: bytes) -> bytes:
    entry = tarfile.TarInfo(_name(info.key))
    entry.size, entry.mtime = info.size, info.updated_ms / 1000
    ours = {VERSION: str(info.version), DURABILITY: info.durability}
    if entry.name != info.key:
        ours[KEY] = info.key
    attributes = {name: text for name, text in info.metadata.items() if name not in OURS}
    attributes |= ours
    attributes[SHA256] = checksum(info.key, attributes, value)
    entry.pax_headers = {_attribute(name): value for name, value in attributes.items()}
    return entry.tobuf(tarfile.PAX_FORMAT)


def checksum(key: str, attributes: Mapping[str, str], value: bytes) -> str:
    """Of an object: the sha256 of its key, each attribute's name and text by name, and its value;
    all but the value as LENGTH:TEXT."""
    found = hashlib.sha256()
    for text in (key, *(part for pair in sorted(attributes.items()) for part in pair)):
        data = text.encode()
        found.update(b"%d:%b" % (len(data), data))
    found.update(value)
    return found.hexdigest()


def _name(key: str) -> str:
    name = key.replace("\0", "%00")
    return f"{name[:-1]}%2F" if name.endswith("/") else name


def _attribute(name: str) -> str:
    """The header's keyword; `=` would end it."""
    return ATTRIBUTE + name.replace("%", "%25").replace("=", "%3D")

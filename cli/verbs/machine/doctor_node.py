"""Whether a node runs here, and whether there is room for what it keeps."""

from __future__ import annotations

import os

from spear.cli.verbs.machine.finding import Finding
from spear.errors import SpearError, Unreachable
from spear.units import show_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.config import Config

_ANSWER_S = 5
_ROOM_BYTES_MIN = 1 << 30


def node_findings(config: Config) -> list[Finding]:
    """That there is none is no fault: `spear run` needs none."""
    return [_node(config), _room(config.data_dir)]


def _node(config: Config) -> Finding:
    import asyncio

    try:
        info = asyncio.run(_asked(config))
    except Unreachable as error:
        if os.path.exists(config.socket_path):
            advice = "its process is gone or hangs: spear up starts another, or says which runs"
            return Finding("node", "note", str(error), advice)
        return Finding("node", "note", "none runs here", "spear up starts one")
    except SpearError as error:
        return Finding("node", "note", f"does not let us in: {error}", "use its own user's account")
    from spear import __version__

    version = info.get("version", "unknown")
    found = f"answers at {config.socket_path}, version {version}"
    if version != __version__:
        return Finding("node", "note", f"{found}; this command is {__version__}", "restart it")
    return Finding("node", "ok", found)


async def _asked(config: Config) -> dict[str, str]:
    from spear.client.client import Client

    async with Client(f"unix:{config.socket_path}", timeout=_ANSWER_S, config=config) as node:
        return await node.info()


def _room(path: str) -> Finding:
    """Of the disk that has the data directory, or will have it."""
    there = path
    while not os.path.exists(there) and there != os.path.dirname(there):
        there = os.path.dirname(there)
    try:
        found = os.statvfs(there)
    except OSError as error:
        return Finding("data", "note", f"{path}: {error.strerror}", "set storage.data_dir")
    free = found.f_bavail * found.f_frsize
    text = f"{path}, {show_size(free)} free"
    if there != path:
        text += " (made when first needed)"
        if not os.access(there, os.W_OK | os.X_OK):
            return Finding("data", "note", f"{path} cannot be made in {there}",
                           "set storage.data_dir")  # fmt: skip
    if free < _ROOM_BYTES_MIN:
        return Finding("data", "note", text, "make room: a node refuses work when it is full")
    return Finding("data", "ok", text)

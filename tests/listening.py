"""Where a process listens, as the kernel says: by its descriptors and the tables of all sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

_LISTENS = "0A"  # the state of a TCP socket
_ACCEPTS = 0x10000  # the flag of a Unix socket that listens


def listening(pid: int) -> set[str]:
    """`unix:PATH`, `HOST:PORT`, and `udp HOST:PORT` of each datagram socket that is bound."""
    own = _inodes(pid)
    found = set()
    for words in _rows(pid, "unix"):
        if words[6] in own and int(words[3], 16) & _ACCEPTS:
            found.add(f"unix:{words[7]}")
    for table in ("tcp", "tcp6"):
        found |= {_address(w[1]) for w in _rows(pid, table) if w[9] in own and w[3] == _LISTENS}
    for table in ("udp", "udp6", "raw", "raw6"):
        found |= {f"{table[:3]} {_address(w[1])}" for w in _rows(pid, table) if w[9] in own}
    return found


def _inodes(pid: int) -> set[str]:
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:  # closed meanwhile
            continue
        if target.startswith("socket:["):
            found.add(target[len("socket:[") : -1])
    return found


def _rows(pid: int, table: str) -> Iterator[list[str]]:
    """Words of each row; a table that this kernel has not is empty."""
    path = Path(f"/proc/{pid}/net/{table}")
    if path.exists():
        for line in path.read_text().splitlines()[1:]:
            words = line.split()
            yield words if table != "unix" or len(words) > 7 else [*words, ""]


def _address(text: str) -> str:
    """Of `0100007F:C384`; the address stands in words of the machine's order."""
    host, port = text.split(":")
    raw = bytes.fromhex(host)
    ordered = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    shown = socket.inet_ntop(family, ordered).removeprefix("::ffff:")  # IPv4 by an IPv6 socket
    return f"[{shown}]:{int(port, 16)}" if ":" in shown else f"{shown}:{int(port, 16)}"

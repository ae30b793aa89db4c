"""A guest's WASI descriptors; what Python sees are the directories it may be granted."""

import os
from typing import final

@final
class Directory:
    """A directory of the host that guests may use, beneath which they can open files but out of
    which no path of theirs leads.

    Opened when this is made and kept open as long as this or a run that was given it: what is done
    to the host's path later changes nothing. `guest` is the name by which guests know it, else
    the text of `host`. Read-only unless `writable`.
    Raises InvalidArgument where there is no such directory or the kernel has no openat2.
    """

    host: str
    guest: str

    def __init__(
        self, host: str | os.PathLike[str], guest: str = "", *, writable: bool = False
    ) -> None: ...
    @property
    def writable(self) -> bool: ...

def refusal() -> str:
    """Why this machine can grant no directory; "" if it can."""

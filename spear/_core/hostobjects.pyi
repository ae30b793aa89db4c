"""The object calls of guests; see hostobjects.pyx."""

from collections.abc import Iterable

from spear._core.objlease import Lease
from spear._core.objstore import ObjectStore

LIST_LIMIT_MAX: int

def lend(store: ObjectStore, task: str, grants: Iterable[str]) -> Lease:
    """What the guests of `task` may reach of the store: `shared/...`, their own objects, and those
    of the tasks named in `grants`. Raises InvalidArgument."""

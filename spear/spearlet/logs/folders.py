"""Which folder the log of a task lies in.

The rule: any task name gives one folder name, which is never another task's, hidden, or longer than
a file system takes.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from urllib.parse import quote

_CHARS_MAX = 120
_DIGEST_CHARS = 32


@lru_cache(maxsize=1024)  # asked for each execution
def folder_of(task_name: str) -> str:
    """The name itself where it is plain, else with its other bytes in percent encoding; a long one
    is cut, and told apart by its digest."""
    data = task_name.encode("utf-8", "surrogateescape")
    quoted = quote(data, safe="").replace("~", "%7E")
    if quoted.startswith("."):
        quoted = "%2E" + quoted[1:]
    if len(quoted) <= _CHARS_MAX:
        return quoted or "%"
    return f"{quoted[:_CHARS_MAX]}~{hashlib.sha256(data).hexdigest()[:_DIGEST_CHARS]}"

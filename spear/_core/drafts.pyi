"""What guests put into chat sessions and Python has not taken yet; see drafts.pyx."""

from typing import final

SESSION_BYTES_MAX: int
ENTRY_BYTES: int  # what each entry counts beside its text
STRUCTURE: int  # how often the text of a tool or parameter counts: as values it is so much larger
DRAFTS_MAX: int  # of one session, until Python has looked
MESSAGE: int
SETTING: int

@final
class Room:
    """What all sessions of one execution hold together, drafts too, and what their streams count
    (`streamed`), in bytes. Any thread."""

    streamed: int

    def __init__(self) -> None: ...
    @property
    def taken(self) -> int: ...
    def add(self, size: int) -> None: ...

@final
class Drafts:
    """Of a session whose guest is the caller: for tests. `message` and `setting` say whether it was
    taken; where not, it is Python's to look at."""

    def __init__(self, room: Room) -> None: ...
    def message(self, role: bytes, content: bytes) -> bool: ...
    def setting(self, text: bytes) -> bool: ...
    def take(self, left: int) -> list[tuple[int, bytes, bytes, int]]:
        """All of them, in order, as Handle.drafts gives them; so many more are taken then, and
        never more than DRAFTS_MAX."""

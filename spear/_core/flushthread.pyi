"""Makes files safe from a power cut beside the event loop; see flushthread.pyx for the rules."""

class FlushThread:
    """Used on one thread. What is dropped ends its thread, after a flush under way."""

    def __init__(self) -> None:
        """Raises OSError without a descriptor for it."""

    @property
    def descriptor(self) -> int:
        """Readable once a flush has ended; -1 once it was closed."""

    def begin(self, files: list[int], folder: int = -1) -> None:
        """Syncs the data of the files, then the folder (-1: none). All descriptors stay open until
        it has ended. Returns at once.

        Raises RuntimeError while another is under way, or was not taken, or after `close`; OSError
        without a thread."""

    def ended(self) -> int | None:
        """Takes the end of a flush: 0, or the errno of the first that failed. None where none has
        ended."""

    def close(self) -> None:
        """Ends the thread, after a flush under way, whose end can still be taken. No loop watches
        the descriptor any more. Closing again does nothing."""

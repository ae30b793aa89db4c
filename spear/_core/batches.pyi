"""Batches: many runs of one module, begun natively; see batches.pyx."""

from typing import final

@final
class Batch:
    """What became of `Executor.run_many`."""

    duration_ns: int  # of the whole batch
    def __len__(self) -> int: ...
    @property
    def counts(self) -> dict[str, int]:
        """How many runs ended by each cause."""
    @property
    def completed(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def exit_codes(self) -> list[int | None]:
        """None where a run did not exit by itself; -1 is a code like any other."""
    @property
    def durations_ns(self) -> list[int]: ...

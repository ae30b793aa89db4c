"""Reads the log of one execution from the files of its task, batch by batch.

The rule: lines come in order, each once, without gaps; where some are gone, one line of the stream
`system` stands for them, with the sequence number of the last of them. Nothing is kept between two
batches but where the reader stands, so a slow one costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from spear.errors import LogUnavailable
from spear.records.execution import LogLine
from spear.spearlet.logs.extents import Extents
from spear.spearlet.logs.lines import decode_own
from spear.spearlet.logs.tasklog import TaskLog
from spear.telemetry.rotating import Place

BATCH_BYTES = 1 << 16
_WHY_GONE = "removed for logs.task_size, logs.size or logs.retention, not in a backup, or damaged"


class LogReader:
    """Stands behind the line `seq`; `damaged` counts lines that could not be read."""

    __slots__ = (
        "_execution_id", "_extents", "_generation", "_head", "_offset", "_task", "_task_name",
        "damaged", "seq",
    )  # fmt: skip

    def __init__(
        self, task: TaskLog, execution_id: str, task_name: str, head: bytes, extents: Extents,
        after_seq: int,
    ) -> None:  # fmt: skip
        self._task, self._execution_id, self._task_name = task, execution_id, task_name
        self._head, self._extents = head, extents
        self._generation = self._offset = 0
        self.seq, self.damaged = after_seq, 0

    def next_batch(self) -> list[LogLine]:
        """What follows; empty at the end of what there is now. Raises LogUnavailable."""
        while (place := self._extents.after(self._generation, self._offset)) is not None:
            try:
                data = self._chunk(place)
            except FileNotFoundError:  # removed, being too old or too much
                self._extents.forget_before(place.generation + 1)
                continue
            except OSError as error:
                raise LogUnavailable(
                    f"the log of execution {self._execution_id} cannot be read: {error}"
                ) from error
            self._generation, self._offset = place.generation, place.start + len(data)
            lines = self._numbered(decode_own(data, self._head))
            if lines:
                return lines
        return []

    def finish(self, last_seq: int) -> list[LogLine]:
        """The line that stands for those up to `last_seq`, where they are gone."""
        if self.seq >= last_seq:
            return []
        mark = self._mark(last_seq, 0, "")
        self.seq = last_seq
        return [mark]

    def _chunk(self, place: Place) -> bytes:
        """Whole lines from the begin of the place on."""
        left = place.end - place.start
        count = min(BATCH_BYTES, left)
        while True:
            data = self._task.read(place.generation, place.start, count)
            end = data.rfind(b"\n") + 1
            if end or count == left:
                return data[:end] if end else bytes(left)  # no line in all of it: damaged
            count = min(2 * count, left)

    def _numbered(self, lines: Iterable[LogLine | None]) -> list[LogLine]:
        found: list[LogLine] = []
        for line in lines:
            if line is None:
                self.damaged += 1
            elif line.seq > self.seq:
                if line.seq > self.seq + 1:
                    found.append(self._mark(line.seq - 1, line.time_ms, line.instance_id))
                found.append(line)
                self.seq = line.seq
        return found

    def _mark(self, last_seq: int, time_ms: int, instance_id: str) -> LogLine:
        first = self.seq + 1
        which = f"line {first} is" if first == last_seq else f"lines {first} to {last_seq} are"
        return LogLine(
            execution_id=self._execution_id, seq=last_seq, time_ms=time_ms, level="warn",
            stream="system", task=self._task_name, instance_id=instance_id,
            message=f"{which} gone: {_WHY_GONE}",
        )  # fmt: skip

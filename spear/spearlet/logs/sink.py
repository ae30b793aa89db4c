"""The way of an execution's lines into the log of its task.

The rule: lines get their sequence numbers, from 1 without gaps, when they are in the file, and only
then do readers hear of them. A log that cannot be written holds up nobody: its lines are counted,
and the next line that can be written says how many are missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from spear.clock import Clock
from spear.runtime.interface import LogLine
from spear.spearlet.logs.extents import Extents
from spear.spearlet.logs.index import key_of
from spear.spearlet.logs.lines import LEVELS, StoredLine, encode, last_own
from spear.spearlet.logs.tasklog import TaskLog
from spear.telemetry.redact import Redactor

BATCH_LINES = 256
_BATCH_BYTES = 1 << 20
_MESSAGE_CHARS_MAX = 1 << 16
_PIECE_BYTES = 1 << 14  # a longer line of a stream comes in pieces of this
_PIECE_CHARS_MIN = _PIECE_BYTES // 4
_LEVEL, _WORST = dict(enumerate(LEVELS)), LEVELS[-1]


class _Said(NamedTuple):
    """A line of the node's own."""

    seq: int
    time_ms: int
    level: int
    stream: str
    message: str


class OpenLog:
    """The log of one execution that may still grow. `seq` is that of its last line; `written`
    counts lines since it was opened, `lost` those that could not be. With `resumed` it goes on
    behind lines that are on disk, once those have been found."""

    __slots__ = (
        "_clock", "_generation", "_key", "_node_name", "_task_name", "_untold", "_waiting",
        "execution_id", "extents", "finished", "head", "lost", "redactor", "resumed", "seq", "task",
        "written",
    )  # fmt: skip

    def __init__(
        self, execution_id: str, task_name: str, node_name: str, head: bytes, task: TaskLog,
        clock: Clock, redactor: Redactor,
    ) -> None:  # fmt: skip
        self.execution_id, self._task_name, self._node_name = execution_id, task_name, node_name
        self.head, self._key, self.task = head, key_of(head), task
        self._clock, self.redactor = clock, redactor
        self.extents = Extents()
        self.seq = self.written = self.lost = self._untold = self._generation = 0
        self.resumed = self.finished = False
        self._waiting: set[asyncio.Future[None]] = set()

    def locate(self) -> None:
        """Finds its lines on disk. Raises OSError."""
        self.extents = Extents(self.task.find(self.head))

    def resume(self) -> None:
        """Finds its lines on disk, and the last one's number. Raises OSError."""
        self.locate()
        for place in reversed(list(self.extents)):
            data = self.task.read(place.generation, place.start, place.end - place.start)
            if last := last_own(data, self.head):
                self.seq = last.seq
                break
        self.resumed = False

    def write(self, lines: Sequence[LogLine], instance_id: str) -> None:
        """Has them in the file when it returns, and its readers woken, or counts them as lost."""
        if self.resumed and not self._could_resume():
            self._lose(len(lines))
            return
        if self._untold and not self._tell_lost(instance_id, len(lines)):
            self._lose(len(lines))
            return
        data = encode(self._stored(lines, instance_id))
        if len(data) > _BATCH_BYTES and len(lines) > 1:
            half = len(lines) // 2
            self.write(lines[:half], instance_id)
            self.write(lines[half:], instance_id)
        elif self._append(data, len(lines), len(lines)):
            self._wake()
        else:
            self._lose(len(lines))

    def own_line(self, message: str, level: str) -> LogLine:
        """A line of the stream `system`."""
        return _Said(0, self._clock.now_ns() // 1_000_000, LEVELS.index(level), "system", message)

    def finish(self, instance_id: str) -> None:
        if self._untold and not self.resumed:
            self._tell_lost(instance_id, 0)
        self.finished = True
        self._wake()

    async def changed(self) -> None:
        """Until there are lines behind those that are there now, or the log is finished."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def _could_resume(self) -> bool:
        try:
            self.resume()
        except OSError:
            return False
        return True

    def _append(self, data: bytes, count: int, lost: int) -> bool:
        """Whether the lines are in the file now."""
        try:
            place = self.task.append(self._key, data, lost)
        except OSError:
            return False
        self.seq += count
        self.written += count
        if place.generation != self._generation:
            self._generation = place.generation
            self.extents.forget_before(self.task.oldest_generation)
        self.extents.add(place)
        return True

    def _stored(self, lines: Sequence[LogLine], instance_id: str) -> list[StoredLine]:
        messages = self.redactor.texts([self._bounded(line.message) for line in lines])
        execution_id, task, node = self.execution_id, self._task_name, self._node_name
        return [
            StoredLine(execution_id, seq, line.time_ms, _LEVEL.get(line.level, _WORST), line.stream,
                       task, instance_id, node, message)
            for seq, (line, message) in enumerate(zip(lines, messages, strict=True), self.seq + 1)
        ]  # fmt: skip

    def _bounded(self, message: str) -> str:
        """Cut where no secret goes on behind."""
        if len(message) <= _MESSAGE_CHARS_MAX:
            return message
        kept = message[:_MESSAGE_CHARS_MAX]
        kept = kept[: self.redactor.cut(kept)[0]]
        return f"{kept}... (cut, {len(message)} characters)"

    def _tell_lost(self, instance_id: str, behind: int) -> bool:
        """Whether a line with the number of those that were lost could be written; if not, the
        `behind` ones that wait for it are lost too."""
        line = self.own_line(f"{_lost(self._untold)}: the log could not be written", "warn")
        if not self._append(encode(self._stored([line], instance_id)), 1, behind):
            return False
        self._untold = 0
        return True

    def _lose(self, count: int) -> None:
        self.lost += count
        self._untold += count

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)


class Sink:
    """One attempt's way into its execution's log: the lines of one run, and the node's own."""

    __slots__ = ("_begun", "_expected_seq", "_finished", "_instance_id", "_log")

    def __init__(self, log: OpenLog, instance_id: str, finished: Callable[[OpenLog], None]) -> None:
        self._log, self._instance_id, self._finished = log, instance_id, finished
        self._expected_seq = 1
        self._begun: dict[str, _Said] = {}  # what goes to the next piece of each stream's line

    @property
    def lines(self) -> int:
        """In the log, those of earlier attempts and of the node included."""
        return self._log.seq

    @property
    def lost(self) -> int:
        """Lines that could not be written."""
        return self._log.lost

    def append(self, lines: Sequence[LogLine]) -> None:
        """Takes what the run has logged, in order; where its numbers have a gap, a line says so.
        In the file when it returns (class crash). Never raises for the log's sake."""
        if not lines:
            return
        first, last = lines[0].seq, lines[-1].seq
        if first != self._expected_seq or last - first != len(lines) - 1:
            lines = self._with_gaps(lines)
        self._expected_seq = last + 1
        if self._log.redactor:
            lines = self._cut_elsewhere(lines)
        for at in range(0, len(lines), BATCH_LINES):
            self._log.write(lines[at : at + BATCH_LINES], self._instance_id)

    def system(self, message: str, level: str = "info") -> None:
        """A line of the node's own."""
        self._log.write([self._log.own_line(message, level)], self._instance_id)

    def finish(self) -> None:
        """The execution has ended, and nothing comes any more: its followers end."""
        self.flush()
        if not self._log.finished:
            self._log.finish(self._instance_id)
            self._finished(self._log)

    def flush(self) -> None:
        """The run has ended."""
        begun, self._begun = list(self._begun.values()), {}
        if begun:
            self._log.write(begun, self._instance_id)

    def _cut_elsewhere(self, lines: Sequence[LogLine]) -> list[LogLine]:
        """A secret that lies across the cut of a long line would be found in neither piece: what
        may be its beginning goes to the next one, unless that was lost. A line of just the length
        of a piece cannot be told from one: what looks like a beginning at its end goes to the line
        that follows it in its stream."""
        found: list[LogLine] = []
        for line in lines:
            if not line.seq:  # the mark of a gap
                found += self._begun.values()
                self._begun.clear()
            message, ahead = line.message, self._begun.pop(line.stream, None)
            if ahead is not None:
                message = ahead.message + message
            if _is_piece(line):
                end, begin = self._log.redactor.cut(message)
                if begin < len(message):
                    self._begun[line.stream] = _said(line, message[begin:])
                    message = message[:end]
            found.append(line if message is line.message else _said(line, message))
        return found

    def _with_gaps(self, lines: Sequence[LogLine]) -> list[LogLine]:
        found: list[LogLine] = []
        expected = self._expected_seq
        for line in lines:
            if line.seq > expected:
                lost = _lost(line.seq - expected)
                mark = self._log.own_line(f"{lost}: they came faster than they were read", "warn")
                found.append(mark)
            found.append(line)
            expected = line.seq + 1
        return found


def _is_piece(line: LogLine) -> bool:
    message = line.message
    if line.stream == "log" or len(message) < _PIECE_CHARS_MIN:
        return False
    return len(message.encode("utf-8", "replace")) >= _PIECE_BYTES


def _said(line: LogLine, message: str) -> _Said:
    return _Said(line.seq, line.time_ms, line.level, line.stream, message)


def _lost(count: int) -> str:
    return "1 line was lost" if count == 1 else f"{count} lines were lost"

"""The logs of a node's executions, in one rotating log a task.

The rule: `<directory>/<task>/log.jsonl`, one JSON object a line. Lines are in the file (class
crash) before anybody can read them, and readers read files only: so history and tail are one thing.
One store a directory, used in one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple
from weakref import WeakValueDictionary

from spear.clock import Clock
from spear.errors import InUse, InvalidArgument, LogUnavailable
from spear.records.execution import LogLine
from spear.spearlet.logs.folders import folder_of
from spear.spearlet.logs.lines import head_of
from spear.spearlet.logs.reader import LogReader
from spear.spearlet.logs.sink import OpenLog, Sink
from spear.spearlet.logs.sweep import sweep
from spear.spearlet.logs.tasklog import TaskLog
from spear.telemetry.jsonlog import Log
from spear.telemetry.redact import Redactor
from spear.telemetry.rotating import Limits

OPEN_MAX = 128  # tasks whose files are held open
_FILE_BYTES_MIN = 1 << 12
_EXECUTION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class LogLimits(NamedTuple):
    """Of a node's logs: bytes of one task and of all, the age of lines (0: no limit), and how many
    files a task's log is at most: it loses one of them at a time."""

    task_bytes_max: int = 64 << 20
    bytes_max: int = 4 << 30
    age_ns_max: int = 7 * 86_400 * 10**9
    files: int = 8

    def of_task(self) -> Limits:
        file_bytes = max(self.task_bytes_max // self.files, _FILE_BYTES_MIN)
        return Limits(file_bytes, self.files - 1, self.age_ns_max)


class LogStore:
    """Nothing is opened before the first line, so making one cannot fail."""

    __slots__ = (
        "_clock", "_directory", "_limits", "_log", "_node_name", "_open", "_opened", "_redactor",
        "_stats", "_tasks",
    )  # fmt: skip

    def __init__(
        self, directory: str, node_name: str, limits: LogLimits, clock: Clock, redactor: Redactor,
        log: Log,
    ) -> None:  # fmt: skip
        self._directory, self._node_name, self._limits = directory, node_name, limits
        self._clock, self._redactor, self._log = clock, redactor, log
        self._open: dict[str, OpenLog] = {}  # by execution
        self._tasks: WeakValueDictionary[str, TaskLog] = WeakValueDictionary()  # by folder
        self._opened: dict[TaskLog, None] = {}  # holds a descriptor; the first to open first
        self._stats = {"lines": 0, "lost": 0, "damaged": 0, "removed_files": 0}

    def sink(
        self, execution_id: str, task_name: str, instance_id: str = "", *, resumed: bool = False
    ) -> Sink:
        """The way into an execution's log, from now until `finish`. Another one, of its next
        attempt, goes on with the sequence. `resumed`: it may have lines already, from an earlier
        process or from before a `finish`; without it such lines hide the new ones. Where the
        limits have removed all of them it begins at 1.
        Made when the execution is accepted, it lets followers wait for the first line."""
        log = self._open.get(execution_id)
        if log is None:
            log = self._open[execution_id] = self._new(execution_id, task_name)
            if resumed:
                log.resumed = True
                with contextlib.suppress(OSError):  # tried again before its first line
                    log.resume()
        return Sink(log, instance_id, self._finished)

    def read(
        self, execution_id: str, task_name: str, after_seq: int = 0, known: int = 0
    ) -> Iterator[list[LogLine]]:
        """The lines that are there now, behind `after_seq`, in batches. Where nothing is left of
        `known` ones, a line says so. Raises LogUnavailable."""
        log, reader = self._reader(execution_id, task_name, after_seq)
        last_seq = log.seq
        try:
            while lines := reader.next_batch():
                yield lines
            if lines := reader.finish(last_seq if reader.seq else max(last_seq, known)):
                yield lines
        finally:
            self._count_damaged(reader, task_name)

    async def follow(
        self, execution_id: str, task_name: str, after_seq: int = 0
    ) -> AsyncIterator[list[LogLine]]:
        """The lines behind `after_seq`, those that come included, until the log is finished; at
        once at its end where no sink is open for it. Raises LogUnavailable."""
        log, reader = self._reader(execution_id, task_name, after_seq)
        try:
            while True:
                if lines := reader.next_batch():
                    yield lines
                    await asyncio.sleep(0)  # a reader in haste lets others run
                elif lines := reader.finish(log.seq):  # what was there is gone: told at once
                    yield lines
                elif log.finished:
                    return
                else:
                    await log.changed()
        finally:
            self._count_damaged(reader, task_name)

    def remove(self, execution_id: str, task_name: str) -> None:
        """Forgets the lines of an ended execution; their bytes go with their files. Raises InUse,
        LogUnavailable."""
        if execution_id in self._open:
            raise InUse(f"the log of execution {execution_id} is still written")
        try:
            self._task_in(folder_of(task_name)).remove(execution_id, _checked_head(execution_id))
        except OSError as error:
            raise _unavailable(execution_id, "removed", error) from error

    async def sweep(self) -> int:
        """Removes what is beyond the limits; to be called now and then. How many files went."""
        gone = await sweep(self._directory, self._limits.bytes_max, self._task_in, self._log)
        self._stats["removed_files"] += gone
        return gone

    def stats(self) -> dict[str, int]:
        """What was counted since the start, and what is open now."""
        now = {"open": len(self._open), "files_open": len(self._opened)}
        lines = sum(log.written for log in self._open.values())
        lost = sum(log.lost for log in self._open.values())
        counted = self._stats
        return {**counted, **now, "lines": counted["lines"] + lines, "lost": counted["lost"] + lost}

    def close(self) -> None:
        """Lets go of all files. Followers of what is not finished end."""
        for log in tuple(self._open.values()):
            log.finish("")
            self._finished(log)
        for task in tuple(self._opened):
            task.close()
        self._opened.clear()

    def _new(self, execution_id: str, task_name: str) -> OpenLog:
        return OpenLog(
            execution_id, task_name, self._node_name, _checked_head(execution_id),
            self._task_in(folder_of(task_name)), self._clock, self._redactor,
        )  # fmt: skip

    def _reader(
        self, execution_id: str, task_name: str, after_seq: int
    ) -> tuple[OpenLog, LogReader]:
        log = self._open.get(execution_id)
        try:
            if log is None:
                log = self._new(execution_id, task_name)
                log.finished = True
                log.locate()
            elif log.resumed:
                log.resume()
        except OSError as error:
            raise _unavailable(execution_id, "read", error) from error
        return log, LogReader(log.task, execution_id, task_name, log.head, log.extents, after_seq)

    def _finished(self, log: OpenLog) -> None:
        del self._open[log.execution_id]
        self._stats["lines"] += log.written
        self._stats["lost"] += log.lost

    def _count_damaged(self, reader: LogReader, task_name: str) -> None:
        if reader.damaged:
            self._stats["damaged"] += reader.damaged
            self._log.warn("task log has damaged lines", task=task_name, lines=reader.damaged)

    def _task_in(self, folder: str) -> TaskLog:
        task = self._tasks.get(folder)
        if task is None:
            path = os.path.join(self._directory, folder)
            task = TaskLog(path, self._limits.of_task(), self._clock, self._log, self._note_opened)
            self._tasks[folder] = task
        return task

    def _note_opened(self, task: TaskLog) -> None:
        self._opened.pop(task, None)
        self._opened[task] = None
        if len(self._opened) > OPEN_MAX:
            oldest = next(iter(self._opened))
            del self._opened[oldest]
            oldest.close()


def _checked_head(execution_id: str) -> bytes:
    if not _EXECUTION_ID.fullmatch(execution_id):
        raise InvalidArgument(
            f"an execution's id is 1 to 128 of the characters A-Z a-z 0-9 . _ : -, "
            f"found {execution_id[:160]!r}"
        )
    return head_of(execution_id)


def _unavailable(execution_id: str, done: str, error: OSError) -> LogUnavailable:
    return LogUnavailable(f"the log of execution {execution_id} cannot be {done}: {error}")

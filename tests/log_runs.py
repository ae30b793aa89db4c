"""Lines as a runtime gives them, and a store of logs with short limits."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from spear.clock import Clock
from spear.records.execution import LogLine
from spear.spearlet.logs.store import LogLimits, LogStore
from spear.telemetry.jsonlog import Log, open_log
from spear.telemetry.redact import Redactor

TASK = "greeter"


def line(seq: int, message: str = "", **fields: Any) -> Any:
    given = {"time_ms": 1000 + seq, "level": 2, "stream": "log", **fields}
    return SimpleNamespace(seq=seq, message=message or f"message {seq}", **given)


def lines(first: int, last: int) -> list[Any]:
    return [line(seq) for seq in range(first, last + 1)]


def messages(batches: Iterable[list[LogLine]]) -> list[str]:
    return [line.message for batch in batches for line in batch]


class SystemLines:
    """A target that keeps the system log's lines."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, lines: bytes) -> None:
        self.text += lines.decode()

    def close(self) -> None:
        return


class Bench:
    """Stores over one directory, and what they stand on."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder, self.clock = folder, clock
        self.redactor, self.system = Redactor(), SystemLines()
        self.log: Log = open_log(self.system, clock, self.redactor)

    def store(self, **limits: int) -> LogStore:
        return LogStore(
            str(self.folder), "n1", LogLimits(**limits), self.clock, self.redactor, self.log
        )

    def files(self, task: str = TASK, pattern: str = "*.jsonl") -> list[Path]:
        return sorted((self.folder / task).glob(pattern))

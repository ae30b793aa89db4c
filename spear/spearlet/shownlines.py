"""A guest's log lines as whoever follows it gets them: without the secrets that are known.

The rule: what holds none is handed on as it is; of the others only the message is another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from spear.runtime.interface import LogLine
from spear.telemetry.redact import Redactor


class ShownLine(NamedTuple):
    seq: int
    time_ms: int
    level: int
    stream: str
    message: str


def without_secrets(lines: Sequence[LogLine], redactor: Redactor) -> Sequence[LogLine]:
    messages = [line.message for line in lines]
    shown = redactor.texts(messages)
    if shown is messages:
        return lines
    return [
        ShownLine(line.seq, line.time_ms, line.level, line.stream, message)
        for line, message in zip(lines, shown, strict=True)
    ]

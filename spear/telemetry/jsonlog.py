"""The system log: what the node itself has to say, one line an event.

The rule: logging never raises into its caller and never waits for more than one write; lines that
could not be written are counted, and the first line that can be says how many are missing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Protocol

import msgspec

from spear.clock import Clock
from spear.errors import InvalidArgument
from spear.telemetry.escape import escape
from spear.telemetry.jsonsafe import escape_json
from spear.telemetry.redact import Redactor
from spear.telemetry.timetext import parse_time, time_text

LEVELS = ("trace", "debug", "info", "warn", "error")
FORMATS = ("json", "console")
_RANK = {name: rank for rank, name in enumerate(LEVELS)}
_PENDING_LINES_MAX = 64
_TEXT_CHARS_MAX = 16_384  # of one value
_DEPTH_MAX = 4  # of values within values
_ITEMS_MAX = 64  # of one value

Encoder = Callable[[str, str, str, Mapping[str, Any]], bytes]


class Target(Protocol):
    """Where lines go: a RotatingFile, or a Descriptor."""

    def write(self, lines: bytes) -> object:
        """Raises OSError."""

    def close(self) -> None: ...


class Log:
    """Lines with the fields that were bound, for levels from `level` on.

    Made once by a composition root (`open_log`) and passed by constructor. Lines leave together:
    `schedule` (an event loop's `call_soon`, or `call_soon_threadsafe` where threads log too) is
    asked for one call per burst; a full batch and an error leave at once, and all do without it.
    """

    __slots__ = ("_fields", "_level", "_writer")

    def __init__(self, writer: Writer, level: str, fields: Mapping[str, Any]) -> None:
        self._writer, self._level, self._fields = writer, _RANK[level], dict(fields)

    def bind(self, **fields: Any) -> Log:
        """The same log, with these fields in each line."""
        return Log(self._writer, LEVELS[self._level], {**self._fields, **fields})

    def tells(self, level: str) -> bool:
        """Whether lines of that level are kept: for callers whose fields cost something."""
        return _RANK[level] >= self._level

    def trace(self, event: str, **fields: Any) -> None:
        self._say(0, event, fields)

    def debug(self, event: str, **fields: Any) -> None:
        self._say(1, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._say(2, event, fields)

    def warn(self, event: str, **fields: Any) -> None:
        self._say(3, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._say(4, event, fields)

    def failure(self, event: str, error: BaseException, **fields: Any) -> None:
        """An error that nobody expected, with where it was raised."""
        if self._level <= 4:
            import traceback

            trace = "".join(traceback.format_exception(error))
            self._say(4, event, {"error": error, "traceback": trace, **fields})

    @property
    def lost(self) -> int:
        """Lines that could not be written, ever."""
        return self._writer.lost

    def leave_by(self, schedule: Callable[[Callable[[], None]], object]) -> None:
        """From now on lines leave together, as with `schedule` of `open_log`: for a log that is
        older than its loop."""
        self._writer.schedule_by(schedule)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _say(self, rank: int, event: str, fields: dict[str, Any]) -> None:
        if rank >= self._level:
            self._writer.add(rank, event, {**self._fields, **fields} if self._fields else fields)


def open_log(
    target: Target, clock: Clock, redactor: Redactor, *, level: str = "info", form: str = "json",
    schedule: Callable[[Callable[[], None]], object] | None = None, **fields: Any,
) -> Log:  # fmt: skip
    """`fields` (such as `node`) are in each line. Raises InvalidArgument."""
    for name, value, known in (("level", level, LEVELS), ("format", form, FORMATS)):
        if value not in known:
            raise InvalidArgument(f"logging.{name}: expected {', '.join(known)}, found {value!r}")
    encode = _json_line if form == "json" else _console_line
    return Log(Writer(target, clock, redactor, encode, schedule), level, fields)


class Writer:
    """Batches lines into writes. Any thread may add."""

    __slots__ = (
        "_clock", "_encode", "_lock", "_pending", "_reason", "_redactor", "_schedule",
        "_scheduled", "_second", "_second_text", "_target", "_untold", "lost",
    )  # fmt: skip

    def __init__(
        self, target: Target, clock: Clock, redactor: Redactor, encode: Encoder,
        schedule: Callable[[Callable[[], None]], object] | None,
    ) -> None:  # fmt: skip
        self._target, self._clock, self._redactor = target, clock, redactor
        self._encode, self._schedule = encode, schedule
        self._lock = threading.RLock()  # a finalizer may log while this thread does
        self._pending: list[bytes] = []
        self._scheduled = False
        self._second, self._second_text = -1, ""
        self.lost = self._untold = 0
        self._reason = ""

    def add(self, rank: int, event: str, fields: Mapping[str, Any]) -> None:
        with self._lock:
            try:
                self._pending.append(self._line(rank, event, fields))
            except Exception as error:  # a value's own __str__, say
                self._lose(1, f"{type(error).__name__} while the line was made")
                return
            full = len(self._pending) >= _PENDING_LINES_MAX
            if full or rank == 4 or not self._later():
                self.flush()

    def flush(self) -> None:
        with self._lock:
            self._scheduled = False
            lines, self._pending = self._pending, []
            if not lines:
                return
            if self._untold:
                fields = {"lost": self._untold, "reason": self._reason}
                lines.insert(0, self._line(3, "log lines lost", fields))
            try:
                self._target.write(b"".join(lines))
            except (OSError, ValueError) as error:
                self._lose(len(lines) - bool(self._untold), str(error))
            else:
                self._untold = 0

    def schedule_by(self, schedule: Callable[[Callable[[], None]], object]) -> None:
        with self._lock:
            self._schedule = schedule

    def close(self) -> None:
        with self._lock:
            self.flush()
            self._schedule = None
            self._target.close()

    def _later(self) -> bool:
        """Whether the lines will be flushed by the loop."""
        if self._schedule is None:
            return False
        if not self._scheduled:
            try:
                self._schedule(self.flush)
            except RuntimeError:  # the loop is closed
                self._schedule = None
                return False
            self._scheduled = True
        return True

    def _lose(self, count: int, reason: str) -> None:
        self.lost += count
        self._untold += count
        self._reason = reason

    def _line(self, rank: int, event: str, fields: Mapping[str, Any]) -> bytes:
        text = self._redactor.text if self._redactor else _as_it_is
        clean = {name: _clean(value, text) for name, value in fields.items()}
        now = self._seconds(self._clock.now_ns())
        return self._encode(now, LEVELS[rank], text(_cut(event)), clean)

    def _seconds(self, now_ns: int) -> str:
        """The time as text; most lines share their second with the one before."""
        second, rest_ns = divmod(now_ns, 10**9)
        if second != self._second:
            self._second, self._second_text = second, time_text(now_ns)[:20]
        return f"{self._second_text}{rest_ns // 10**6:03}Z"


class Descriptor:
    """A file descriptor as a target, such as stderr; it stays open."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, lines: bytes) -> None:
        import os

        view = memoryview(lines)
        while view:
            view = view[os.write(self._fd, view) :]

    def close(self) -> None:
        return


def began_of(line: bytes) -> int | None:
    """When a line of the system log was written, in either format: what a RotatingFile asks."""
    text = line[:40].decode("ascii", "replace").removeprefix('{"time":"')
    return parse_time(text[:24])


def _as_it_is(text: str) -> str:
    return text


def _clean(value: Any, text: Callable[[str], str], depth: int = 0) -> Any:
    """The value as JSON has it, without secrets and within bounds."""
    kind = type(value)
    if kind is str:
        return text(_cut(value))
    if value is None or kind is bool or kind is float:
        return value
    if kind is int:
        return value if -(1 << 63) <= value < 1 << 63 else str(value)[:_TEXT_CHARS_MAX]
    if isinstance(value, BaseException):
        return text(_cut(f"{kind.__name__}: {value}"))
    if depth < _DEPTH_MAX and isinstance(value, Mapping):
        items = islice(value.items(), _ITEMS_MAX)
        return {text(_cut(str(k))): _clean(v, text, depth + 1) for k, v in items}
    if depth < _DEPTH_MAX and isinstance(value, (list, tuple, set, frozenset)):
        return [_clean(element, text, depth + 1) for element in islice(value, _ITEMS_MAX)]
    return text(_cut(str(value)))


def _cut(value: str) -> str:
    if len(value) > _TEXT_CHARS_MAX:
        value = f"{value[:_TEXT_CHARS_MAX]}... ({len(value)} characters)"
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()


def _json_line(now: str, level: str, event: str, fields: Mapping[str, Any]) -> bytes:
    line = {"time": now, "level": level, "event": event, **fields}
    return escape_json(msgspec.json.encode(line)) + b"\n"


def _console_line(now: str, level: str, event: str, fields: Mapping[str, Any]) -> bytes:
    words = [now, f"{level.upper():<5}", event]
    words += [f"{name}={_shown(value)}" for name, value in fields.items()]
    return escape(" ".join(words).replace("\n", "\\n")).encode() + b"\n"


def _shown(value: Any) -> str:
    if isinstance(value, str) and value and not set(value) & set(' "=\n'):
        return value
    return msgspec.json.encode(value).decode()

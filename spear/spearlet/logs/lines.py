"""A line of a task's log as it lies in a file: one JSON object.

The rule: the execution's id comes first, so that its lines are found without decoding the others'.
What is read back may be damaged: a line that is not one of ours is passed over, never trusted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from spear.records.execution import LogLine
from spear.telemetry.jsonsafe import escape_json

LEVELS = ("trace", "debug", "info", "warn", "error")
_HEAD = b'{"execution_id":'
_REMOVED = b',"removed":true}\n'


class StoredLine(msgspec.Struct, frozen=True, gc=False):
    """The fields of a line, in their order in the file."""

    execution_id: str
    seq: int
    time_ms: int
    level: str
    stream: str
    task: str
    instance_id: str
    node: str
    message: str


class _Header(msgspec.Struct):
    began_ns: int


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(LogLine)
_HEADER_DECODER = msgspec.json.Decoder(_Header)


def encode(lines: Sequence[StoredLine]) -> bytes:
    """Whole lines, each ended by a newline, which none has within."""
    try:
        return escape_json(_ENCODER.encode_lines(lines))
    except UnicodeEncodeError:  # half of a surrogate pair, as in the name of a file
        clean = [msgspec.structs.replace(line, message=_clean(line.message)) for line in lines]
        return escape_json(_ENCODER.encode_lines(clean))


def encode_tombstone(execution_id: str) -> bytes:
    """What says that the lines of an execution ahead of it are forgotten."""
    return head_of(execution_id) + _REMOVED


def head_of(execution_id: str) -> bytes:
    """What every line of an execution begins with. The id needs no escapes in JSON."""
    return _HEAD + b'"%b"' % execution_id.encode()


def is_tombstone(line: bytes) -> bool:
    return line.endswith(_REMOVED) and line.startswith(_HEAD)


def split(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(begin, end, head) of each whole line in `data`; the head is b"" for one that is not ours."""
    begin = 0
    while (end := data.find(b"\n", begin) + 1) > 0:
        quote = data.find(b'"', begin + len(_HEAD) + 1, end)
        ours = quote > 0 and data.startswith(_HEAD, begin)
        yield begin, end, data[begin : quote + 1] if ours else b""
        begin = end


def decode_own(data: bytes, head: bytes) -> Iterator[LogLine | None]:
    """The lines of one execution among whole lines of a task; None for a damaged one of its."""
    begin = _next(data, head, 0)
    while begin >= 0:
        end = data.find(b"\n", begin) + 1 or len(data)
        line = data[begin:end]
        if not is_tombstone(line):
            yield _decode(line)
        begin = _next(data, head, end)


def last_own(data: bytes, head: bytes) -> LogLine | None:
    """The last line of one execution among whole lines that can be read."""
    end = len(data)
    while end > 0:
        begin = data.rfind(b"\n" + head, 0, end) + 1
        for line in decode_own(data[begin:end], head):
            if line is not None:
                return line
        end = begin
    return None


def file_header(began_ns: int) -> bytes:
    """The first line of a file."""
    return b'{"began_ns":%d}\n' % began_ns


def began_of(line: bytes) -> int | None:
    """When a file began, as its first line says."""
    try:
        return _HEADER_DECODER.decode(line).began_ns
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _next(data: bytes, head: bytes, begin: int) -> int:
    """Where the next line with this head begins, or -1."""
    if data.startswith(head, begin):
        return begin
    found = data.find(b"\n" + head, max(0, begin - 1))
    return found + 1 if found >= 0 else -1


def _decode(line: bytes) -> LogLine | None:
    try:
        return _DECODER.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()

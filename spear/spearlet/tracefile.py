"""The file that a deterministic run is recorded in, and the comparison with another run.

The rule: pure, but for the lines that are given and taken. JSON lines: a head that says what was
run, by digests, so that no secret is in it; an array a step; a last line with the end. A file
without its last line is one whose recording did not finish, and is read up to there.
"""

from __future__ import annotations

import hashlib
import json

from spear._core.trace import KINDS, Step
from spear.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, TextIO

FORMAT = 1
LINE_MAX = 64 << 10  # characters; ours have under 2,000
_DIGESTED = ("args", "env", "stdin")  # of which only sha256 is recorded
COLUMNS = ("number", "kind", "guest", "now_ns", "fuel", "detail", "digest")


class Trace:
    """A recorded run: its head, its steps and, where the recording finished, its end."""

    __slots__ = ("end", "head", "steps")

    def __init__(self, head: dict[str, Any], steps: list[Step], end: dict[str, Any] | None) -> None:
        self.head, self.steps, self.end = head, steps, end


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def head_of(
    *, engine: str, module: str, seed: int, args: Sequence[str], env: Mapping[str, str],
    stdin: bytes, limits: Mapping[str, int | None],
) -> dict[str, Any]:  # fmt: skip
    """What decides a run. `module` is the sha256 of its bytes."""
    return {
        "trace": FORMAT, "engine": engine, "module": module, "seed": seed,
        "args": digest_of("\0".join(args).encode("utf-8", "surrogateescape")),
        "env": digest_of(json.dumps(dict(env)).encode()),
        "stdin": digest_of(stdin), "limits": dict(limits), "columns": list(COLUMNS),
    }  # fmt: skip


def head_line(head: Mapping[str, Any]) -> str:
    return _dumped(dict(head))


def step_line(step: Step) -> str:
    return _dumped([
        step.number, step.kind, step.guest, step.now_ns, step.fuel, f"{step.detail:016x}",
        f"{step.digest:016x}",
    ])  # fmt: skip


def end_of(steps: int, digest: int, status: str, output: bytes) -> dict[str, Any]:
    return {
        "end": status, "steps": steps, "digest": f"{digest:016x}", "output": digest_of(output),
    }  # fmt: skip


def end_line(end: Mapping[str, Any]) -> str:
    return _dumped(dict(end))


def _dumped(value: object) -> str:
    return json.dumps(value, separators=(",", ":")) + "\n"


def read(file: TextIO, name: str) -> Trace:
    """Raises InvalidArgument, which names the file and the line."""
    numbered = enumerate(_lines(file, name), 1)
    head = _head(next(numbered, (1, ""))[1], name)
    steps: list[Step] = []
    end = None
    for number, line in numbered:
        if end is not None:
            raise InvalidArgument(f"{name!r}, line {number}: nothing may follow the end")
        if not line.endswith("\n"):
            break  # the recording was cut off within a line
        found = _parsed(line, name, number)
        if isinstance(found, dict) and "end" in found:
            end = _end(found, name, number)
        else:
            steps.append(_step(found, len(steps) + 1, name, number))
    return Trace(head, steps, end)


def _lines(file: TextIO, name: str) -> Iterator[str]:
    number = 1
    while line := file.readline(LINE_MAX + 1):
        if len(line) > LINE_MAX:
            raise InvalidArgument(
                f"{name!r}, line {number}: longer than the {LINE_MAX} characters a trace's may have"
            )
        yield line
        number += 1


def _parsed(line: str, name: str, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{name!r}, line {number}: not JSON: {error}") from None


def _head(line: str, name: str) -> dict[str, Any]:
    found = _parsed(line, name, 1) if line else None
    if not isinstance(found, dict) or "trace" not in found:
        raise InvalidArgument(f"{name!r} is no trace: its first line must say which format it has")
    if found["trace"] != FORMAT:
        raise InvalidArgument(
            f"{name!r} is a trace of format {found['trace']!r}, this build reads {FORMAT}"
        )
    seed = found.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 64:
        raise InvalidArgument(f"{name!r}, line 1: a seed of 64 bits was expected, found {seed!r}")
    return found


def _step(found: Any, expected: int, name: str, line: int) -> Step:
    try:
        number, kind, guest, now_ns, fuel, detail, digest = found
        if number != expected:
            raise ValueError(f"step {expected} was expected, found {number!r}")
        numbers = (guest, now_ns, fuel)
        if not all(type(value) is int and 0 <= value < 1 << 64 for value in numbers):
            raise ValueError(f"numbers of 64 bits were expected, found {numbers}")
        if kind not in KINDS[1:]:
            raise ValueError(f"kind {kind!r} is not known: {', '.join(KINDS[1:])} are")
        bits = (_bits(detail), _bits(digest))
        return Step(number, KINDS.index(kind, 1), guest, now_ns, fuel, *bits)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"{name!r}, line {line}: no step: {error}") from None


def _end(found: dict[str, Any], name: str, line: int) -> dict[str, Any]:
    shape = {"end": str, "steps": int, "digest": str, "output": str}
    if {key: type(value) for key, value in found.items()} != shape:
        raise InvalidArgument(
            f"{name!r}, line {line}: no end: {', '.join(shape)} were expected, found {found}"
        )
    return found


def _bits(text: Any) -> int:
    if not isinstance(text, str) or len(text) != 16 or not text.isalnum():
        raise ValueError(f"16 hex digits were expected, found {text!r}")
    return int(text, 16)


def differing(recorded: Mapping[str, Any], head: Mapping[str, Any]) -> Iterator[str]:
    """What of the inputs is not as it was recorded, a sentence each."""
    for key in [*head, *(recorded.keys() - head.keys())]:
        was, found = recorded.get(key), head.get(key)
        if was == found:
            continue
        if isinstance(found, dict) and isinstance(was, dict):
            for part in [*found, *(was.keys() - found.keys())]:
                if was.get(part) != found.get(part):
                    yield f"limit {part} was {was.get(part)}, now it is {found.get(part)}"
        elif key in _DIGESTED:
            yield f"{key} is not what it was"
        else:
            yield f"{key} was {was}, now it is {found}"


def difference(trace: Trace, number: int, found: Step | None) -> str:
    """The first step that is not as recorded, both sides of it."""
    recorded = trace.steps[number - 1] if number <= len(trace.steps) else None
    if recorded is None and trace.end is None:
        return f"the recording stops after step {len(trace.steps)}: it did not finish"
    return (
        f"the replay differs at step {number}\n"
        f"    recorded  {_shown(recorded)}\n"
        f"    replayed  {_shown(found)}"
    )


def end_difference(trace: Trace, end: Mapping[str, Any]) -> str:
    """Of the ends, where all steps were as recorded; "" if there is none."""
    if trace.end == end:
        return ""
    if trace.end is None:
        return (
            f"the recording stops after step {len(trace.steps)}, where the replay ended: its own "
            "end is missing and was not compared"
        )
    wrong = "; ".join(
        f"{key} was {trace.end[key]}, now it is {end[key]}"
        for key in end
        if trace.end[key] != end[key]
    )
    return f"the replay differs at the end: {wrong}"


def _shown(step: Step | None) -> str:
    if step is None:
        return "(the run had ended)"
    who = f"{step.kind} of guest {step.guest}" if step.guest else "the clock went on"
    return (
        f"{who} at {step.now_ns / 1e6:.6f} ms, fuel {step.fuel}, "
        f"detail {step.detail:016x}, digest {step.digest:016x}"
    )

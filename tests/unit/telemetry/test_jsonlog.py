"""The system log: its lines, its batches, and what happens when it cannot be written."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from manual_clock import ManualClock

from spear.errors import InvalidArgument
from spear.telemetry.jsonlog import Descriptor, Log, began_of, open_log
from spear.telemetry.redact import Redactor
from spear.telemetry.rotating import Limits, RotatingFile

TIME = "2023-11-14T22:13:20.000Z"


class Lines:
    """A target in memory that may be full."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.full = self.closed = False

    def write(self, lines: bytes) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.writes.append(lines)

    def close(self) -> None:
        self.closed = True

    @property
    def parsed(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in b"".join(self.writes).splitlines()]


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def redactor() -> Redactor:
    return Redactor()


@pytest.fixture
def log(lines: Lines, clock: ManualClock, redactor: Redactor) -> Log:
    return open_log(lines, clock, redactor, node="n1")


class Turns:
    """A loop that runs what was scheduled when told to."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def turn(self) -> None:
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call()


def test_a_line_is_one_json_object_with_what_was_bound(log: Log, lines: Lines) -> None:
    log.bind(task="t").info("task registered", version=3)
    assert lines.parsed == [
        {"time": TIME, "level": "info", "event": "task registered", "node": "n1", "task": "t",
         "version": 3}
    ]  # fmt: skip


def test_lines_below_the_level_are_not_made(
    lines: Lines, clock: ManualClock, redactor: Redactor
) -> None:
    log = open_log(lines, clock, redactor, level="warn").bind(a=1)
    log.trace("a")
    log.debug("a")
    log.info("a")
    log.warn("b")
    log.error("c")
    assert [line["event"] for line in lines.parsed] == ["b", "c"]


@pytest.mark.parametrize("wrong", [{"level": "loud"}, {"form": "xml"}])
def test_unknown_words_are_refused(
    lines: Lines, clock: ManualClock, redactor: Redactor, wrong: dict[str, str]
) -> None:
    with pytest.raises(InvalidArgument, match="expected"):
        open_log(lines, clock, redactor, **wrong)  # type: ignore[arg-type]


def test_lines_of_one_turn_leave_in_one_write(
    lines: Lines, clock: ManualClock, redactor: Redactor
) -> None:
    loop = Turns()
    log = open_log(lines, clock, redactor, schedule=loop.waiting.append)
    for number in range(10):
        log.info("x", number=number)
    assert (lines.writes, len(loop.waiting)) == ([], 1)
    loop.turn()
    assert [line["number"] for line in lines.parsed] == list(range(10))
    assert len(lines.writes) == 1


def test_a_log_that_is_older_than_its_loop_writes_once_a_turn_from_then_on(
    lines: Lines, log: Log
) -> None:
    loop = Turns()
    log.info("before")
    log.leave_by(loop.waiting.append)
    log.info("one")
    log.info("two")
    assert len(lines.writes) == 1
    loop.turn()
    assert len(lines.writes) == 2
    assert [line["event"] for line in lines.parsed] == ["before", "one", "two"]


def test_a_full_batch_an_error_and_the_end_do_not_wait(
    lines: Lines, clock: ManualClock, redactor: Redactor
) -> None:
    log = open_log(lines, clock, redactor, schedule=lambda call: None)
    for _ in range(64):
        log.info("x")
    assert len(lines.parsed) == 64
    log.info("y")
    log.error("z")
    assert len(lines.parsed) == 66
    log.info("last")
    log.close()
    assert lines.parsed[-1]["event"] == "last"
    assert lines.closed


def test_a_loop_that_is_closed_holds_nothing_back(
    lines: Lines, clock: ManualClock, redactor: Redactor
) -> None:
    def closed(call: Callable[[], None]) -> None:
        raise RuntimeError("Event loop is closed")

    open_log(lines, clock, redactor, schedule=closed).info("x")
    assert len(lines.parsed) == 1


def test_lines_that_could_not_be_written_are_counted_and_told(log: Log, lines: Lines) -> None:
    lines.full = True
    for _ in range(3):
        log.info("lost")
    assert log.lost == 3
    lines.full = False
    log.info("there is room")
    log.info("and more")
    assert [line["event"] for line in lines.parsed] == [
        "log lines lost", "there is room", "and more",
    ]  # fmt: skip
    assert lines.parsed[0] | {"time": ""} == {
        "time": "", "level": "warn", "event": "log lines lost", "lost": 3,
        "reason": "[Errno 28] No space left on device",
    }  # fmt: skip
    assert log.lost == 3


def test_no_value_raises_into_the_caller(log: Log, lines: Lines) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("not today")

    loop: list[Any] = []
    loop.append(loop)
    log.info("a", value=Broken())
    log.info(
        "b", huge=1 << 80, bytes=b"\xff", half="\ud800", nan=float("nan"), itself=loop,
        keys={1: {"set": {2}}}, long="x" * 100_000, many=range(3), items=list(range(1000)),
    )  # fmt: skip
    first, second = lines.parsed
    assert (first["event"], first["lost"]) == ("log lines lost", 1)
    assert (second["huge"], second["half"], second["nan"]) == (str(1 << 80), "\\ud800", None)
    assert second["keys"] == {"1": {"set": [2]}}
    assert (len(second["long"]) < 17_000, len(second["items"])) == (True, 64)


def test_an_error_says_its_type_and_a_failure_where(log: Log, lines: Lines) -> None:
    try:
        raise ValueError("wrong")
    except ValueError as error:
        log.error("a", error=error)
        log.failure("b", error, task="t")
    first, second = lines.parsed
    assert first["error"] == second["error"] == "ValueError: wrong"
    assert "test_jsonlog.py" in second["traceback"]
    assert second["task"] == "t"


def test_secrets_are_taken_out_of_every_part(log: Log, lines: Lines, redactor: Redactor) -> None:
    redactor.learn("TOKEN", 's3"cret')
    log.bind(a='s3"cret').info('an s3"cret', b=['s3"cret'], c={'s3"cret': 's3"cret'},
                               d=ValueError('s3"cret'))  # fmt: skip
    text = lines.writes[0].decode()
    assert "cret" not in text.replace("redacted", "")
    assert text.count("[redacted:TOKEN]") == 6


def test_nothing_in_a_line_steers_a_terminal(
    lines: Lines, clock: ManualClock, redactor: Redactor
) -> None:
    evil = "\x1b[31m\r\n\x9b\u202e"
    for form in ("json", "console"):
        open_log(lines, clock, redactor, form=form).info(evil, value=evil)
    for write in lines.writes:
        text = write.decode()
        assert text.endswith("\n")
        assert text[:-1].isprintable()


def test_the_console_format_is_for_people(
    lines: Lines, clock: ManualClock, redactor: Redactor
) -> None:
    log = open_log(lines, clock, redactor, form="console")
    log.warn("task is slow", task="a b", ms=12, name="plain", empty="")
    line = lines.writes[0].decode()
    assert line == f'{TIME} WARN  task is slow task="a b" ms=12 name=plain empty=""\n'
    assert began_of(line.encode()) == clock.time_ns


def test_it_rotates_in_a_file_and_the_age_is_that_of_its_lines(
    tmp_path: Path, clock: ManualClock, redactor: Redactor
) -> None:
    path = str(tmp_path / "spear.log")
    file = RotatingFile(path, Limits(300, 2, 10**12), clock, began_of)
    log = open_log(file, clock, redactor)
    for number in range(20):
        log.info("event", number=number)
    log.close()
    assert len(os.listdir(tmp_path)) == 3
    assert began_of(Path(path).read_bytes()) == clock.time_ns
    clock.advance(2 * 10**12)
    assert RotatingFile(path, Limits(300, 2, 10**12), clock, began_of).sweep() == 3


def test_a_descriptor_stays_open_and_a_closed_one_harms_nobody(
    clock: ManualClock, redactor: Redactor
) -> None:
    reader, writer = os.pipe()
    log = open_log(Descriptor(writer), clock, redactor)
    log.info("x")
    log.close()
    assert json.loads(os.read(reader, 1000))["event"] == "x"
    os.close(reader)
    log.info("y")
    assert log.lost == 1
    os.close(writer)


def test_threads_may_log_at_once(lines: Lines, clock: ManualClock, redactor: Redactor) -> None:
    log = open_log(lines, clock, redactor, schedule=lambda call: None)
    threads = [
        threading.Thread(target=lambda: [log.info("x") for _ in range(500)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.flush()
    assert len(lines.parsed) == 2000

"""Lines of a task's log against logging with a JSON formatter and structlog, on one vCPU.

Rule: every contender writes the same fields to a file of its own, and each line is in the operating
system's hands when the figure is taken. Ours takes lines as a run gives them, 64 at a time or one
by one; the others have no batches. Times are the thread's own, kernel included: neighbours on the
machine and the disk's flusher are not in them.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.report import interleaved, record
from spear.clock import Clock
from spear.spearlet.logs.store import LogLimits, LogStore
from spear.telemetry.jsonlog import Log, began_of, open_log
from spear.telemetry.redact import Redactor
from spear.telemetry.rotating import Limits, RotatingFile

HAS_STRUCTLOG = importlib.util.find_spec("structlog") is not None
EXECUTION, TASK, INSTANCE, NODE = "0197f1f0-aaaa-7bbb-8ccc-0123456789ab", "planner", "i1", "node-1"
MESSAGE = "step 17 of the plan is done, took 12 ms and used 3 tools"
LINES = 64 * 200
BATCH = 64

pytestmark = pytest.mark.usefixtures("pinned")
Line = Callable[[int], object]


def each_line_us(action: Callable[[int], object], count: int, lines: int = 1) -> float:
    """Microseconds a line, of `count` calls that take `lines` each."""
    began = time.thread_time_ns()
    for number in range(count):
        action(number)
    return (time.thread_time_ns() - began) / (count * lines) / 1e3


def store_in(folder: Path, redactor: Redactor) -> LogStore:
    log = open_log(RotatingFile(str(folder / "system.log"), Limits(1 << 20, 1), Clock(), began_of),
                   Clock(), redactor)  # fmt: skip
    return LogStore(str(folder), NODE, LogLimits(), Clock(), redactor, log)


@pytest.fixture
def files() -> Iterator[ExitStack]:
    """What is open until the test ends."""
    with ExitStack() as stack:
        yield stack


def ours(folder: Path, files: ExitStack, secrets: int, batch: int) -> Callable[[], float]:
    redactor = Redactor()
    for number in range(secrets):
        redactor.learn(f"SECRET_{number}", f"a-secret-of-some-length-{number}")
    store = store_in(folder / f"{secrets}-{batch}", redactor)
    files.callback(store.close)
    sink = store.sink(EXECUTION, TASK, INSTANCE)
    seqs = itertools.count(1)

    def lines() -> list[SimpleNamespace]:
        now_ms = time.time_ns() // 10**6
        return [
            SimpleNamespace(seq=next(seqs), time_ms=now_ms, level=2, stream="log", message=MESSAGE)
            for _ in range(batch)
        ]

    def once() -> float:
        count = LINES // batch if batch > 1 else LINES // 8
        made = [lines() for _ in range(count)]
        return each_line_us(lambda number: sink.append(made[number]), count, batch)

    return once


def fields(seq: int) -> dict[str, object]:
    return {
        "execution_id": EXECUTION, "seq": seq, "stream": "log", "task": TASK,
        "instance_id": INSTANCE, "node": NODE,
    }  # fmt: skip


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time_ms": int(record.created * 1e3), "level": record.levelname,
                "message": record.getMessage(), **record.fields}  # fmt: skip
        return json.dumps(line)


def with_logging(folder: Path, files: ExitStack) -> Callable[[], float]:
    handler = logging.FileHandler(folder / "logging.jsonl")
    handler.setFormatter(JsonFormatter())
    files.callback(handler.close)
    logger = logging.Logger("bench")
    logger.addHandler(handler)
    return lambda: each_line_us(
        lambda seq: logger.info(MESSAGE, extra={"fields": fields(seq)}), LINES // 8
    )


def structlog_at(path: Path, files: ExitStack) -> object:
    """As its documentation has it for speed: bytes, a filtering logger, a fast encoder."""
    import structlog

    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    dump = structlog.processors.JSONRenderer(lambda line, **_: msgspec.json.encode(line))
    return structlog.wrap_logger(
        structlog.BytesLogger(files.enter_context(path.open("ab"))),
        processors=[structlog.processors.add_log_level, stamp, dump],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )


def with_structlog(folder: Path, files: ExitStack) -> Callable[[], float]:
    logger = structlog_at(folder / "structlog.jsonl", files).bind()
    return lambda: each_line_us(lambda seq: logger.info(MESSAGE, **fields(seq)), LINES // 8)


def floor(folder: Path, files: ExitStack) -> Callable[[], float]:
    """Encoding and one write a batch, without anything around it."""
    encoder = msgspec.json.Encoder()
    file = files.enter_context((folder / "floor.jsonl").open("ab", buffering=0))

    def batch(number: int) -> None:
        lines = [
            {"time_ms": number, "level": "info", "message": MESSAGE, **fields(number + n)}
            for n in range(BATCH)
        ]
        file.write(encoder.encode_lines(lines))

    return lambda: each_line_us(batch, LINES // BATCH, BATCH)


def test_lines_in_batches(benchmark, tmp_path, files):
    contenders = {
        "spear": ours(tmp_path, files, 0, BATCH),
        "2 us": lambda: 2.0,
        "msgspec and write alone": floor(tmp_path, files),
        "ours, 16 secrets known": ours(tmp_path, files, 16, BATCH),
        "logging.FileHandler, JSON": with_logging(tmp_path, files),
    }
    if HAS_STRUCTLOG:
        contenders["structlog, msgspec"] = with_structlog(tmp_path, files)
    values = interleaved(benchmark, contenders)
    record(
        "a line of a task's log, in batches of 64, one vCPU",
        values.pop("spear"),
        "us",
        values,
        {"2 us": ("<=", 1.0), "logging.FileHandler, JSON": ("<=", 0.2)},
        note="numbered, indexed, checked for secrets and in the file before readers are told",
    )


def test_lines_one_by_one(benchmark, tmp_path, files):
    contenders = {
        "spear": ours(tmp_path, files, 0, 1),
        "logging.FileHandler, JSON": with_logging(tmp_path, files),
    }
    if HAS_STRUCTLOG:
        contenders["structlog, msgspec"] = with_structlog(tmp_path, files)
    values = interleaved(benchmark, contenders)
    record(
        "a line of a task's log, one by one, one vCPU",
        values.pop("spear"),
        "us",
        values,
        {"logging.FileHandler, JSON": ("<=", 1.0)},
        note="one write() a line for all",
    )


def system_log(folder: Path) -> tuple[Log, list[Callable[[], None]]]:
    turns: list[Callable[[], None]] = []
    file = RotatingFile(str(folder / "node.log"), Limits(64 << 20, 4), Clock(), began_of)
    return open_log(file, Clock(), Redactor(), schedule=turns.append, node=NODE), turns


def test_system_log(benchmark, tmp_path, files):
    log, turns = system_log(tmp_path)
    files.callback(log.close)

    def spear() -> float:
        def line(seq: int) -> None:
            log.info(MESSAGE, execution_id=EXECUTION, status="completed", duration_ns=seq)
            if seq % BATCH == BATCH - 1:
                turns.pop()()

        return each_line_us(line, LINES // 8)

    contenders = {"spear": spear, "logging.FileHandler, JSON": with_logging(tmp_path, files)}
    if HAS_STRUCTLOG:
        contenders["structlog, msgspec"] = with_structlog(tmp_path, files)
    values = interleaved(benchmark, contenders)
    record(
        "a line of the system log, one vCPU",
        values.pop("spear"),
        "us",
        values,
        {"logging.FileHandler, JSON": ("<=", 0.5)},
        note="ours leave in one write a loop turn",
    )


@pytest.fixture
def many(tmp_path: Path, files: ExitStack) -> LogStore:
    """A task's log of 48 MiB of many executions, opened anew."""
    store = store_in(tmp_path, Redactor())
    now_ms = time.time_ns() // 10**6
    for number in range(5000):
        sink = store.sink(f"e{number}", TASK, INSTANCE)
        for at in range(1, 40, 10):
            sink.append([
                SimpleNamespace(seq=seq, time_ms=now_ms, level=2, stream="log", message=MESSAGE)
                for seq in range(at, at + 10)
            ])  # fmt: skip
        sink.finish()
    store.close()
    again = store_in(tmp_path, Redactor())
    files.callback(again.close)
    return again


def test_one_log_of_many(benchmark, many, tmp_path):
    numbers = itertools.cycle(range(7, 5000, 131))

    def indexed() -> float:
        began = time.thread_time_ns()
        for _ in range(10):
            assert sum(map(len, many.read(f"e{next(numbers)}", TASK))) == 40
        return (time.thread_time_ns() - began) / 10 / 1e6

    def scanned() -> float:
        head = b'{"execution_id":"e%d"' % next(numbers)
        began = time.thread_time_ns()
        found = [
            msgspec.json.decode(line)
            for path in (tmp_path / TASK).glob("*.jsonl")
            for line in path.read_bytes().splitlines()
            if line.startswith(head)
        ]
        assert len(found) == 40
        return (time.thread_time_ns() - began) / 1e6

    values = interleaved(benchmark, {"spear": indexed, "reading all lines": scanned})
    record(
        "the log of one execution among 5,000 of its task (40 lines each), one vCPU",
        values.pop("spear"),
        "ms",
        values,
        {"reading all lines": ("<=", 0.1)},
        note="found by the index beside each file",
    )

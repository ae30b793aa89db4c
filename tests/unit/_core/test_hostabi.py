"""Module `spear`: time, randomness, sleep, log, and the calls that this build does not serve."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import wasm_asm as asm
from guest_runs import MS, assembled, ended, executor, guest, logged

from spear._core.engine import host_imports
from spear._core.executor import Executor

EFAULT, EINVAL, ENOSYS = -14, -22, -38
PAGE = 65536
EXIT = (asm.WASI, "proc_exit", "i", "")
LOG = ("spear", "log", "iii", "i")


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


def test_time_randomness_and_sleep(node: Executor):
    before = time.time_ns() // MS
    run = node.start(guest("clock"), args=("clock", "30"))
    assert ended(run).exit_code == 0
    now_ms, now_s, one, other, elapsed_ms = map(int, run.output.split())
    assert before <= now_ms <= time.time_ns() // MS
    assert now_s - now_ms // 1000 in (0, 1)
    assert one != other
    assert elapsed_ms >= 29


def test_random_values_use_all_their_bits(node: Executor):
    seen = 0
    for _ in range(20):
        run = node.start(guest("clock"), args=("clock", "0"))
        ended(run)
        seen |= int(run.output.split()[2]) & (2**64 - 1)
    assert seen.bit_count() > 56


@pytest.mark.parametrize("inline", [False, True], ids=["worker", "inline"])
def test_the_log_guest_finds_every_answer_right(node: Executor, inline: bool):
    run = node.start(guest("log_errors"), inline=inline)
    assert ended(run).exit_code == 0, run.output
    lines = run.read_logs()
    assert [line.message for line in lines] == [
        "plain", "level -1", "level 99", "a\ufffd\ufffdb", "a\0b\nc", "",
        "." * 16384, "brink",
    ]  # fmt: skip
    assert [line.level for line in lines] == [3, 2, 2, 2, 2, 2, 2, 2]
    assert {line.stream for line in lines} == {"log"}


@pytest.mark.parametrize("level", [0, 1, 2, 3, 4])
def test_each_level_is_kept(node: Executor, level: int):
    body = b"".join(map(asm.i32_const, (level, 16, 2))) + asm.call(0) + asm.call(1)
    run = node.start(assembled(asm.module([LOG, EXIT], body, data=[(16, b"hi")])))
    assert ended(run).exit_code == 0
    assert [(line.level, line.message) for line in run.read_logs()] == [(level, "hi")]


@pytest.mark.parametrize(
    ("at", "size", "code"),
    [
        (0, 0, 0), (PAGE, 0, 0), (PAGE + 1, 0, EFAULT), (-1, 0, EFAULT), (PAGE - 1, 1, 0),
        (PAGE - 1, 2, EFAULT), (0, 16384, 0), (0, 16385, EINVAL), (-1, 16385, EINVAL),
        (2**31 - 1, 16384, EFAULT), (-(2**31), 1, EFAULT), (0, -1, EINVAL),
    ],
)  # fmt: skip
def test_pointers_and_lengths_of_log(node: Executor, at: int, size: int, code: int):
    body = b"".join(map(asm.i32_const, (2, at, size))) + asm.call(0) + asm.call(1)
    run = node.start(assembled(asm.module([LOG, EXIT], body)))
    assert ended(run).exit_code == code
    assert len(run.read_logs()) == (code == 0)


def test_pointers_are_checked_against_the_memory_as_it_is_now(node: Executor):
    grow = asm.i32_const(1) + b"\x40\x00" + asm.DROP
    log = b"".join(map(asm.i32_const, (2, PAGE, 4))) + asm.call(0)
    body = log + asm.DROP + grow + log + asm.call(1)
    run = node.start(assembled(asm.module([LOG, EXIT], body)))
    assert ended(run).exit_code == 0
    assert [line.message for line in run.read_logs()] == ["\0" * 4]


def test_unserved_calls_answer_enosys_and_warn_once_each(node: Executor):
    run = node.start(guest("unserved"))
    assert ended(run).exit_code == 0, run.output
    answers = dict(line.split() for line in run.output.decode().splitlines())
    assert len(answers) == 9
    assert set(answers.values()) == {str(ENOSYS)}
    warnings = [line for line in run.read_logs() if line.stream == "log"]
    assert {line.level for line in warnings} == {3}
    assert {line.message.split()[0] for line in warnings} == {f"spear.{name}" for name in answers}
    assert len(warnings) == 9


UNSERVED = sorted(name for (_, name), (_, served) in host_imports().items() if not served)


@pytest.mark.parametrize("name", UNSERVED)
def test_an_unserved_call_warns_once_however_often_it_is_made(node: Executor, name: str):
    signature = host_imports()["spear", name][0]
    inside = signature.partition(" -> ")[0].strip("()")
    params = inside.replace("i32", "i").replace("i64", "I").replace(", ", "")
    consts = b"".join(asm.i64_const(-1) if p == "I" else asm.i32_const(-1) for p in params)
    row = ("spear", name, params, "i")
    body = (consts + asm.call(0) + asm.DROP) * 3 + consts + asm.call(0) + asm.call(1)
    run = node.start(assembled(asm.module([row, EXIT], body)))
    assert ended(run).exit_code == ENOSYS
    (warning,) = logged(run)
    assert warning.startswith(f"spear.{name} is not served")


SLEEP = ("spear", "sleep_ms", "i", "")


@pytest.mark.parametrize("ms", [0, 1, 20])
def test_a_sleep_takes_its_time(node: Executor, ms: int):
    run = node.start(assembled(asm.module([SLEEP], asm.i32_const(ms) + asm.call(0))))
    outcome = ended(run)
    assert outcome.status == "completed"
    assert outcome.duration_ns >= ms * MS


@pytest.mark.parametrize("ms", [-1, -(2**31), 2**31 - 1])
def test_a_sleep_without_an_end_is_ended_at_the_deadline(node: Executor, ms: int):
    wasm = asm.module([SLEEP], asm.i32_const(ms) + asm.call(0))
    assert ended(node.start(assembled(wasm), timeout_ns=40 * MS)).cause == "deadline"


def test_many_short_sleeps_are_not_lost(node: Executor):
    """Each is a park and a wake-up; one that is lost hangs until the deadline."""
    wasm = asm.module([SLEEP], (asm.i32_const(1) + asm.call(0)) * 30)
    runs = [node.start(assembled(wasm)) for _ in range(40)]
    assert {ended(run).cause for run in runs} == {"exit"}


@pytest.mark.parametrize(
    "name", ["time_now_ms", "wall_time_s", "random_i64", "cchat_create", "sleep_ms"]
)
def test_a_guest_that_only_calls_the_host_is_ended(node: Executor, name: str):
    """Every hostcall looks whether the end was asked for."""
    row = {
        "cchat_create": ("spear", name, "", "i"), "sleep_ms": SLEEP,
    }.get(name, ("spear", name, "", "I"))  # fmt: skip
    once = asm.i32_const(0) + asm.call(0) if name == "sleep_ms" else asm.call(0) + asm.DROP
    wasm = asm.module([row], asm.LOOP + once + asm.BR_0 + asm.END)
    run = node.start(assembled(wasm))
    run.wait(0.02)
    assert run.cancel()
    assert ended(run).cause == "cancelled"
    assert ended(node.start(assembled(wasm), timeout_ns=30 * MS)).cause == "deadline"

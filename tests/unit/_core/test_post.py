"""Calls that Python answers, from the guest's side: arguments, results, limits, ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import wasm_asm as asm
from guest_runs import HANG_S, MS, ended, executor, logged
from trial_runs import (
    EFAULT,
    EINVAL,
    EIO,
    ENOENT,
    ENOSPC,
    ENOSYS,
    EXIT,
    OPS,
    PAGE,
    TRIAL,
    adding,
    calling,
    echoing,
    trial_engine,
    u32,
)

from spear._core.executor import Executor
from spear._core.trial import BYTES_MAX


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


def answered(node: Executor, name: str, *values: int, by: Any, **more: Any) -> int:
    """What the call gave the guest, as its exit code."""
    node.serve({OPS[name]: by})
    outcome = ended(node.start(calling(name, *values, **more)))
    assert outcome.cause == "exit", outcome
    return outcome.exit_code


# ---- results


@pytest.mark.parametrize("status", [0, 1, 2**31 - 1, -1, ENOENT, -(2**31)])
def test_a_status_is_the_calls_result(node: Executor, status: int):
    assert answered(node, "pause", by=lambda call: status) == status


@pytest.mark.parametrize("inline", [False, True], ids=["worker", "inline"])
def test_a_handler_is_given_the_arguments(node: Executor, inline: bool):
    seen = []
    node.serve({OPS["mixed"]: lambda call: seen.append((call.name, call.op, call.args)) or 0})
    data = [(8, b"first"), (100, b"\0second\xff")]
    module = calling("mixed", -3, -(2**63), 8, 5, 100, 8, data=data)
    assert ended(node.start(module, inline=inline)).exit_code == 0
    assert seen == [("spear_trial.mixed", OPS["mixed"], (-3, -(2**63), b"first", b"\0second\xff"))]


def test_arguments_are_copied_before_the_guest_goes_on(node: Executor):
    """Two calls with one buffer: what the first handler kept does not change."""
    seen: list[bytes] = []
    node.serve({OPS["echo"]: lambda call: seen.append(call.args[0]) or 0})
    echo = b"".join(map(asm.i32_const, (0, 4, 16, 12))) + asm.call(0)
    body = echo + asm.DROP + asm.i32_store(0, 0x21212121) + echo + asm.call(1)
    row = (TRIAL, "echo", "iiii", "i")
    module = trial_engine().load(asm.module([row, EXIT], body, data=[(0, b"abcd")]))
    assert ended(node.start(module)).exit_code == 0
    assert seen == [b"abcd", b"!!!!"]


OUT, LEN = 1000, 900


def echoed(node: Executor, text: bytes, room: int, by: Any = echoing) -> tuple[int, bytes, int]:
    """(result, what stands at OUT, what stands at LEN) of one echo."""
    node.serve({OPS["echo"]: by})
    fd_write = (asm.WASI, "fd_write", "iiii", "i")
    echo = b"".join(map(asm.i32_const, (4096, len(text), OUT, LEN))) + asm.call(0)
    write = b"".join(map(asm.i32_const, (1, 800, 1, 808))) + asm.call(2) + asm.DROP
    body = asm.i32_const(820) + echo + b"\x36\x02\x00" + write + asm.i32_load(820) + asm.call(1)
    wasm = asm.module(
        [(TRIAL, "echo", "iiii", "i"), EXIT, fd_write], body,
        data=[(4096, text), (LEN, u32(room)), (800, u32(LEN) + u32(400))],
    )  # fmt: skip
    run = node.start(trial_engine().load(wasm))
    result = ended(run).exit_code
    return result, run.output[OUT - LEN :], int.from_bytes(run.output[:4], "little")


@pytest.mark.parametrize("room", [5, 6, 200])
def test_bytes_out_that_fit_are_copied_and_counted(node: Executor, room: int):
    result, out, size = echoed(node, b"hello", room)
    assert (result, out[:5], size) == (5, b"hello", 5)
    assert not any(out[5:])


@pytest.mark.parametrize("room", [0, 1, 4])
def test_bytes_out_that_do_not_fit_leave_only_their_size(node: Executor, room: int):
    result, out, size = echoed(node, b"hello", room)
    assert (result, any(out), size) == (ENOSPC, False, 5)


def test_no_bytes_out_are_bytes_of_size_zero(node: Executor):
    assert echoed(node, b"", 10)[::2] == (0, 0)


def test_an_error_writes_nothing(node: Executor):
    result, out, size = echoed(node, b"hello", 50, by=lambda call: (ENOENT, b"lost"))
    assert (result, any(out), size) == (ENOENT, False, 50)


def test_a_status_above_zero_stands_beside_its_bytes(node: Executor):
    result, out, size = echoed(node, b"hello", 50, by=lambda call: (3, b"abcdefgh"))
    assert (result, out[:8], size) == (3, b"abcdefgh", 8)


def test_a_handler_is_told_the_room(node: Executor):
    assert echoed(node, b"", 321, by=lambda call: (call.args[1], b""))[0] == 321


def test_bytes_go_in_and_out_of_one_place(node: Executor):
    seen = []
    node.serve({OPS["control"]: lambda call: seen.append(call.args) or b"pong"})
    module = calling("control", 9, 8, 64, 60, data=[(60, u32(5)), (64, b"ping!")])
    assert ended(node.start(module)).exit_code == 4
    assert seen == [(9, 8, b"ping!")]


def test_bytes_for_a_call_without_room_are_dropped(node: Executor):
    assert answered(node, "add", 1, 2, by=lambda call: (7, b"nobody asked")) == 7


# ---- pointers: refused before anything is posted

NEAR = PAGE - 4
WILD = [
    ("echo", (PAGE - 2, 3, 0, 0)),
    ("echo", (-1, 1, 0, 0)),
    ("echo", (0, -1, 0, 0)),
    ("echo", (-(2**31), 2**31 - 1, 0, 0)),
    ("echo", (PAGE + 1, 0, 0, 0)),
    ("echo", (0, 0, 0, PAGE - 3)),
    ("echo", (0, 0, 0, -4)),
    ("echo", (0, 0, NEAR, 8)),  # five bytes of room stand at 8
    ("echo", (0, 0, -1, 8)),
    ("echo", (0, 0, 16, 12)),  # room of 4 GiB stands at 12
    ("control", (0, 0, NEAR, 8)),
    ("control", (0, 0, 0, PAGE - 1)),
    ("control", (0, 0, 16, 12)),
    ("mixed", (0, 0, 0, 1, PAGE, 1)),
    ("mixed", (0, 0, PAGE, 1, 0, 1)),
]


@pytest.mark.parametrize(("name", "values"), WILD)
def test_a_wild_pointer_is_refused_and_posts_nothing(node: Executor, name: str, values: Any):
    called = []
    data = [(8, u32(5)), (12, u32(2**32 - 1))]
    assert answered(node, name, *values, by=called.append, data=data) == EFAULT
    assert called == []


@pytest.mark.parametrize(
    ("name", "values"),
    [("echo", (NEAR, 4, NEAR, 16)), ("echo", (PAGE, 0, 0, NEAR)), ("control", (0, 0, NEAR, 20))],
)
def test_the_last_bytes_of_memory_are_inside(node: Executor, name: str, values: Any):
    data = [(16, u32(4)), (20, u32(4))]
    assert answered(node, name, *values, by=lambda call: 0, data=data) == 0


def test_a_guest_without_memory_gets_efault(node: Executor):
    node.serve({OPS["echo"]: echoing})
    body = b"".join(map(asm.i32_const, (0, 0, 0, 0))) + asm.call(0) + asm.call(1)
    wasm = asm.module([(TRIAL, "echo", "iiii", "i"), EXIT], body, memory_name="heap")
    assert ended(node.start(trial_engine().load(wasm))).exit_code == EFAULT


def large(name: str, *values: int) -> Any:
    body = b"".join(map(asm.i32_const, values)) + asm.call(0) + asm.call(1)
    row = (TRIAL, name, "iiii", "i")
    return trial_engine().load(asm.module([row, EXIT], body, pages=40, data=[(8, u32(0))]))


@pytest.mark.parametrize(("size", "code"), [(BYTES_MAX, 0), (BYTES_MAX + 1, EINVAL)])
def test_the_bytes_of_one_call_are_limited(node: Executor, size: int, code: int):
    sizes: list[int] = []
    node.serve({OPS["echo"]: lambda call: sizes.append(len(call.args[0])) or 0})
    assert ended(node.start(large("echo", 100, size, 0, 8))).exit_code == code
    assert sizes == ([size] if code == 0 else [])


def test_the_limit_is_of_all_arguments_together(node: Executor):
    body = b"".join((
        asm.i32_const(0), asm.i64_const(0),
        *map(asm.i32_const, (0, BYTES_MAX // 2 + 1, 0, BYTES_MAX // 2)), asm.call(0), asm.call(1),
    ))  # fmt: skip
    wasm = asm.module([(TRIAL, "mixed", "iIiiii", "i"), EXIT], body, pages=40)
    node.serve({OPS["mixed"]: lambda call: 0})
    assert ended(node.start(trial_engine().load(wasm))).exit_code == EINVAL


# ---- calls without a handler


@pytest.mark.parametrize("handlers", [None, {OPS["echo"]: echoing}])
def test_a_call_without_a_handler_answers_enosys_and_says_so_once(handlers: Any):
    with executor(handlers=handlers) as node:
        run = node.start(calling("add", 1, 2, times=3))
        assert ended(run).exit_code == ENOSYS
        assert logged(run) == ["spear_trial.add has no handler here: it answers -ENOSYS"]


def test_a_handler_may_come_later(node: Executor):
    assert ended(node.start(calling("add", 1, 2))).exit_code == ENOSYS
    assert answered(node, "add", 1, 2, by=adding) == 3


# ---- ends


def test_a_call_in_place_needs_no_handler(node: Executor):
    assert ended(node.start(calling("noop"))).exit_code == 0


def test_a_guest_that_waits_for_python_is_ended_at_its_deadline(node: Executor):
    import asyncio

    cancelled = []

    async def never(call: Any) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(call.gone)
        return 0

    node.serve({OPS["pause"]: never})
    assert ended(node.start(calling("pause"), timeout_ns=30 * MS)).cause == "deadline"
    node.close()
    assert cancelled == [True]


@pytest.mark.parametrize("name", ["noop", "add"])
def test_a_guest_that_only_calls_is_ended(node: Executor, name: str):
    node.serve({OPS["add"]: adding})
    params = "ii" if name == "add" else ""
    once = b"".join(map(asm.i32_const, [1] * len(params))) + asm.call(0) + asm.DROP
    loop = asm.LOOP + once + asm.BR_0 + asm.END
    module = trial_engine().load(asm.module([(TRIAL, name, params, "i")], loop))
    run = node.start(module)
    run.wait(0.02)
    assert run.cancel()
    assert ended(run).cause == "cancelled"
    assert ended(node.start(module, timeout_ns=30 * MS)).cause == "deadline"


def test_many_calls_of_many_guests(node: Executor):
    node.serve({OPS["add"]: adding})
    runs = [node.start(calling("add", n, 1, times=20)) for n in range(100)]
    assert [ended(run).exit_code for run in runs] == [n + 1 for n in range(100)]


def test_a_batch_posts_like_any_other(node: Executor):
    node.serve({OPS["add"]: adding})
    batch = node.run_many(calling("add", 20, 22), 400)
    assert set(batch.exit_codes) == {42}


def test_a_failed_handler_answers_eio_and_leaves_a_line(node: Executor):
    def fails(call: Any) -> int:
        raise ValueError("no such thing")

    node.serve({OPS["pause"]: fails})
    run = node.start(calling("pause"))
    assert run.wait(HANG_S)
    assert run.outcome.exit_code == EIO
    (line,) = run.read_logs()
    assert (line.level, line.message) == (4, "spear_trial.pause failed: ValueError: no such thing")

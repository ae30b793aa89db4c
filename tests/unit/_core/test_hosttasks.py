"""What a guest learns of tasks that it invoked without Python: waits, results, states."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from guest_runs import MS, ended, executor, logged
from handle_guests import (
    CANCEL,
    CREATE,
    EAGAIN,
    EBADF,
    EFAULT,
    EINVAL,
    EIO,
    ENOSPC,
    ETIMEDOUT,
    INVOKE,
    calls,
    gives,
    session,
    started,
)

from spear._core.door import Call
from spear._core.executor import Executor
from spear._core.handles import TASK_CALL, Handle

BEGIN = """(local.set $a (call $invoke (i32.const 4096) (i32.const 5) (i32.const 4103) (i32.const 5)
  (i32.const 3)))"""
ROOM = "(call $room (i32.const 100))"
RESULT = "(call $result (local.get $a) (i32.const 64) (i32.const 0))"
STATUS = "(call $status (local.get $a) (i32.const 64) (i32.const 0))"
CLOSE = "(call $leave (local.get $a))"


def wait(ms: int, fd: str = "(local.get $a)") -> str:
    return f"(call $wait {fd} (i32.const {ms}))"


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


def ended_call(status: int) -> object:
    def handler(call: Call) -> Handle:
        made = Handle(TASK_CALL)
        made.finish(status, b"output", b'{"status":"x"}')
        return made

    return handler


def test_what_is_invoked_is_told(node: Executor):
    asked = []
    made = calls()
    node.serve({INVOKE: lambda call: asked.append(call.args) or made(call)})
    assert gives(node, f"{BEGIN} (local.get $a)") == 1000
    assert asked == [(b"hello", b"world", 3)]


def test_a_refusal_is_a_number(node: Executor):
    node.serve({INVOKE: lambda call: -13})
    assert gives(node, f"{BEGIN} (local.get $a)") == -13


def test_a_call_that_has_not_ended_is_waited_for_in_vain(node: Executor):
    node.serve({INVOKE: calls()})
    body = f"{BEGIN} {ROOM} {wait(0)} {wait(1)} {RESULT} {STATUS}"
    assert gives(node, body, 4) == (ETIMEDOUT, ETIMEDOUT, EAGAIN, EAGAIN)


def test_a_call_that_has_ended_tells_all_and_again(node: Executor):
    node.serve({INVOKE: ended_call(0)})
    body = f"""{BEGIN} {wait(0)} {wait(-1)} {ROOM} {RESULT} (call $show) {ROOM} {STATUS} (call $show)
      (call $room (i32.const 5)) {RESULT} (i32.load (i32.const 0)) {RESULT}
      {RESULT.replace("(i32.const 64)", "(i32.const -1)")}
      {STATUS.replace("(i32.const 0))", "(i32.const -1))")}"""
    run = started(node, body, 11)
    assert ended(run).cause == "exit"
    assert run.value == (0, 0, 6, 0, 14, 0, ENOSPC, 6, 6, EFAULT, EFAULT)
    assert logged(run) == ["output", '{"status":"x"}']


def test_a_call_that_did_not_complete_has_a_state_and_no_result(node: Executor):
    node.serve({INVOKE: ended_call(EIO)})
    assert gives(node, f"{BEGIN} {ROOM} {wait(-1)} {RESULT} {STATUS}", 3) == (0, EIO, 14)


def test_a_closed_call_is_none(node: Executor):
    node.serve({INVOKE: ended_call(0)})
    body = f"{BEGIN} {CLOSE} {CLOSE} {ROOM} {RESULT} {STATUS} {wait(-1)} {wait(0)}"
    assert gives(node, body, 6) == (0, 0, EBADF, EBADF, EBADF, EBADF)


def test_another_kind_is_no_call(node: Executor):
    node.serve({CREATE: session, CANCEL: lambda call: 0})
    body = f"""(local.set $a (call $create)) {ROOM} {RESULT} {STATUS} {wait(-1)} {CLOSE}
      (call $cancel (local.get $a) (i32.const 0) (i32.const 0))
      (call $close (local.get $a)) (local.set $a (i32.const 77)) {CLOSE} {wait(-1)}"""
    assert gives(node, body, 8) == (EBADF, EBADF, EBADF, EBADF, EBADF, 0, EBADF, EBADF)


def test_a_cancel_reaches_the_handler_with_its_reason(node: Executor):
    got = []
    node.serve({INVOKE: calls(), CANCEL: lambda call: got.append(call.args) or 0})
    body = f"""{BEGIN} (call $cancel (local.get $a) (i32.const 4096) (i32.const 5))
      (call $cancel (local.get $a) (i32.const 4096) (i32.const -5))"""
    assert gives(node, body, 2) == (0, EFAULT)
    assert [(handle.kind, reason) for handle, reason in got] == [(TASK_CALL, b"hello")]


def test_one_wait_is_ended_by_its_call_alone(node: Executor):
    """Another that ends wakes the guest, which looks and goes on to wait."""
    made = calls()
    node.serve({INVOKE: made})
    body = f"""{BEGIN} (local.set $b (local.get $a)) {BEGIN}
      (call $log (i32.const 2) (i32.const 4096) (i32.const 5)) {wait(-1, "(local.get $b)")}"""
    run = started(node, body, 2)
    while not run.read_logs():
        assert not run.wait(60, events=True)
    made.made[1].finish(0, b"")
    assert not run.wait(0.02)
    made.made[0].finish(0, b"")
    assert ended(run).cause == "exit"
    assert run.value == (0, 0)


@pytest.mark.parametrize("how", ["cancel", "deadline", "close"])
def test_a_guest_is_ended_while_it_waits(how: str):
    made = calls()
    with executor(handlers={INVOKE: made}) as node:
        run = started(node, f"{BEGIN} {wait(-1)}", timeout_ns=30 * MS if how == "deadline" else 10**11)
        while not made.made:
            run.wait(0.001)
        if how == "cancel":
            run.cancel()
        elif how == "close":
            node.close()
        assert ended(run).cause == ("deadline" if how == "deadline" else "cancelled")
    assert made.closed == made.made


def test_too_much_input_is_refused(node: Executor):
    """16 MiB for the request and the input together."""
    node.serve({INVOKE: lambda call: len(call.args[1])})
    body = """(drop (memory.grow (i32.const 300)))
      (call $invoke (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 16777215) (i32.const 0))
      (call $invoke (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 16777216) (i32.const 0))"""
    assert gives(node, body, 2) == (16777215, EINVAL)

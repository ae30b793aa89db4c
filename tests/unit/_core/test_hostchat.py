"""What a guest reads of chat without Python: responses, metrics, streams; and sends with tools."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import wasmtime
from guest_runs import HANG_S, MS, ended, executor, logged
from handle_guests import (
    CREATE,
    CTL,
    EAGAIN,
    EBADF,
    EFAULT,
    EINVAL,
    EIO,
    EMBED,
    ENOSPC,
    ENOSYS,
    SEND,
    STREAM,
    WRITE,
    Maker,
    gives,
    response,
    session,
    started,
    streams,
)
from trial_runs import OPS, calling, trial_engine

from spear._core.door import Call
from spear._core.engine import Engine
from spear._core.executor import Executor
from spear._core.handles import CHAT_RESPONSE, Drafted, Handle

SENT = "(local.set $a (call $send (call $create) (i32.const 0)))"
RECV = "(call $recv (local.get $a) (i32.const 64) (i32.const 0))"
METRICS = "(call $ctl (local.get $a) (i32.const 2) (i32.const 64) (i32.const 0))"
READ = "(call $read (local.get $a) (i32.const 64) (i32.const 0))"
STREAMED = "(local.set $a (call $stream (call $create) (i32.const 0)))"
ROOM = "(call $room (i32.const 100))"


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


def answering(node: Executor, body: bytes = b'{"a":1}', about: bytes = b'{"n":2}') -> None:
    node.serve({CREATE: session, SEND: response(body, about), EMBED: response(body, about)})


def test_sessions_are_pythons_again_with_a_handler_that_opens_them(node: Executor):
    node.serve({CREATE: Drafted()})
    opened: list[Call] = []
    node.serve({CREATE: lambda call: opened.append(call) or session(call)})
    assert gives(node, "(call $create)", 1) >= 1000
    assert len(opened) == 1


# ---- responses


def test_a_response_is_read_as_often_as_wanted_and_after_close(node: Executor):
    answering(node)
    body = f"""{SENT} {ROOM} {RECV} (call $show) {RECV} (call $close (local.get $a)) {ROOM} {RECV}
      (call $show)"""
    run = started(node, body, 6)
    assert ended(run).cause == "exit"
    assert run.value == (7, 0, 7, 0, 7, 0)
    assert logged(run) == ['{"a":1}', '{"a":1}']


@pytest.mark.parametrize("call", [RECV, METRICS])
def test_room_and_pointers_are_checked(node: Executor, call: str):
    """Exactly enough; one too little, which says the size; outside; at the end of memory."""
    answering(node)
    body = f"""{SENT} (call $room (i32.const 6)) {call} (i32.load (i32.const 0)) {call}
      {call.replace("(i32.const 0))", "(i32.const -4))")}
      {call.replace("(i32.const 0))", "(i32.const 131069))")}
      {call.replace("(i32.const 64)", "(i32.const 131066)")}
      {call.replace("(i32.const 64)", "(i32.const 131065)")}"""
    assert gives(node, body, 7) == (ENOSPC, 7, 7, EFAULT, EFAULT, EFAULT, 7)


def test_a_failed_response_gives_its_status(node: Executor):
    def failed(call: Call) -> Handle:
        handle = Handle(CHAT_RESPONSE)
        handle.finish(EIO, b"body", b"{}")
        return handle

    node.serve({CREATE: session, SEND: failed})
    assert gives(node, f"{SENT} {ROOM} {RECV} {METRICS}", 2) == (EIO, 2)


def test_what_is_no_response_is_not_read(node: Executor):
    node.serve({CREATE: session})
    body = f"""(local.set $a (call $create)) {ROOM} {RECV} {METRICS}
      (local.set $a (call $epoll)) {RECV} {METRICS} (call $close (local.get $a))
      (local.set $a (i32.const 1002)) {RECV} {METRICS} (call $close (local.get $a))"""
    assert gives(node, body, 8) == (EBADF,) * 8


def test_a_control_is_the_responses_or_the_sessions(node: Executor):
    """SET_PARAM of a response is taken and does nothing, closed or not; of a session it is asked;
    a closed session is none."""
    asked: list[Any] = []
    node.serve({
        CREATE: session, SEND: response(),
        CTL: lambda call: asked.append(call.args) or 0,
    })  # fmt: skip
    control = "(call $ctl (local.get $a) (i32.const {}) (i32.const {}) (i32.const 0))"
    ignored = control.format(1, 4096)
    body = f"""{SENT} (call $room (i32.const 5)) {ignored} {control.format(1, -1)}
      {control.format(3, 4096)} {control.format(0, 4096)} (call $close (local.get $a)) {ignored}
      (local.set $a (call $create)) {ignored} {control.format(1, -1)} {control.format(3, 4096)}
      (call $close (local.get $a)) {ignored} (call $close (local.get $a))"""
    assert gives(node, body, 12) == (
        0, EFAULT, EINVAL, EINVAL, 0, 0, 0, EFAULT, EINVAL, 0, EBADF, 0,
    )  # fmt: skip
    assert [args[1:] for args in asked] == [(1, b"hello")]


def test_a_parameter_that_is_too_long_is_refused_before_python_sees_it(node: Executor):
    node.serve({CREATE: session, CTL: lambda call: 0})
    body = """(drop (memory.grow (i32.const 32)))
      (call $room (i32.const 1048577))
      (call $ctl (call $create) (i32.const 1) (i32.const 4096) (i32.const 0))
      (call $room (i32.const 1048576))
      (call $ctl (call $create) (i32.const 1) (i32.const 4096) (i32.const 0))"""
    assert gives(node, body, 2) == (EINVAL, 0)


def test_embeddings_are_responses(node: Executor):
    answering(node)
    body = f"""(local.set $a (call $embed (i32.const 4096) (i32.const 5) (i32.const 1)))
      {ROOM} {RECV} {METRICS}"""
    assert gives(node, body, 2) == (7, 7)


@pytest.mark.parametrize(
    ("body", "kept"), [(b"x", 64), (bytes(1 << 20), 15), (bytes(9 << 20), 1), (bytes(20 << 20), 1)]
)
def test_closed_responses_are_kept_within_bounds(node: Executor, body: bytes, kept: int):
    """The last 64, the last 16 MiB, and the very last however large; from the last one back."""
    node.serve({CREATE: session, SEND: response(body)})
    text = f"""(local.set $b (call $create)) (local.set $n (i32.const 70))
      (loop $on (local.set $a (call $send (local.get $b) (i32.const 0)))
        (drop (call $close (local.get $a)))
        (br_if $on (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
      (call $room (i32.const 0))
      (loop $back (br_if $back (i32.ne (i32.const {EBADF}) (block (result i32) {RECV}
        (local.set $a (i32.sub (local.get $a) (i32.const 1)))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))))))
      (i32.sub (local.get $n) (i32.const 1))"""
    assert gives(node, text) == kept


@pytest.mark.parametrize(
    ("op", "open_it", "name"),
    [(SEND, SENT, "ChatResponse"), (STREAM, STREAMED, "ChatStream"),
     (CREATE, "(local.set $a (call $create))", "ChatSession")],
)  # fmt: skip
def test_any_descriptor_tells_its_kind_state_and_metrics(
    node: Executor, op: int, open_it: str, name: str
):
    made = streams()
    node.serve({CREATE: session, SEND: response(b"{}", b'{"n":2}'), STREAM: made})
    ask = "(call $fd_ctl (local.get $a) (i32.const {}) (i32.const 64) (i32.const 0)) (call $show)"
    each = " ".join(f"{ROOM} {ask.format(cmd)} drop drop" for cmd in (3, 4, 5))
    run = started(
        node, f"{open_it} {each} (drop (call $close (local.get $a))) {each} (i32.const 0)"
    )
    assert ended(run).cause == "exit"
    ready = '"EPOLLIN"' if op == SEND else ""
    metrics = '{"n":2}' if op == SEND else "{}"
    state = '{"kind":"%s","flags":[],"poll_mask":[%s],"closed":%s}'
    kind = f'{{"kind":"{name}"}}'
    assert logged(run) == [
        kind, state % (name, ready, "false"), metrics,
        kind, state % (name, '"EPOLLHUP"', "true"), metrics,
    ]  # fmt: skip


# ---- nobody answers


def test_without_handlers_a_guest_is_told_once(node: Executor):
    run = started(node, "(call $create) (call $create) (call $recv (i32.const 1000) (i32.const 64) "
                        "(i32.const 0)) (call $close (i32.const 1000))", 4)  # fmt: skip
    assert ended(run).cause == "exit"
    assert run.value == (ENOSYS, ENOSYS, EBADF, EBADF)
    assert logged(run) == ["spear.cchat_create has no handler here: it answers -ENOSYS"]


def test_in_a_deterministic_run_nothing_answers():
    module = Engine(metered=True).load(
        wasmtime.wat2wasm(
            '(module (import "spear" "cchat_create" (func $c (result i32)))'
            '(memory (export "memory") 1)'
            '(func (export "go") (result i32) (drop (call $c)) (call $c)))'
        )
    )
    with executor(seed=1) as node:
        run = node.start(module, entry="go")
        assert ended(run).cause == "exit"
        assert run.value == ENOSYS
        assert logged(run) == [
            "spear.cchat_create is not served in a deterministic run, as its answers come in real "
            "time: it answers -ENOSYS"
        ]


# ---- streams


def test_a_stream_is_read_to_its_end_and_then_its_response(node: Executor):
    made = streams()

    def stream(call: Call) -> Handle:
        handle = made(call)
        made.channels[0].put_nowait(b"one")
        handle.finish(0, b"whole", b'{"n":2}')
        return handle

    node.serve({CREATE: session, STREAM: stream})
    body = f"""{STREAMED} (call $room (i32.const 2)) {READ} (i32.load (i32.const 0)) {READ}
      (call $show) {ROOM} {READ} (i32.load (i32.const 0)) {ROOM} {READ} {ROOM} {RECV} {ROOM}
      {METRICS} (call $close (local.get $a)) {READ} {RECV}"""
    assert gives(node, body, 12) == (ENOSPC, 3, 3, 0, 0, 0, 0, 5, 7, 0, EBADF, 5)


def test_a_stream_that_is_not_over_has_no_response_yet(node: Executor):
    node.serve({CREATE: session, STREAM: streams()})
    outside = READ.replace("(i32.const 0))", "(i32.const -1))")
    body = f"{STREAMED} {ROOM} {READ} {RECV} {METRICS} {outside}"
    assert gives(node, body, 4) == (EAGAIN, EAGAIN, EAGAIN, EFAULT)


def test_to_close_a_stream_tells_who_writes_it():
    """One that waits for room learns that nobody reads, and what lies in it goes."""
    made = Maker(8, items_max=1)
    said: list[Any] = []

    async def write(handle: Handle) -> None:
        try:
            while True:
                await made.channels[0].put(b"more")
        except Exception as error:
            said.append(type(error).__name__)

    async def stream(call: Call) -> Handle:
        handle = made(call)
        tasks.append(asyncio.get_running_loop().create_task(write(handle)))
        return handle

    async def work(node: Executor) -> None:
        node.serve({CREATE: session, STREAM: stream})
        run = started(node, f"{STREAMED} {ROOM} {READ} (call $close (local.get $a))", 2)
        await run
        assert run.value[1] == 0
        await tasks[0]
        while not made.closed:
            await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    with executor() as node:
        asyncio.run(work(node))
    assert said == ["ChannelClosed"]
    assert len(made.channels[0]) == 0


# ---- sends with tools

TOOLS = """
(table (export "table") 4 funcref)
(elem (i32.const 1) $asks $traps $sleeps)
(func $asks (param i32 i32 i32 i32) (result i32) (local $got i32)
  (local.set $got (call $send (global.get $session) (i32.const 0)))
  (i32.store8 (local.get 2) (i32.add (i32.const 48)
    (i32.rem_u (local.get $got) (i32.const 10))))
  (i32.store (local.get 3) (i32.const 1))
  (if (result i32) (i32.lt_s (local.get $got) (i32.const 0))
    (then (local.get $got)) (else (i32.const 0))))
(func $traps (param i32 i32 i32 i32) (result i32) unreachable)
(func $sleeps (param i32 i32 i32 i32) (result i32)
  (drop (call $log (i32.const 2) (i32.const 4096) (i32.const 5)))
  (drop (call $poll (call $epoll) (i32.const 64) (i32.const 4090) (i32.const -1)))
  (i32.const 0))
(global $session (mut i32) (i32.const 0))
(data (i32.const 4090) "\\08")
"""
BEGIN = """(global.set $session (call $create))
  (call $send (global.get $session) (i32.const 2))"""


class Nesting:
    """A send whose handler calls tool 1, which sends itself, and so on."""

    def __init__(self) -> None:
        self.said: list[tuple[int, str]] = []
        self.sessions: list[Handle] = []

    async def __call__(self, call: Call) -> Handle:
        self.sessions.append(call.args[0])
        self.said.append(await call.tool(1, b"{}", (8192, 1024), 100))
        return response()(call)


def test_tools_may_send_themselves_eight_deep(node: Executor):
    """Each level gets a descriptor of its own, by the thread of the guest, innermost first."""
    handler = Nesting()
    node.serve({CREATE: session, SEND: handler})
    assert gives(node, BEGIN, more=TOOLS) == 1008
    assert handler.said == [(EIO, ""), *((0, str(n)) for n in range(1, 8))]
    assert len(set(map(id, handler.sessions))) == 1


@pytest.mark.parametrize(("tool", "cause"), [(2, "trap"), (3, "cancelled")])
def test_a_guest_that_ends_in_its_tool_gets_no_descriptor(node: Executor, tool: int, cause: str):
    """And who thought about it is cancelled."""
    over = threading.Event()

    async def send(call: Call) -> Handle:
        try:
            await call.tool(tool, b"{}", (8192, 1024), 100)
        finally:
            over.set()
        raise AssertionError("the tool came back")

    node.serve({CREATE: session, SEND: send})
    run = started(node, BEGIN, more=TOOLS)
    if tool == 3:
        while not run.read_logs():
            assert not run.wait(HANG_S, events=True)
        run.cancel()
    assert ended(run).cause == cause
    assert over.wait(HANG_S)


def test_a_handle_said_while_the_tool_runs_waits_for_it_or_goes(node: Executor):
    """The handler gives its last word without its tool; the guest is ended inside of that one."""
    made = Maker(CHAT_RESPONSE)

    async def send(call: Call) -> Handle:
        asyncio.ensure_future(call.tool(3, b"{}", (8192, 1024), 100)).add_done_callback(
            lambda task: task.cancelled() or task.exception()
        )
        await asyncio.sleep(0)
        return made(call)

    node.serve({CREATE: session, SEND: send})
    run = started(node, BEGIN, more=TOOLS, timeout_ns=10_000 * MS)
    while not (made.made and run.read_logs()):
        run.wait(0.01)
    run.cancel()
    assert ended(run).cause == "cancelled"
    node.close()
    assert made.closed == made.made


def test_both_kinds_of_sends_can_be_linked_by_one_engine():
    """Each import that calls tools has a shim of its own."""
    module = trial_engine().load(
        wasmtime.wat2wasm(
            '(module (import "spear" "cchat_send" (func $s (param i32 i32) (result i32)))'
            '(import "spear" "cchat_create" (func $c (result i32)))'
            '(memory (export "memory") 1)'
            '(func (export "go") (result i32) (call $s (call $c) (i32.const 0))))'
        )
    )
    with executor(handlers={CREATE: session, SEND: response(), OPS["send"]: lambda c: 9}) as node:
        for _ in range(2):
            run = node.start(module, entry="go")
            assert ended(run).cause == "exit"
            assert run.value == 1001
            assert ended(node.start(calling("send", 1, 2))).exit_code == 9


def test_a_message_is_written_in_the_turn_that_sees_it(node: Executor):
    """No task is made for it: the handler is a plain function."""
    texts: list[bytes] = []
    node.serve({CREATE: session, WRITE: lambda call: texts.append(call.args[2]) or 0})
    text = "(i32.const 4103) (i32.const 5)"
    write = f"(call $write (local.get $a) {text} {text})"
    body = f"""(local.set $a (call $create)) (local.set $n (i32.const 1000))
      (loop $on (drop {write}) (br_if $on (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
      {write}"""
    assert gives(node, body) == 0
    assert texts == [b"world"] * 1001

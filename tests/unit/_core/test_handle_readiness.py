"""Which handles are ready when, and that a guest which waits for one is woken."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
from guest_runs import ended, executor
from handle_guests import (
    CREATE,
    EMBED,
    HUP,
    IN,
    INVOKE,
    SEND,
    STREAM,
    Maker,
    calls,
    gives,
    response,
    session,
    started,
    streams,
)

from spear._core.door import Call
from spear._core.endpoints import Together
from spear._core.executor import Executor
from spear._core.handles import CHAT_RESPONSE

INVOKED = "(call $invoke (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1))"
STREAMED = "(call $stream (call $create) (i32.const 0))"
EMBEDDED = "(call $embed (i32.const 0) (i32.const 0) (i32.const 0))"
WATCH = """(local.set $c (call $epoll))
  (drop (call $watch (local.get $c) (i32.const 1) (local.get $a) (i32.const 31)))"""
NOW, AWAIT = (
    "(call $look (local.get $c) (i32.const 0))",
    "(call $look (local.get $c) (i32.const -1))",
)
READ = "(call $room (i32.const 100)) (call $read (local.get $a) (i32.const 64) (i32.const 0))"


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


def test_a_session_is_never_ready_and_hangs_up_when_closed(node: Executor):
    node.serve({CREATE: session})
    body = f"""(local.set $a (call $create)) {WATCH} {NOW}
      (drop (call $close (local.get $a))) {NOW}"""
    assert gives(node, body, 2) == (0, HUP)


def test_a_response_is_ready_at_once_and_hangs_up_when_closed(node: Executor):
    node.serve({CREATE: session, SEND: response()})
    body = f"""(local.set $a (call $send (call $create) (i32.const 0))) {WATCH} {NOW}
      (drop (call $close (local.get $a))) {NOW}"""
    assert gives(node, body, 2) == (IN, HUP)


@pytest.mark.parametrize("status", [0, -5])
@pytest.mark.parametrize(
    ("kind", "op", "begin"),
    [("call", INVOKE, INVOKED), ("response", EMBED, EMBEDDED), ("stream", STREAM, STREAMED)],
)
def test_it_is_ready_once_finished(
    node: Executor, kind: str, op: int, begin: str, status: int
):  # fmt: skip
    """By a thread that is no loop's, while the guest waits; and stays so until it is closed."""
    made = {"call": calls, "stream": streams}.get(kind, lambda: Maker(CHAT_RESPONSE))()
    close = "leave" if kind == "call" else "close"
    body = f"""(local.set $a {begin}) {WATCH} {NOW} (call $log (i32.const 2) (i32.const 4096)
      (i32.const 5)) {AWAIT} {NOW} (drop (call ${close} (local.get $a))) {NOW}"""
    node.serve({CREATE: session, op: made})
    run = started(node, body, 5)
    while not run.read_logs():
        assert not run.wait(60, events=True)
    made.made[0].finish(status, b"")
    assert ended(run).cause == "exit"
    assert run.value == (0, 0, IN, IN, HUP)


def test_a_stream_is_ready_while_it_has_messages(node: Executor):
    """Two come, both are read; then it is not ready, and at its end it is."""
    made = streams()

    def stream(call: Call) -> object:
        handle = made(call)
        made.channels[0].put_nowait(b"one")
        made.channels[0].put_nowait(b"three")
        return handle

    node.serve({CREATE: session, STREAM: stream})
    body = f"""(local.set $a {STREAMED}) {WATCH} {AWAIT} {READ} {NOW} {READ} {NOW}
      (call $log (i32.const 2) (i32.const 4096) (i32.const 5)) {AWAIT} {READ}"""
    run = started(node, body, 8)
    while not run.read_logs():
        assert not run.wait(60, events=True)
    made.made[0].finish(0, b"")
    assert ended(run).cause == "exit"
    assert run.value == (IN, 3, IN, 5, 0, 0, IN, 0)


def test_what_was_put_before_the_guest_had_its_number_is_ready(node: Executor):
    made = streams()

    def stream(call: Call) -> object:
        handle = made(call)
        made.channels[-1].put_nowait(b"early")
        return handle

    node.serve({CREATE: session, STREAM: stream})
    assert gives(node, f"(local.set $a {STREAMED}) {WATCH} {AWAIT} {READ}", 2) == (IN, 5)


def test_one_wait_watches_many_handles(node: Executor):
    """A guest that waits for three calls is woken by any of them."""
    made = calls()
    for which in range(3):
        body = f"""(local.set $c (call $epoll)) (local.set $n (i32.const 3))
          (loop $on (drop (call $watch (local.get $c) (i32.const 1) {INVOKED} (i32.const 1)))
            (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br_if $on (local.get $n)))
          (drop (call $log (i32.const 2) (i32.const 4096) (i32.const 5)))
          {AWAIT} (i32.load (i32.const 64))"""
        node.serve({INVOKE: made})
        run = started(node, body, 2)
        while not run.read_logs():
            assert not run.wait(60, events=True)
        made.made[-3 + which].finish(0, b"")
        assert ended(run).cause == "exit"
        assert run.value == (IN, 1001 + which)


# ---- no wake-up is lost


@pytest.mark.parametrize("nested", [False, True])
def test_guests_that_are_woken_together_all_go_on(nested: bool):
    """Of two nodes, by one thread; also where what is done between fails."""
    with executor(workers=2) as one, executor() as other:
        made, runs = streams(), []
        for node in (one, other):
            node.serve({CREATE: session, STREAM: made})
        body = f"""(local.set $a {STREAMED}) {WATCH}
          (drop (call $log (i32.const 2) (i32.const 4096) (i32.const 5))) {AWAIT} {READ}"""
        for at in range(20):
            runs.append(started((one, other)[at % 2], body, 2))
            while not runs[-1].read_logs():
                assert not runs[-1].wait(60, events=True)
        with pytest.raises(ZeroDivisionError), Together(), Together() if nested else nullcontext():
            for channel in made.channels:
                channel.put_nowait(b"x")
            raise ZeroDivisionError
        for run in runs:
            assert ended(run).cause == "exit"
            assert run.value == (IN, 1)


def hammer(
    node: Executor, body: str, act: Callable[[int], object], made: Maker, rounds: int
) -> int:
    """A guest that waits `rounds` times, each time for something new, and a thread that does it as
    soon as there is something to do it to: at any moment of the guest's way into its wait."""
    run = started(node, body)

    def work() -> None:
        for at in range(rounds):
            while len(made.made) <= at and not run.done:
                pass
            act(at)

    thread = threading.Thread(target=work)
    thread.start()
    assert ended(run).cause == "exit", run.outcome
    thread.join()
    return int(run.value)


@pytest.mark.parametrize("how", ["epoll", "wait"])
def test_a_finish_at_any_moment_wakes_the_guest(node: Executor, how: str):
    """One that is lost hangs for ever."""
    made, rounds = calls(), 3000
    wait = {
        "epoll": f"""(drop (call $watch (local.get $c) (i32.const 1) (local.get $a) (i32.const 1)))
          (drop {AWAIT})
          (drop (call $watch (local.get $c) (i32.const 3) (local.get $a) (i32.const 0)))""",
        "wait": "(drop (call $wait (local.get $a) (i32.const -1)))",
    }[how]
    body = f"""(local.set $c (call $epoll))
      (loop $on (local.set $a {INVOKED}) {wait}
        (drop (call $leave (local.get $a)))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $on (i32.lt_u (local.get $n) (i32.const {rounds})))) (local.get $n)"""
    node.serve({INVOKE: made})
    got = hammer(node, body, lambda at: made.made[at].finish(0, b""), made, rounds)
    assert got == rounds


def test_a_message_at_any_moment_wakes_the_guest(node: Executor):
    made, rounds = streams(), 2000
    body = f"""(local.set $c (call $epoll))
      (loop $on (local.set $a {STREAMED})
        (drop (call $watch (local.get $c) (i32.const 1) (local.get $a) (i32.const 1)))
        (drop {AWAIT})
        (drop (call $watch (local.get $c) (i32.const 3) (local.get $a) (i32.const 0)))
        (drop (call $close (local.get $a)))
        (drop (call $close (i32.sub (local.get $a) (i32.const 1))))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $on (i32.lt_u (local.get $n) (i32.const {rounds})))) (local.get $n)"""
    node.serve({CREATE: session, STREAM: made})
    got = hammer(node, body, lambda at: made.channels[at].put_nowait(b"x"), made, rounds)
    assert got == rounds


def test_a_late_finish_of_a_guest_that_is_gone_is_harmless():
    made = calls()
    with executor(handlers={INVOKE: made}) as node:
        run = started(node, f"(local.set $a {INVOKED}) (call $wait (local.get $a) (i32.const -1))")
        while not made.made:
            run.wait(0.001)
        run.cancel()
        assert ended(run).cause == "cancelled"
    assert made.made[0].finish(0, b"late")

"""Handles: descriptors of guests that stand for objects of Python's, and who lets them go."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from guest_runs import HANG_S, ended, executor, logged, python
from handle_guests import (
    CANCEL,
    CREATE,
    CTL,
    EBADF,
    EIO,
    ENOMEM,
    FN,
    INVOKE,
    SEND,
    STREAM,
    TEXT,
    WRITE,
    Maker,
    calls,
    gives,
    handle_guest,
    response,
    session,
    sessions,
    started,
    streams,
)

from spear._core.door import Call
from spear._core.endpoints import Channel
from spear._core.executor import Executor
from spear._core.handles import (
    ABOUT_BYTES_MAX,
    BODY_BYTES_MAX,
    CHAT_RESPONSE,
    CHAT_SESSION,
    CHAT_STREAM,
    TASK_CALL,
    Handle,
    live_count,
)
from spear.errors import ChannelClosed, InvalidArgument


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    """Whatever a test does, every handle goes."""
    gc.collect()
    before = live_count()
    yield
    gc.collect()
    assert live_count() == before


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made
    made.serve(dict.fromkeys(range(256), session))  # the test's own hold what they made


# ---- in Python alone


def test_a_handle_is_finished_once():
    handle = Handle(CHAT_RESPONSE, "value")
    assert (handle.kind, handle.value, handle.finished) == (CHAT_RESPONSE, "value", False)
    assert repr(handle) == "<Handle of kind 2, not finished>"
    assert handle.finish(-5, b"first", b"{}")
    assert handle.finished
    assert not handle.finish(0, b"second")


@pytest.mark.parametrize("kind", [0, -1, 3, 6, 7, 10, 255, 256, 2**40, "1", None])
def test_other_kinds_are_refused(kind: Any):
    with pytest.raises(InvalidArgument, match="is no kind of handles"):
        Handle(kind)


@pytest.mark.parametrize("kind", [CHAT_SESSION, CHAT_RESPONSE, TASK_CALL])
def test_a_stream_has_a_channel_and_no_other_kind_has(kind: int):
    with pytest.raises(InvalidArgument, match="a stream has a channel"):
        Handle(kind, channel=Channel())
    with pytest.raises(InvalidArgument, match="a stream has a channel"):
        Handle(CHAT_STREAM)


def test_a_channel_is_of_one_handle():
    channel = Channel()
    Handle(CHAT_STREAM, channel=channel)
    with pytest.raises(InvalidArgument, match="another handle's"):
        Handle(CHAT_STREAM, channel=channel)


def test_results_are_checked():
    handle = Handle(TASK_CALL)
    with pytest.raises(InvalidArgument, match="status 1: expected 0 or a negated number"):
        handle.finish(1, b"")
    with pytest.raises(InvalidArgument, match="a result of 67108865 bytes with 2 about it"):
        handle.finish(0, bytes(BODY_BYTES_MAX + 1))
    with pytest.raises(InvalidArgument, match="with 1048577 about it"):
        handle.finish(0, b"", bytes(ABOUT_BYTES_MAX + 1))
    assert not handle.finished


def test_one_of_many_threads_finishes_it():
    for _ in range(50):
        handle, barrier, won = Handle(TASK_CALL), threading.Barrier(4), []

        def finish(
            handle: Handle = handle, barrier: threading.Barrier = barrier, won: list[bool] = won
        ) -> None:
            barrier.wait()
            won.append(handle.finish(0, b"x" * 1000))

        threads = [threading.Thread(target=finish) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(won) == [False, False, False, True]


def test_the_end_of_a_stream_closes_its_channel():
    channel = Channel()
    Handle(CHAT_STREAM, channel=channel).finish(0, b"")
    with pytest.raises(ChannelClosed):
        channel.put_nowait(b"late")


def test_what_is_finished_and_nobodys_to_be_told_of_is_the_guests_alone(node: Executor):
    """A call that names it all the same gets one that says so; nobody keeps that one's elder."""
    made: list[Handle] = []

    def give(call: Call) -> Handle:
        made.append(Handle(TASK_CALL))
        made[0].finish(0, b"body")
        return made[0]

    def count(call: Call) -> int:
        made.clear()
        gc.collect()
        return sum(isinstance(one, Handle) for one in gc.get_objects())

    def look(call: Call) -> int:
        return count(call) * 100 + call.args[0].kind * 10 + call.args[0].finished

    node.serve({INVOKE: give, CREATE: count, CANCEL: look})
    cancel = "(call $cancel (local.get $a) (i32.const 4096) (i32.const 0))"
    body = f"""(local.set $a (call $invoke {TEXT} {TEXT} (i32.const 0))) (call $create)
      {cancel} {cancel} (call $leave (local.get $a))"""
    one = 100 + TASK_CALL * 10 + 1
    assert gives(node, body, 4) == (0, one, one, 0)


# ---- a number for a handle


def test_a_handle_becomes_a_descriptor_and_comes_back_by_it(node: Executor):
    made, got = sessions(), []
    node.serve({CREATE: made, WRITE: lambda call: got.append(call.args) or 0})
    write = "(call $write (local.get {}) (i32.const 4096) (i32.const 5) (i32.const 4103) " + (
        "(i32.const 5))"
    )
    body = f"""(local.set $a (call $create)) (local.set $b (call $create))
      (local.get $a) (local.get $b) {write.format("$b")} {write.format("$a")}"""
    assert gives(node, body, 4) == (1000, 1001, 0, 0)
    assert got == [(made.made[1], b"hello", b"world"), (made.made[0], b"hello", b"world")]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_handler_may_wait_before_it_gives_a_handle(node: Executor, asynchronous: bool):
    async def create(call: Call) -> Handle:
        await asyncio.sleep(0.001 if asynchronous else 0)
        return Handle(CHAT_SESSION)

    node.serve({CREATE: create})
    assert gives(node, "(call $create) (call $create)", 2) == (1000, 1001)


@pytest.mark.parametrize(
    "fd",
    ["(i32.const 1000)", "(call $create)", "(i32.const -1)", "(i32.const 999)", "(local.get $a)"],
)  # fmt: skip
def test_a_descriptor_that_is_none_is_refused_in_place(node: Executor, fd: str):
    """A closed one, one of another kind, or none: nothing is posted."""
    asked: list[Call] = []
    node.serve({
        CREATE: response(), INVOKE: session,
        WRITE: lambda call: asked.append(call) or 0, FN: lambda call: asked.append(call) or 0,
        SEND: lambda call: asked.append(call) or 0, STREAM: lambda call: asked.append(call) or 0,
    })  # fmt: skip
    closed = """(local.set $a (call $invoke (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
      (i32.const 0))) (drop (call $close (local.get $a)))"""
    text = "(i32.const 4096) (i32.const 5)"
    body = f"""{closed if "$a" in fd else ""}
      (call $write {fd} {text} {text}) (call $fn {fd} (i32.const 0) {text})
      (call $send {fd} (i32.const 0)) (call $stream {fd} (i32.const 0))"""
    assert gives(node, body, 4) == (EBADF,) * 4
    assert asked == []


def test_a_handle_is_given_once(node: Executor):
    handle = Handle(CHAT_SESSION)
    node.serve({CREATE: lambda call: handle})
    run = started(node, "(call $create) (call $create)", 2)
    assert ended(run).cause == "exit"
    assert run.value == (1000, EIO)
    assert "ValueError: the handler gave a Handle that was given before" in logged(run)[0]


def test_a_finished_handle_may_be_given(node: Executor):
    node.serve({CREATE: session, SEND: response(b"[1]")})
    body = """(local.set $a (call $send (call $create) (i32.const 0)))
      (call $room (i32.const 3)) (call $recv (local.get $a) (i32.const 64) (i32.const 0))"""
    assert gives(node, body) == 3


def test_a_full_table_gives_no_number_and_the_handle_goes(node: Executor):
    made = sessions()
    node.serve({CREATE: made})
    body = """(loop $on (local.set $a (call $create))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $on (i32.gt_s (local.get $a) (i32.const 0)))) (local.get $a) (local.get $n)"""
    assert gives(node, body, 2, descriptors_max=16) == (ENOMEM, 17)
    node.close()
    assert len(made.closed) == 17
    assert made.closed[0] is made.made[16]


def test_large_results_of_one_guest_are_bounded(node: Executor):
    """Sixteen of 16 MiB, and no more; what is small is let in."""
    sizes = iter([16 << 20] * 17 + [1000])

    def big(call: Call) -> Handle:
        handle = Handle(CHAT_RESPONSE)
        handle.finish(0, bytes(next(sizes)))
        return handle

    node.serve({CREATE: session, SEND: big})
    body = """(local.set $a (call $create))
      (loop $on (local.set $b (call $send (local.get $a) (i32.const 0)))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $on (i32.gt_s (local.get $b) (i32.const 0))))
      (local.get $n) (local.get $b) (call $send (local.get $a) (i32.const 0))"""
    assert gives(node, body, 3) == (17, ENOMEM, 1017)


# ---- who asks


def test_handlers_see_what_the_start_was_given(node: Executor):
    seen: list[Any] = []
    node.serve({CREATE: lambda call: seen.append(call.context) or Handle(CHAT_SESSION)})
    agents = [object(), None, object()]
    for agent in agents:
        gives(node, "(call $create)", context=agent)
    assert seen == agents


def test_what_the_start_was_given_goes_with_the_run(node: Executor):
    class Agent:
        pass

    node.serve({CREATE: session})
    agent = Agent()
    gone = weakref.ref(agent)
    run = started(node, "(call $create)", context=agent)
    assert ended(run).cause == "exit"
    del agent
    assert gone() is not None
    del run
    node.close()
    gc.collect()
    assert gone() is None


def test_each_warm_call_has_a_context_of_its_own(node: Executor):
    seen: list[Any] = []
    node.serve({CREATE: lambda call: seen.append(call.context) or Handle(CHAT_SESSION)})
    for isolation in ("shared", "fresh"):
        instance = node.instantiate(
            handle_guest("(call $create)"), isolation=isolation, context="made"
        )
        function = instance.function("go")
        assert function() == 1000
        run = function.start(context="called")
        assert ended(run).cause == "exit"
        assert run.value == 1000
    assert seen == ["made", "called"] * 2


def test_a_context_costs_no_reference_where_there_is_none(node: Executor):
    node.serve({CREATE: session})
    before = sys.getrefcount(None)
    for _ in range(50):
        gives(node, "(call $create)")
    assert sys.getrefcount(None) < before + 40


# ---- who lets go


@pytest.mark.parametrize("how", ["close", "return", "trap", "cancel", "deadline"])
def test_the_loop_hears_once_that_a_handle_was_closed(node: Executor, how: str):
    made, threads = sessions(), []

    def create(call: Call) -> Handle:
        handle = made(call)
        threads.append(threading.get_ident())
        return handle

    node.serve({CREATE: create})
    ends = {
        "close": "(drop (call $close (local.get $a))) (drop (call $close (local.get $a)))",
        "return": "", "trap": "unreachable",
    }.get(how, "(loop $on (br $on))")  # fmt: skip
    run = started(
        node, f"(local.set $a (call $create)) {ends} (i32.const 0)",
        timeout_ns=30_000_000 if how == "deadline" else 60_000_000_000,
    )  # fmt: skip
    if how == "cancel":
        while not made.made:
            run.wait(0.001)
        run.cancel()
    ended(run)
    node.close()
    assert made.closed == made.made
    assert len(made.made) == 1 or how == "deadline"  # which may come before the call


def test_what_stands_behind_it_is_let_go_on_the_loop():
    told: list[int] = []
    loops: list[int] = []

    def create(call: Call) -> Handle:
        loops.append(threading.get_ident())
        return Handle(CHAT_SESSION, closed=lambda handle: told.append(threading.get_ident()))

    async def work(node: Executor) -> None:
        node.serve({CREATE: create})
        await started(node, "(call $create)")
        while not told:
            await asyncio.sleep(0)

    with executor() as node:
        asyncio.run(work(node))
    assert told == loops == [threading.get_ident()]


def test_a_callback_that_fails_is_the_loops_affair():
    said: list[Any] = []

    def fails(handle: Handle) -> None:
        raise ValueError("closed badly")

    async def work(node: Executor) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: said.append(what))
        node.serve({CREATE: lambda call: Handle(CHAT_SESSION, closed=fails)})
        await started(node, "(call $create)")
        while not said:
            await asyncio.sleep(0)

    with executor() as node:
        asyncio.run(work(node))
    assert [str(what["exception"]) for what in said] == ["closed badly"]


@pytest.mark.parametrize("when", ["before the answer", "after it"])
def test_a_guest_that_ended_before_it_got_its_handle_never_will(when: str):
    """The answer lies there, or is still being thought about, when the guest is ended."""
    made, begun = sessions(), asyncio.Event()

    async def create(call: Call) -> Handle:
        begun.set()
        if when == "before the answer":
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return made(call)

    async def work(node: Executor) -> None:
        node.serve({CREATE: create})
        run = started(node, "(call $create)")
        await begun.wait()
        run.cancel()
        assert (await run).cause == "cancelled" or when == "after it"
        while not made.closed:
            await asyncio.sleep(0)

    with executor() as node:
        asyncio.run(work(node))
    assert made.closed == made.made


def test_a_handle_answered_to_a_guest_that_is_ended_in_that_turn_goes():
    """The request holds it, and nobody takes it from there."""
    made, runs = sessions(), []

    def create(call: Call) -> Handle:
        runs[0].cancel()
        return made(call)

    async def work(node: Executor) -> None:
        node.serve({CREATE: create})
        runs.append(started(node, "(call $create) (call $wait (i32.const 0) (i32.const 0))", 2))
        await runs[0]  # cancelled or, where it was not parked yet, at its end
        while not made.closed:
            await asyncio.sleep(0)

    with executor() as node:
        asyncio.run(work(node))
    assert made.closed == made.made


@pytest.mark.parametrize("inline", [False, True])
def test_many_guests_that_are_ended_anywhere_leave_nothing(inline: bool):
    """Each is ended at another moment: while it posts, is answered, opens, closes. What was opened
    closes for each of them, though its handler keeps the call."""
    made, kept = Maker(CHAT_SESSION), []

    async def later(call: Call) -> Handle:
        kept.append(call)
        await asyncio.sleep(0)
        return made(call)

    def at_once(call: Call) -> Handle:
        kept.append(call)
        return made(call)

    body = """(loop $on (drop (call $close (call $create))) (drop (call $create))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $on (i32.lt_u (local.get $n) (i32.const 400)))) (i32.const 0)"""
    with executor(handlers={CREATE: at_once if inline else later}) as node:
        for at in range(60):
            run = started(node, body)
            run.wait(at * 0.0002)
            run.cancel()
            ended(run)
    assert sorted(map(id, made.closed)) == sorted(map(id, made.made))


@pytest.mark.parametrize("count", [5_000, pytest.param(250_000, marks=pytest.mark.soak)])
def test_many_thousand_handles_leave_no_memory(node: Executor, count: int):
    before = live_count()
    node.serve({CREATE: session, SEND: response(b"x" * 100)})
    body = f"""(local.set $a (call $create))
      (loop $on
        (drop (call $close (call $send (local.get $a) (i32.const 0))))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $on (i32.lt_u (local.get $n) (i32.const {count})))) (local.get $n)"""
    runs = [started(node, body) for _ in range(4)]
    for run in runs:
        assert ended(run).cause == "exit"
        assert run.value == count
    node.close()
    assert live_count() == before


def test_handles_that_were_never_given_just_go():
    closed: list[Handle] = []
    for _ in range(10):
        Handle(CHAT_SESSION, closed=closed.append)
        Handle(CHAT_STREAM, channel=Channel()).finish(0, b"x")
    assert closed == []


def test_a_handle_that_stands_for_itself_is_collected(node: Executor):
    def create(call: Call) -> Handle:
        handle = Handle(CHAT_SESSION)
        handle.value = [handle]
        return handle

    node.serve({CREATE: create})
    gives(node, "(call $create)")


# ---- loops and executors that end


@pytest.mark.parametrize("kind", ["stream", "call"])
def test_when_its_loop_is_closed_what_is_not_finished_fails(kind: str):
    """And a session can be used on: the thread that takes over has it, too."""
    made = streams() if kind == "stream" else calls()
    op = STREAM if kind == "stream" else INVOKE
    got: list[Any] = []
    ask = {
        "stream": "(call $stream (local.get $b) (i32.const 0))",
        "call": "(call $invoke (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) "
                "(i32.const 1))",
    }[kind]  # fmt: skip
    read = {"stream": "recv", "call": "result"}[kind]
    body = f"""(local.set $b (call $create)) (local.set $a {ask})
      (local.set $c (call $epoll))
      (drop (call $watch (local.get $c) (i32.const 1) (local.get $a) (i32.const 31)))
      (call $look (local.get $c) (i32.const -1))
      (call ${read} (local.get $a) (i32.const 64) (i32.const 0))
      (call $write (local.get $b) (i32.const 4096) (i32.const 1) (i32.const 4096) (i32.const 1))"""

    async def begin(node: Executor) -> Any:
        node.serve({CREATE: session, op: made, WRITE: lambda call: got.append(call.args[0]) or 0})
        run = started(node, body, 3)
        while not made.made:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        return run

    with executor() as node:
        run = asyncio.run(begin(node))
        assert ended(run).cause == "exit", run.outcome
        assert run.value == (1, EIO, 0)
        assert [handle.kind for handle in got] == [CHAT_SESSION]
        assert made.made[0].finished
        assert not made.made[0].finish(0, b"late")


@pytest.mark.parametrize("where", ["thread", "loop", "closed loop"])
def test_a_closed_executor_has_let_everything_go(where: str):
    made = sessions()
    body = "(drop (call $create)) (loop $on (br $on)) (i32.const 0)"
    node = Executor(workers=1, handlers={CREATE: made})

    async def begin() -> Any:
        run = started(node, body)
        while not made.made:
            await asyncio.sleep(0)
        if where == "loop":
            node.close()
            while not made.closed:
                await asyncio.sleep(0)
        return run

    if where == "thread":
        run = started(node, body)
        while not made.made:
            run.wait(0.001)
    else:
        run = asyncio.run(begin())
    node.close()
    assert ended(run).cause == "cancelled"
    assert made.closed == made.made


def test_an_executor_that_is_dropped_lets_everything_go():
    made, others = sessions(), set(threading.enumerate())
    node = Executor(workers=1, handlers={CREATE: made})
    run = started(node, "(drop (call $create)) (loop $on (br $on)) (i32.const 0)")
    while not made.made:
        run.wait(0.001)
    (calls,) = set(threading.enumerate()) - others
    del run, node
    gc.collect()
    calls.join(HANG_S)
    assert not calls.is_alive()
    gc.collect()
    made.closed.clear()
    made.made.clear()


def test_a_forked_child_leaves_handles_to_its_parent():
    done = python("""
import gc, os, sys
from handle_guests import *
from spear._core.handles import live_count
node = Executor(workers=1, handlers={CREATE: sessions()})
run = started(node, "(drop (call $create)) (loop $on (br $on)) (i32.const 0)")
while not live_count():
    run.wait(0.001)
pid = os.fork()
if pid == 0:
    del run, node
    gc.collect()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
run.cancel()
assert ended(run).cause == "cancelled"
node.close()
""")
    assert done.returncode == 0, done.stderr


def test_set_param_of_a_session_is_asked_of_python(node: Executor):
    got: list[Any] = []
    node.serve({CREATE: session, CTL: lambda call: got.append(call.args[1:]) or -13})
    body = """(call $room (i32.const 5))
      (call $ctl (call $create) (i32.const 1) (i32.const 4096) (i32.const 0))"""
    assert gives(node, body) == -13
    assert got == [(1, b"hello")]

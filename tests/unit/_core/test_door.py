"""Who answers the calls of guests: handlers, event loops that come and go, and the last turn."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import uvloop
from guest_runs import HANG_S, drained, ended, executor, python
from held import held_again, held_at_rest
from trial_runs import EIO, OPS, adding, calling

from spear._core.door import Call, Door
from spear._core.executor import Executor
from spear._core.outcome import Outcome
from spear._core.run import Run
from spear.errors import InvalidArgument

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as made:
        yield made


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


async def outcome_of(run: Run) -> Outcome:
    return await run


class Held:
    """A handler that waits for ever; knows who began and who was cancelled."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.cancelled = 0
        self.began = threading.Event()
        self.over = threading.Event()

    async def __call__(self, call: Call) -> int:
        self.calls.append(call)
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            self.over.set()
            raise
        return 0

    def wait(self) -> None:
        assert self.began.wait(HANG_S)


# ---- handlers


async def later(call: Call) -> int:
    await asyncio.sleep(0.001)
    return adding(call)


class Waits:
    """Awaitable, but no coroutine."""

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return 12


def sometimes(call: Call) -> Any:
    return later(call) if call.args[0] % 2 else adding(call)


@pytest.mark.parametrize("handler", [adding, later, sometimes, lambda call: Waits()])
def test_a_handler_answers_at_once_or_later(node: Executor, handler: Any):
    node.serve({OPS["add"]: handler})
    for a in (5, 6):
        assert ended(node.start(calling("add", a, 12 - a))).exit_code == 12


class Odd(Exception):
    pass


async def raises_later(call: Call) -> int:
    await asyncio.sleep(0)
    raise Odd("later")


def raises(call: Call) -> int:
    raise Odd("now")


async def gives_up(call: Call) -> int:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (raises, "Odd: now"),
        (raises_later, "Odd: later"),
        (gives_up, "CancelledError: "),
        (lambda call: None, "TypeError: the handler gave None"),
        (lambda call: "text", "TypeError: the handler gave 'text'"),
        (lambda call: 1.0, "TypeError: the handler gave 1.0"),
        (lambda call: 2**31, "TypeError: the handler gave 2147483648"),
        (lambda call: (0, "text"), "TypeError: the handler gave str"),
        (lambda call: (0, b"", 1), "TypeError: the handler gave (0, b'', 1)"),
        (lambda call: bytes((64 << 20) + 1), "ValueError: the handler gave 67108865 bytes"),
    ],
)  # fmt: skip
def test_a_handler_that_fails_answers_eio_and_is_told(node: Executor, handler: Any, said: str):
    failures: list[tuple[str, BaseException]] = []
    node.serve({OPS["pause"]: handler}, failed=lambda call, e: failures.append((call.name, e)))
    run = node.start(calling("pause"))
    assert ended(run).exit_code == EIO
    (line,) = run.read_logs()
    assert line.level == 4
    assert line.message.startswith(f"spear_trial.pause failed: {said}")
    node.close()
    ((name, error),) = failures
    assert name == "spear_trial.pause"
    assert f"{type(error).__name__}: {error}".startswith(said)


def test_a_listener_that_fails_is_the_loops_affair(runner: asyncio.Runner, node: Executor):
    def fails(call: Call, error: BaseException) -> None:
        raise Odd("again")

    async def work() -> Outcome:
        said: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: said.append(what))
        node.serve({OPS["pause"]: raises}, failed=fails)
        outcome = await node.start(calling("pause"))
        assert [type(what["exception"]) for what in said] == [Odd]
        return outcome

    assert runner.run(work()).exit_code == EIO


def test_a_handler_may_log_for_its_guest(node: Executor):
    node.serve({OPS["pause"]: lambda call: call.log(3, "a w\u00f6rd") or 0})
    run = node.start(calling("pause"))
    assert ended(run).exit_code == 0
    assert [(line.level, line.message) for line in run.read_logs()] == [(3, "a w\u00f6rd")]


def test_calls_of_one_guest_have_its_number(node: Executor):
    held, numbers = Held(), []
    node.serve({OPS["add"]: lambda call: numbers.append(call.guest) or 0, OPS["pause"]: held})
    first = node.start(calling("pause"))
    held.wait()
    assert ended(node.start(calling("add", 1, 1, times=3))).exit_code == 0
    assert len(set(numbers)) == 1
    assert held.calls[0].guest not in numbers
    assert repr(held.calls[0]).startswith("<Call spear_trial.pause of guest 0x")
    first.cancel()


def test_handlers_are_checked():
    with pytest.raises(InvalidArgument, match="operation code 256: expected 0 to 255"):
        Executor(handlers={256: adding})
    with pytest.raises(InvalidArgument, match="operation code 'add'"):
        Executor(handlers={"add": adding})  # type: ignore[dict-item]
    with pytest.raises(InvalidArgument, match="the handler of operation 7 is 8: no function"):
        Executor(handlers={7: 8})  # type: ignore[dict-item]


def test_calls_are_made_for_handlers_only():
    with pytest.raises(TypeError, match="made for handlers"):
        Call()


# ---- which loop


def where(said: list[int]) -> Callable[[Call], int]:
    return lambda call: said.append(threading.get_ident()) or 0


def test_without_a_loop_a_thread_of_the_executors_own_answers():
    said: list[int] = []
    with executor(handlers={OPS["pause"]: where(said)}) as node:
        for _ in range(3):
            assert ended(node.start(calling("pause"), inline=True)).exit_code == 0
        assert [thread.name for thread in threading.enumerate()].count("spear-calls") == 1
    assert len(set(said)) == 1
    assert said[0] != threading.get_ident()
    assert "spear-calls" not in [thread.name for thread in threading.enumerate()]


def test_threads_that_start_guests_at_once_get_one_thread_that_answers():
    for _ in range(10):
        with executor(workers=2, handlers={OPS["add"]: later}) as node:
            barrier, codes = threading.Barrier(6), []

            def work(node: Executor, barrier: threading.Barrier, codes: list[int]) -> None:
                barrier.wait()
                codes.append(ended(node.start(calling("add", 1, 2, times=3))).exit_code)

            threads = [threading.Thread(target=work, args=(node, barrier, codes)) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert codes == [3] * 6
            names = [thread.name for thread in threading.enumerate()]
            assert names.count("spear-calls") == 1


def test_no_thread_is_made_for_guests_that_post_nothing():
    with executor(handlers={OPS["pause"]: raises}) as node:
        assert ended(node.start(calling("noop"))).exit_code == 0
        assert "spear-calls" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("at", ["handlers", "start"])
def test_the_loop_where_handlers_are_given_or_a_guest_is_started_answers(
    runner: asyncio.Runner, at: str
):
    said: list[int] = []

    async def work() -> Outcome:
        if at == "handlers":
            node.serve({OPS["pause"]: where(said)})
        return await node.start(calling("pause"))

    with executor(handlers=None if at == "handlers" else {OPS["pause"]: where(said)}) as node:
        assert runner.run(work()).exit_code == 0
    assert said == [threading.get_ident()]


def test_many_guests_are_answered_by_tasks_of_the_loop(runner: asyncio.Runner, node: Executor):
    async def work() -> list[int]:
        node.serve({OPS["add"]: later})
        runs = [node.start(calling("add", n, n, times=3)) for n in range(300)]
        return [outcome.exit_code for outcome in await asyncio.gather(*map(outcome_of, runs))]

    assert runner.run(work()) == [2 * n for n in range(300)]


def test_a_turn_lets_the_loops_other_work_in(runner: asyncio.Runner):
    """More calls than a turn takes: a callback of the loop comes between."""

    async def work() -> None:
        turns: list[int] = []
        served = 0

        def handler(call: Call) -> int:
            nonlocal served
            served += 1
            return 0

        def look() -> None:
            turns.append(served)
            if served < 600:
                loop.call_soon(look)

        loop = asyncio.get_running_loop()
        node.serve({OPS["pause"]: handler})
        runs = [node.start(calling("pause")) for _ in range(600)]
        posted = threading.Event()
        threading.Thread(target=lambda: (_until_parked(node, 600), posted.set())).start()
        posted.wait(HANG_S)  # the loop stands still until all have posted
        loop.call_soon(look)
        for run in runs:
            await run
        steps = [b - a for a, b in zip([0, *turns], turns, strict=False)]
        assert max(steps) <= 256
        assert sum(step > 0 for step in steps) >= 3

    with executor(workers=2, guests_max=1000) as node:
        runner.run(work())


def _until_parked(node: Executor, count: int) -> None:
    """Until so many guests were started and no worker has one to run."""
    while True:
        stats = node.stats()
        if stats["live"] == count and stats["idle_workers"] == 2 and stats["polls"] >= count:
            return
        os.sched_yield()


def test_calls_are_looked_at_in_the_order_they_came(runner: asyncio.Runner, node: Executor):
    seen: list[int] = []

    async def work() -> None:
        node.serve({OPS["add"]: lambda call: seen.append(call.args[0]) or 0})
        runs = []
        for n in range(20):
            runs.append(node.start(calling("add", n, 0)))
            _until_parked(node, n + 1)  # it has asked
        for run in runs:
            assert (await run).exit_code == 0

    runner.run(work())
    assert seen == list(range(20))


def test_two_executors_are_answered_by_two_loops():
    results = {}

    def work(name: str) -> None:
        async def many(node: Executor) -> set[int]:
            node.serve({OPS["add"]: later})
            runs = [node.start(calling("add", n, 1, times=5)) for n in range(50)]
            outcomes = await asyncio.gather(*map(outcome_of, runs))
            return {outcome.exit_code - n for n, outcome in enumerate(outcomes)}

        with executor() as node, asyncio.Runner(loop_factory=LOOPS[name]) as runner:
            results[name] = runner.run(many(node))

    threads = [threading.Thread(target=work, args=(name,)) for name in LOOPS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {name: {1} for name in LOOPS}


def test_the_loops_thread_does_not_block_for_what_it_must_answer(runner: asyncio.Runner):
    async def work() -> None:
        node.serve({OPS["pause"]: lambda call: 0})
        run = node.start(calling("pause"))
        with pytest.raises(RuntimeError, match="await the run instead"):
            run.wait()
        with pytest.raises(RuntimeError, match="await the run instead"):
            node.run_many(calling("pause"), 2)
        assert run.wait(0) in (False, True)
        assert (await asyncio.to_thread(run.wait, HANG_S)) is True
        assert run.wait()

    with executor() as node:
        runner.run(work())


# ---- loops that end


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("gently", [True, False], ids=["run", "close"])
def test_a_closed_loop_fails_what_it_had_begun(node: Executor, name: str, gently: bool):
    """Gently: the handlers' tasks are cancelled first, as asyncio.run does."""
    held = Held()
    loop = LOOPS[name]()

    async def begin() -> Run:
        node.serve({OPS["pause"]: held})
        run = node.start(calling("pause", times=2))
        while not held.calls:
            await asyncio.sleep(0)
        return run

    run = loop.run_until_complete(begin())
    node.serve({OPS["pause"]: lambda call: 5})
    if gently:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    gc.collect()
    assert ended(run).exit_code == 5, "its second call is answered"
    said = [line.message for line in run.read_logs()]
    why = "CancelledError: " if gently else "RuntimeError: the event loop that served it was closed"
    assert said == [f"spear_trial.pause failed: {why}"]
    assert held.cancelled == gently


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_closed_before_a_handler_began_leaves_no_warning(node: Executor, name: str):
    """Its last turn makes the handler's task, and it has no next."""
    loop = LOOPS[name]()

    async def begin() -> Run:
        node.serve({OPS["pause"]: lambda call: later(call)})
        return node.start(calling("pause"), inline=True)

    run = loop.run_until_complete(begin())
    loop.stop()
    loop.run_forever()
    loop.close()
    gc.collect()
    assert ended(run).exit_code == EIO


@pytest.mark.parametrize("name", LOOPS)
def test_an_exception_that_is_kept_does_not_hide_the_end_of_a_loop(node: Executor, name: str):
    """Its frames hold what the loop was calling."""
    loop, held, kept = LOOPS[name](), Held(), []

    async def begin() -> Run:
        node.serve({OPS["pause"]: raises, OPS["add"]: held}, failed=lambda _, e: kept.append(e))
        assert (await node.start(calling("pause"))).exit_code == EIO
        run = node.start(calling("add", 1, 2))
        while not held.calls:
            await asyncio.sleep(0)
        return run

    run = loop.run_until_complete(begin())
    loop.close()
    assert ended(run).exit_code == EIO
    assert [type(error) for error in kept] == [Odd, RuntimeError]


def test_after_its_loop_was_closed_an_executor_serves_on(node: Executor):
    node.serve({OPS["add"]: later})
    for name in (*LOOPS, *LOOPS):
        with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
            runner.run(outcome_of(node.start(calling("add", 1, 1))))
        assert ended(node.start(calling("add", 2, 2))).exit_code == 4


def test_handlers_on_the_own_thread_may_use_its_loop(node: Executor):
    async def nested(call: Call) -> int:
        async with asyncio.timeout(HANG_S):
            return await asyncio.to_thread(lambda: 17)

    node.serve({OPS["pause"]: nested})
    assert ended(node.start(calling("pause"))).exit_code == 17


def test_an_exit_asked_for_by_a_handler_is_the_loops(runner: asyncio.Runner):
    def leave(call: Call) -> int:
        raise SystemExit(3)

    async def work() -> Outcome:
        node.serve({OPS["pause"]: leave, OPS["add"]: adding})
        runs.append(node.start(calling("pause")))
        await node.start(calling("add", 1, 2))
        return await runs[0]

    runs: list[Run] = []
    with executor() as node:
        with pytest.raises(SystemExit):
            runner.run(work())
        assert ended(runs[0]).exit_code == EIO


def test_a_thread_that_a_handler_ended_is_made_anew(node: Executor):
    def leave(call: Call) -> int:
        raise SystemExit(3)

    node.serve({OPS["pause"]: leave, OPS["add"]: adding})
    for _ in range(3):
        assert ended(node.start(calling("pause"))).exit_code == EIO
        assert ended(node.start(calling("add", 1, 2))).exit_code == 3


# ---- guests that end


@pytest.mark.parametrize("how", ["cancel", "deadline", "drop"])
def test_the_handler_of_a_guest_that_ended_is_cancelled(node: Executor, how: str):
    held = Held()
    node.serve({OPS["pause"]: held})
    run = node.start(calling("pause"), timeout_ns=50_000_000 if how == "deadline" else HANG_NS)
    held.wait()
    if how == "cancel":
        run.cancel()
    elif how == "deadline":
        assert ended(run).cause == "deadline"
    del run
    assert held.over.wait(HANG_S)
    assert held.calls[0].gone
    drained(node)


HANG_NS = int(HANG_S * 1e9)


def test_a_handler_that_does_not_heed_its_cancelling_is_not_waited_for(node: Executor):
    began, go = threading.Event(), threading.Event()
    told: list[bool] = []

    async def stubborn(call: Call) -> int:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.to_thread(go.wait)
        call.log(3, "too late")
        told.append(call.gone)
        return 0

    node.serve({OPS["pause"]: stubborn})
    run = node.start(calling("pause"))
    assert began.wait(HANG_S)
    run.cancel()
    assert ended(run).cause == "cancelled"
    go.set()
    while not told:
        os.sched_yield()
    assert told == [True]
    assert [line.message for line in run.read_logs()] == ["Terminate execution"]


def test_a_guest_that_ended_before_its_call_was_seen_is_not_handled(runner: asyncio.Runner):
    async def work() -> None:
        called: list[Call] = []
        node.serve({OPS["pause"]: lambda call: called.append(call) or 0})
        run = node.start(calling("pause"), inline=True)  # posts, while this loop stands still
        run.cancel()
        assert (await run).cause == "cancelled"
        assert called == []

    with executor() as node:
        runner.run(work())


def test_a_handler_that_fails_after_its_guest_has_ended_is_forgotten(node: Executor):
    """The note of the guest's end comes when the handler is over."""
    runs: list[Run] = []
    failed: list[Call] = []
    begin = threading.Event()

    def fails(call: Call) -> int:
        assert begin.wait(HANG_S)
        runs[-1].cancel()
        while not runs[-1].done:  # this thread may not wait: it answers the guest's calls
            os.sched_yield()
        raise Odd("late")

    node.serve({OPS["pause"]: fails, OPS["add"]: adding}, failed=lambda c, e: failed.append(c))
    for _ in range(3):
        begin.clear()
        runs.append(node.start(calling("pause")))
        begin.set()
        assert ended(runs[-1]).cause == "cancelled"
        assert ended(node.start(calling("add", 1, 2))).exit_code == 3
    assert failed == []
    drained(node)


def test_a_coroutine_that_never_began_is_closed(recwarn: pytest.WarningsRecorder):
    """The guest ends in the turn that made the handler's task."""

    async def work() -> None:
        runs: list[Run] = []

        def handler(call: Call) -> Any:
            runs[0].cancel()
            return later(call)

        node.serve({OPS["pause"]: handler})
        runs.append(node.start(calling("pause"), inline=True))
        assert (await runs[0]).cause == "cancelled"
        await asyncio.sleep(0)

    with executor() as node:
        asyncio.run(work())
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


# ---- close


@pytest.mark.parametrize("where", ["on the loop", "on a thread"])
def test_a_close_ends_guests_and_handlers(runner: asyncio.Runner, where: str):
    node, held = Executor(workers=1), Held()

    async def work() -> Outcome:
        node.serve({OPS["pause"]: held})
        run = node.start(calling("pause"))
        while not held.calls:
            await asyncio.sleep(0)
        if where == "on the loop":
            node.close()
        else:
            await asyncio.to_thread(node.close)
        outcome = await asyncio.wait_for(outcome_of(run), HANG_S)
        while not held.cancelled:
            await asyncio.sleep(0)
        return outcome

    assert runner.run(work()).cause == "cancelled"


def test_guests_are_answered_during_the_grace_of_a_close():
    with executor(handlers={OPS["add"]: later}) as node:
        run = node.start(calling("add", 1, 2, times=20))
        node.close(HANG_S)
        assert ended(run).exit_code == 3


def test_a_close_on_the_thread_that_answers_does_not_wait_for_itself():
    closed: list[bool] = []
    node = Executor(workers=1)

    def close(call: Call) -> int:
        node.close()
        closed.append(True)
        return 0

    node.serve({OPS["pause"]: close})
    assert ended(node.start(calling("pause"))).cause == "cancelled"
    while not closed:
        os.sched_yield()


def test_a_handler_may_close_its_executor_on_the_loop(runner: asyncio.Runner):
    """More calls wait than the one that closes."""
    node = Executor(workers=1)

    def close(call: Call) -> int:
        node.close()
        return 0

    async def work() -> set[str]:
        node.serve({OPS["pause"]: close})
        runs = [node.start(calling("pause"), inline=True) for _ in range(20)]
        return {(await run).cause for run in runs}

    assert runner.run(work()) == {"cancelled"}


def test_executors_that_answer_come_and_go():
    def once() -> None:
        with executor(workers=1, handlers={OPS["add"]: later, OPS["pause"]: Held()}) as node:
            runs = [node.start(calling("add", 1, 2)) for _ in range(5)]
            node.start(calling("pause"))
            assert {ended(run).exit_code for run in runs} == {3}

    once()
    gc.collect()
    before = held_at_rest()
    for _ in range(10):
        once()
    gc.collect()
    assert held_again(before) == before


def test_an_executor_dropped_with_guests_waiting_ends_them():
    held = Held()
    node = Executor(workers=1, handlers={OPS["pause"]: held})
    run = node.start(calling("pause"))
    held.wait()
    del node, run
    gc.collect()
    assert held.over.wait(HANG_S)


def test_a_process_may_end_with_guests_waiting():
    probe = """
import asyncio
from trial_runs import OPS, calling
from spear._core.executor import Executor
async def never(call):
    print("begun", flush=True)
    await asyncio.Event().wait()
node = Executor(workers=1, handlers={OPS["pause"]: never})
run = node.start(calling("pause"))
run.wait(0.2)
"""
    done = python(probe)
    assert (done.returncode, done.stdout, done.stderr) == (0, "begun\n", "")


def test_no_loop_runs_where_asyncio_is_still_being_imported(
    node: Executor, monkeypatch: pytest.MonkeyPatch
):
    """By the thread that answers, while others start guests: the module is there, but not whole."""
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "asyncio.events", ModuleType("asyncio.events"))
        node.serve({OPS["add"]: adding})
    assert ended(node.start(calling("add", 1, 2))).exit_code == 3


def test_a_forked_child_leaves_the_door_alone():
    probe = """
import gc, os
from trial_runs import OPS, adding, calling
from guest_runs import ended
from spear._core.executor import Executor
node = Executor(workers=1, handlers={OPS["add"]: adding})
assert ended(node.start(calling("add", 1, 2))).exit_code == 3
child = os.fork()
if child == 0:
    del node
    gc.collect()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert ended(node.start(calling("add", 1, 2))).exit_code == 3
print("both well")
"""
    done = python(probe)
    assert done.stdout == "both well\n", done.stderr


def test_a_door_alone_has_nothing_to_do():
    Door()

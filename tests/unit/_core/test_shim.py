"""Tools: functions of the guest that run while the guest sits inside its own send."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wasm_asm as asm
from guest_runs import (
    HANG_S,
    MS,
    ended,
    executor,
    guest,
    guest_bytes,
    logged,
    python,
)
from trial_runs import (
    EFAULT,
    EINVAL,
    EIO,
    ENOSPC,
    ENOSYS,
    OPS,
    TRIAL,
    calling,
    sending,
    tools_guest,
    trial_engine,
)

from spear._core.door import Call
from spear._core.executor import Executor
from spear._core.run import Run
from spear._core.shimwasm import shim_wasm
from spear._core.wasmfile import scan
from spear.errors import ModuleLimit

SENDS_MAX = 8


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


def tools(node: Executor, *args: str, handler: Any, **more: Any) -> Run:
    node.serve({OPS["send"]: handler})
    return node.start(tools_guest(), args=("tools", *args), **more)


def said_by(node: Executor, tool: str, *args: bytes, **more: Any) -> list[Any]:
    said: list[Any] = []
    run = tools(node, tool, handler=sending(*args, said=said, **more))
    assert ended(run).cause == "exit", run.outcome
    assert run.output == b"7\n"
    return said


# ---- results


@pytest.mark.parametrize("inline", [False, True], ids=["worker", "inline"])
def test_a_send_calls_tools_in_order_and_gives_its_answer(node: Executor, inline: bool):
    said: list[Any] = []
    run = tools(node, "sum", handler=sending(b"1+2", b"99", b"", said=said), inline=inline)
    assert ended(run).exit_code == 0
    assert run.output == b"7\n"
    assert said == [(0, "3"), (0, "18"), (0, "0")]


@pytest.mark.parametrize("answer", [0, 5, -5, 2**31 - 1, -(2**31)])
def test_a_send_without_tools_gives_its_answer(node: Executor, answer: int):
    run = tools(node, "sum", "2", handler=lambda call: answer)
    assert ended(run).exit_code == 0
    assert run.output == b"%d\n%d\n" % (answer, answer)


@pytest.mark.parametrize(
    ("tool", "args", "said"),
    [
        ("same", b"abc", (0, "abc")),
        ("same", "wörter".encode(), (0, "wörter")),
        ("nothing", b"abc", (0, "")),
        ("fails", b"abc", (-3, "")),
        ("fails", b"", (0, "\0" * 100)),  # the room it left as it was; its length still says 100
        ("wild", b"", (EIO, "")),
        ("one_more", b"", (EIO, "")),
        ("not_text", b"", (EIO, "")),
        ("again", b"abc", (0, "abc")),
        ("greedy", b"", (ENOSPC, "")),
        ("too_large", b"", (ENOSPC, "")),
        ("grows", b"abc", (0, "abc")),
        ("sleeps", b"abc", (0, "abc")),
        ("no_tool", b"", (EINVAL, "")),
        ("null", b"", (EINVAL, "")),
        ("outside", b"", (EINVAL, "")),
        ("negative", b"", (EFAULT, "")),
    ],
)
def test_what_a_tool_does_is_what_is_said(node: Executor, tool: str, args: bytes, said: Any):
    assert said_by(node, tool, args, args) == [said, said]


def test_a_tool_is_called_once_more_and_not_twice(node: Executor):
    """Eight bytes would do, it says each time; the C source counts."""
    assert said_by(node, "greedy", b"") == [(ENOSPC, "")]
    assert said_by(node, "again", b"x", b"y", b"z") == [(0, "x"), (0, "y"), (0, "z")]


def test_output_is_bounded(node: Executor):
    assert said_by(node, "same", b"12345", out_max=5) == [(0, "12345")]
    assert said_by(node, "same", b"12345", out_max=4) == [(ENOSPC, "")]


@pytest.mark.parametrize(
    ("arena", "args", "said"),
    [
        (1024, bytes(1007), (0, "")),
        (1024, bytes(1008), (ENOSPC, "")),
        (1024, bytes(2000), (ENOSPC, "")),
        (0, b"", (EFAULT, "")),
        (-1, b"", (EFAULT, "")),
        (1 << 30, b"", (EFAULT, "")),  # outside the memory
        (1 << 31, b"", (EFAULT, "")),
        (1 << 40, b"", (EFAULT, "")),
    ],
)
def test_the_arena_is_checked(node: Executor, arena: int, args: bytes, said: Any):
    out_max = 1 << 30 if arena == 1 << 30 else 100
    assert said_by(node, "nothing", args, arena=arena, out_max=out_max) == [said]


@pytest.mark.parametrize(
    ("function", "status"),
    [(-1, EFAULT), (-(2**63), EFAULT), (2**31, EINVAL), (2**32, EINVAL), (2**40, EINVAL),
     (2**63 - 1, EINVAL)],
)  # fmt: skip
def test_a_function_that_is_in_no_table_is_the_tools_error(
    node: Executor, function: int, status: int
):
    said: list[Any] = []

    async def send(call: Call) -> int:
        said.append(await call.tool(function, b"", (call.args[1], 1024), 100))
        return 0

    assert ended(tools(node, "sum", handler=send)).exit_code == 0
    assert said == [(status, "")]


# ---- the table a tool is looked up in

TOOL_TYPE = ("iiii", "i")


def tabled(tables: list[tuple[str, bytes, list[int]]], *, start: bool = False) -> bytes:
    """A guest whose tools are 2 (returns 0, writes nothing) and 3 (returns 9); each table has an
    export name, a type and the functions in it. With `start` its start function sends."""
    from wasm_bytes import HEADER, export, func_type, import_func, leb, section, text, vector

    types = [
        func_type(),
        *(func_type(asm.types_of(a), asm.types_of(b)) for a, b in [("ii", "i"), TOOL_TYPE]),
    ]
    send = asm.i32_const(1) + asm.i32_const(64) + asm.call(0) + asm.DROP
    bodies = [b"" if start else send, asm.i32_const(0), asm.i32_const(9), send]
    exports = [export("_start", 0, 1), export("memory", 2, 0)]
    exports += [export(name, 1, at) for at, (name, _, _) in enumerate(tables) if name]
    elements = [
        b"\x02" + leb(at) + asm.i32_const(0) + asm.END + b"\0" + vector(*(leb(f) for f in items))
        for at, (_, kind, items) in enumerate(tables) if kind == b"\x70"
    ]  # fmt: skip
    return b"".join((
        HEADER,
        section(1, vector(*types)),
        section(2, vector(import_func(TRIAL, "send", 1))),
        section(3, vector(b"\0", b"\x02", b"\x02", b"\0")),
        section(4, vector(*(kind + b"\0" + leb(4) for _, kind, _ in tables))),
        section(5, vector(b"\0" + leb(1))),
        section(7, vector(*exports)),
        section(8, leb(4)) if start else b"",
        section(9, vector(*elements)),
        section(10, vector(*(text(b"\0" + body + asm.END) for body in bodies))),
    ))  # fmt: skip


FUNC = b"\x70"


@pytest.mark.parametrize(
    ("tables", "status"),
    [
        ([("table", FUNC, [1, 3])], 9),
        ([("", FUNC, [1, 2]), ("__indirect_function_table", FUNC, [1, 3])], 9),
        ([("a", FUNC, [1, 2]), ("table", FUNC, [1, 3])], 9),
        ([("table", FUNC, [1, 2]), ("__indirect_function_table", FUNC, [1, 3])], 9),
        ([("a", FUNC, [1, 3]), ("b", FUNC, [1, 2])], 9),
        ([("", FUNC, [1, 3])], EINVAL),  # not exported
        ([], EINVAL),
        ([("table", FUNC, [1, 1])], EINVAL),  # another signature
        ([("table", FUNC, [1])], EINVAL),  # null
    ],
)  # fmt: skip
def test_a_tool_is_looked_up_in_the_exported_table(node: Executor, tables: Any, status: int):
    said: list[Any] = []
    node.serve({OPS["send"]: sending(b"", said=said)})
    module = trial_engine().load(tabled(tables))
    assert ended(node.start(module)).exit_code == 0
    assert said == [(status, "")]


def test_a_guest_that_is_still_being_instantiated_has_no_tools(node: Executor):
    said: list[Any] = []
    node.serve({OPS["send"]: sending(b"", said=said)})
    module = trial_engine().load(tabled([("table", FUNC, [1, 3])], start=True))
    assert ended(node.start(module)).cause == "exit"
    assert said == [(EINVAL, "")]


def test_tools_and_shims_count_in_the_stores_limits(node: Executor):
    """Four tables, which is the limit, and the shim's beside them."""
    four = [(f"t{n}", FUNC, [1, 3]) for n in range(4)]
    said: list[Any] = []
    node.serve({OPS["send"]: sending(b"", said=said)})
    assert ended(node.start(trial_engine().load(tabled(four)))).exit_code == 0
    assert said == [(9, "")]
    with pytest.raises(ModuleLimit, match="5 tables, the limit is 4"):
        trial_engine().load(tabled([*four, ("t5", FUNC, [1])]))


# ---- tools that do not return


def begun(run: Run) -> Run:
    """Once its tool says so."""
    lines: list[str] = []
    while not lines:
        assert not run.wait(HANG_S, events=True)
        lines = logged(run)
    return run


class Waiting:
    """Sends one tool, and knows whether it was cancelled meanwhile."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    async def __call__(self, call: Call) -> int:
        function, arena = call.args
        try:
            await call.tool(function, b"x", (arena, 1024), 100)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return 7


def test_a_trap_in_a_tool_ends_the_guest_as_a_trap(node: Executor):
    handler = Waiting()
    outcome = ended(tools(node, "traps", handler=handler))
    assert (outcome.cause, outcome.trap) == ("trap", "unreachable code reached")
    assert [frame.function for frame in outcome.backtrace] == ["traps", "send", "_start"]
    assert handler.cancelled.wait(HANG_S)


def test_an_exit_in_a_tool_ends_the_guest(node: Executor):
    handler = Waiting()
    assert ended(tools(node, "exits", handler=handler)).exit_code == 1
    assert handler.cancelled.wait(HANG_S)


@pytest.mark.parametrize("tool", ["loops", "sleeps_on"])
def test_a_guest_is_cancelled_inside_its_tool(node: Executor, tool: str):
    handler = Waiting()
    run = begun(tools(node, tool, handler=handler))
    assert run.cancel("enough")
    assert ended(run).cause == "cancelled"
    assert handler.cancelled.wait(HANG_S)


@pytest.mark.parametrize("tool", ["loops", "sleeps_on"])
def test_a_guest_ends_at_its_deadline_inside_its_tool(node: Executor, tool: str):
    handler = Waiting()
    outcome = ended(tools(node, tool, handler=handler, timeout_ns=60 * MS))
    assert outcome.cause == "deadline"
    assert handler.cancelled.wait(HANG_S)
    if tool == "loops":
        assert [frame.function for frame in outcome.backtrace] == ["loops", "send", "_start"]


def test_a_close_ends_guests_inside_their_tools():
    handler = Waiting()
    with executor(workers=1) as node:
        runs = [begun(tools(node, tool, handler=handler)) for tool in ("loops", "sleeps_on")]
        node.close()
        assert {ended(run).cause for run in runs} == {"cancelled"}
    assert handler.cancelled.wait(HANG_S)


# ---- tools that wait, are sliced, are moved


def test_a_tool_may_post_calls_of_its_own(node: Executor):
    async def pause(call: Call) -> int:
        await asyncio.sleep(0.001)
        return 0

    node.serve({OPS["pause"]: pause})
    assert said_by(node, "pauses", b"a", b"b") == [(0, "a"), (0, "b")]


def test_a_tool_that_loops_lets_others_run():
    with executor(workers=1) as node:
        run = begun(tools(node, "loops", handler=Waiting()))
        assert ended(node.start(guest("hello"))).exit_code == 0
        assert ended(node.start(calling("noop"))).exit_code == 0
        run.cancel()
        assert ended(run).cause == "cancelled"


def test_tools_are_sliced(node: Executor):
    """Eight that compute, on two workers: each has many slices, none is mixed up with another."""
    said: set[tuple[Any, Any]] = set()

    async def send(call: Call) -> int:
        function, arena = call.args
        for number in range(2):
            text = f"{number} of {call.guest}"
            said.add(((0, text), await call.tool(function, text.encode(), (arena, 1024), 100)))
        return 7

    runs = [tools(node, "works", handler=send) for _ in range(8)]
    assert {ended(run).exit_code for run in runs} == {0}
    assert len(said) == 16
    assert all(asked == got for asked, got in said)


def test_guests_move_between_workers_while_their_tools_wait():
    """More guests than workers; each parks in each of its tools."""
    said: list[Any] = []
    with executor(workers=3) as node:
        handler = sending(*[b"t%d" % n for n in range(10)], said=said)
        runs = [tools(node, "sleeps", handler=handler) for _ in range(60)]
        assert {ended(run).exit_code for run in runs} == {0}
    assert sorted(said) == sorted([(0, f"t{n}") for n in range(10)] * 60)


# ---- sends inside sends


def test_sends_nest_up_to_the_cap_and_no_deeper(node: Executor):
    said: list[Any] = []
    run = tools(node, "nests", handler=sending(b"", said=said))
    assert ended(run).exit_code == 0
    assert run.output == b"7\n"
    # The innermost tool's own send is refused, and it says so; then all return.
    assert said == [(0, str(SENDS_MAX))] * SENDS_MAX


def test_a_nested_send_is_refused_with_eio_only(node: Executor):
    """After it, the same depth may be reached again."""
    said: list[Any] = []
    run = tools(node, "nests", "3", handler=sending(b"", said=said))
    assert ended(run).exit_code == 0
    assert len(said) == 3 * SENDS_MAX


def test_each_send_calls_its_own_tools(node: Executor):
    """A send inside a tool calls another function, and the outer one goes on with its own."""
    said: list[Any] = []
    run = tools(node, "nests", "1", "same", handler=sending(b"a", b"b", said=said))
    assert ended(run).exit_code == 0
    assert said == [(0, "a"), (0, "b"), (0, "1"), (0, "a"), (0, "b"), (0, "2")]


def test_a_guest_is_cancelled_deep_inside(node: Executor):
    began: list[Call] = []
    deep = threading.Event()
    cancelled = threading.Semaphore(0)

    async def send(call: Call) -> int:
        function, arena = call.args
        began.append(call)
        try:
            if len(began) == SENDS_MAX:
                deep.set()
                await asyncio.Event().wait()
            await call.tool(function, b"", (arena, 1024), 100)
        except asyncio.CancelledError:
            cancelled.release()
            raise
        return 7

    run = tools(node, "nests", handler=send)
    assert deep.wait(HANG_S)
    run.cancel()
    assert ended(run).cause == "cancelled"
    for _ in range(SENDS_MAX):
        assert cancelled.acquire(timeout=HANG_S)
    assert all(call.gone for call in began)


# ---- handlers that do it wrong


async def _wrong(call: Call, told: list[str]) -> int:
    function, arena = call.args
    first = asyncio.ensure_future(call.tool(function, b"a", (arena, 1024), 100))
    await asyncio.sleep(0)
    try:
        await call.tool(function, b"b", (arena, 1024), 100)
    except RuntimeError as error:
        told.append(str(error))
    told.append(str(await first))
    return 7


def test_one_tool_at_a_time(node: Executor):
    told: list[str] = []
    assert ended(tools(node, "sleeps", handler=lambda call: _wrong(call, told))).exit_code == 0
    assert told == ["spear_trial.send runs a tool already: one at a time", "(0, 'a')"]


def test_a_call_that_calls_no_tools_says_so(node: Executor):
    async def pause(call: Call) -> int:
        await call.tool(1, b"", (64, 1024), 100)
        return 0

    node.serve({OPS["pause"]: pause})
    run = node.start(calling("pause"))
    assert ended(run).exit_code == EIO
    (said,) = logged(run)
    assert said.endswith("RuntimeError: spear_trial.pause calls no tools")


def test_an_answered_call_has_no_more_tools(node: Executor):
    kept: list[Call] = []
    said: list[str] = []

    async def late() -> int:
        try:
            await kept[0].tool(1, b"", (64, 1024), 100)
        except RuntimeError as error:
            said.append(str(error))
        return 0

    node.serve({OPS["pause"]: lambda call: late()})
    run = tools(node, "sum", handler=lambda call: kept.append(call) or 0)
    assert ended(run).exit_code == 0
    assert ended(node.start(calling("pause"))).exit_code == 0
    assert said == ["spear_trial.send was answered, or its guest has ended: no more tools"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_handler_may_give_up_a_tool_but_its_word_waits_for_it(node: Executor, fails: bool):
    async def send(call: Call) -> int:
        function, arena = call.args
        tool = asyncio.ensure_future(call.tool(function, b"a", (arena, 1024), 100))
        await asyncio.sleep(0)
        tool.cancel()
        if fails:
            raise ValueError("enough")
        return 3

    run = tools(node, "sleeps", handler=send)
    assert ended(run).exit_code == 0
    assert run.output == (b"-5\n" if fails else b"3\n")


def test_a_handler_that_gave_up_a_tool_may_call_the_next_when_it_has_ended(node: Executor):
    async def send(call: Call) -> int:
        function, arena = call.args
        try:
            async with asyncio.timeout(0):
                await call.tool(function, b"a", (arena, 1024), 100)
        except TimeoutError:
            pass
        while True:
            try:
                return len((await call.tool(function, b"later", (arena, 1024), 100))[1])
            except RuntimeError:
                await asyncio.sleep(0)

    run = tools(node, "sleeps", handler=send)
    assert ended(run).exit_code == 0
    assert run.output == b"5\n"


def test_a_loop_closed_while_a_tool_runs_fails_the_send(node: Executor):
    loop = asyncio.new_event_loop()

    async def begin() -> Run:
        run = tools(node, "sleeps", handler=Waiting())
        while not node.stats()["woken"]:
            await asyncio.sleep(0)
        return run

    run = loop.run_until_complete(begin())
    loop.close()
    gc.collect()
    assert ended(run).exit_code == 0
    assert run.output in (b"-5\n", b"7\n")


# ---- which modules have a shim


def test_without_a_handler_a_send_answers_enosys(node: Executor):
    run = node.start(tools_guest(), args=("tools", "sum"))
    assert ended(run).exit_code == 0
    assert run.output == b"%d\n" % ENOSYS


def test_a_warm_instance_sends_too(node: Executor):
    """Each call finds the tools of the one instance, whatever record it has."""
    said: list[Any] = []
    node.serve({OPS["send"]: lambda call: said.append(call.name) or 4})
    instance = node.instantiate(tools_guest(), args=("tools", "sum"))
    run = instance.function("_start").start()
    assert ended(run).output_bytes == 2
    assert said == ["spear_trial.send"]


def test_a_module_that_sends_is_cached_like_any_other(tmp_path: Path, node: Executor):
    for source in ("compiled", "cache"):
        module = trial_engine().load(guest_bytes("tools"), cache_dir=str(tmp_path / "cache"))
        assert module.source == source
        node.serve({OPS["send"]: lambda call: 4})
        run = node.start(module, args=("tools", "sum"))
        assert ended(run).output_bytes == 2


def test_batches_of_guests_with_tools(node: Executor):
    said: list[Any] = []
    node.serve({OPS["send"]: sending(b"12", b"34", said=said)})
    batch = node.run_many(tools_guest(), 200, args=("tools", "sum", "2"))
    assert batch.completed == 200
    assert sorted(said) == sorted([(0, "3"), (0, "7")] * 400)


def test_workers_link_guests_to_their_shims_at_the_same_time(node: Executor):
    node.serve({OPS["send"]: lambda call: 1})
    for _ in range(3):
        assert node.run_many(tools_guest(), 5000, args=("tools", "sum")).completed == 5000


def test_what_is_made_for_one_guest_with_tools_goes_with_it():
    """In a process of its own, with few guests alive at once: else memory kept for later guests,
    more at one time than at another, hides what is lost.
    """
    probe = """
import gc
from guest_runs import executor, resident_kib
from trial_runs import OPS, tools_guest
def many(count):
    batch = node.run_many(tools_guest(), count, args=("tools", "sum"))
    assert batch.completed == count
    gc.collect()
    return resident_kib()
with executor(guests_max=40, handlers={OPS["send"]: lambda call: 1}) as node:
    before = many(5000)
    print(many(10000) - before)
"""
    done = python(probe)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2048


def test_the_shim_is_what_its_description_says():
    declared = scan(shim_wasm(SENDS_MAX))
    assert [(i.module, i.name, i.signature) for i in declared.imports] == [
        ("host", "step", "(i32, i32, i32, i32) -> (i32, i32, i32, i32, i32)")
    ]
    assert list(declared.tables) == [(SENDS_MAX, SENDS_MAX)]
    assert {name: kind for name, kind, _ in declared.exports} == {"send": "func", "slots": "table"}
    assert not declared.memories

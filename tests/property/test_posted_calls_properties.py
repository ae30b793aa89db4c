"""Random interleavings of posts, answers and ends, against a reference that says how each must end.

Rule: every step waits for what it must bring about (the next call, the guest's end, the handler's),
so the reference always knows the state; only a "race" leaves two ends open.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from guest_runs import HANG_S, executor
from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples
from trial_runs import EIO, OPS, calling, tools_guest

from spear._core.door import Call
from spear._core.executor import Executor
from spear._core.run import Run

GUESTS = 4
CALLS = 3
STATUSES = st.sampled_from([0, 1, -2, 77, -(2**31), 2**31 - 1])
WHICH = st.integers(0, GUESTS - 1)
ACTIONS = st.one_of(
    st.tuples(st.just("start"), st.sampled_from(["pause", "send"])),
    st.tuples(st.just("answer"), WHICH, STATUSES),
    st.tuples(st.just("raise"), WHICH),
    st.tuples(st.just("tool"), WHICH, st.binary(max_size=20).filter(lambda b: b"\0" not in b)),
    st.tuples(st.just("kill"), WHICH),
    st.tuples(st.just("race"), WHICH, STATUSES),
)


@dataclass
class Client:
    """What the reference knows of one guest."""

    run: Run
    sends: bool
    left: int = CALLS
    call: Call | None = None  # under way
    word: asyncio.Future[Any] | None = None  # what its handler waits for
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # that handler
    statuses: list[int] = field(default_factory=list)
    may_end: set[str] = field(default_factory=lambda: {"exit"})


class Host:
    """Handlers that do what they are told, one word at a time."""

    def __init__(self, node: Executor) -> None:
        self.node = node
        self.begun: deque[tuple[Call, asyncio.Future[Any], asyncio.Event]] = deque()
        self.came = asyncio.Event()
        self.clients: list[Client] = []
        node.serve({OPS["pause"]: self.handle, OPS["send"]: self.handle})

    async def handle(self, call: Call) -> int:
        ended = asyncio.Event()
        try:
            while True:
                word = asyncio.get_running_loop().create_future()
                self.begun.append((call, word, ended))
                self.came.set()
                said = await word
                if isinstance(said, int):
                    return said
                if isinstance(said, Exception):
                    raise said
                function, arena = call.args
                answer = await call.tool(function, said, (arena, 1024), 100)
                assert answer == expected_of(said)
        finally:
            ended.set()

    async def next_word(self, client: Client) -> None:
        """Until the client's handler asks for its next word."""
        while client.word is None:
            while not self.begun:
                self.came.clear()
                await asyncio.wait_for(self.came.wait(), HANG_S)
            call, word, ended = self.begun.popleft()
            if not call.gone:  # as one that lost a race
                client.call, client.word, client.ended = call, word, ended

    async def start(self, kind: str) -> None:
        if len(self.clients) < GUESTS:
            sends = kind == "send"
            module = tools_guest() if sends else calling("pause", times=CALLS)
            args = ("tools", "same", str(CALLS)) if sends else ()
            client = Client(self.node.start(module, args=args), sends)
            self.clients.append(client)
            await self.next_word(client)

    async def finish(self, client: Client, status: int) -> None:
        """One call is over: the next comes, or the guest ends."""
        client.statuses.append(status)
        client.left -= 1
        client.call = client.word = None
        if client.left:
            await self.next_word(client)
        else:
            await self.check(client)

    async def check(self, client: Client) -> None:
        outcome = await asyncio.wait_for(_outcome(client.run), HANG_S)
        assert outcome.cause in client.may_end
        if outcome.cause == "exit" and client.sends:
            assert [int(line) for line in client.run.output.split()] == client.statuses
        elif outcome.cause == "exit":
            assert outcome.exit_code == client.statuses[-1]
        if client.call is not None:
            await asyncio.wait_for(client.ended.wait(), HANG_S)
            assert client.call.gone or outcome.cause == "exit"
        client.left, client.call, client.word = 0, None, None

    async def act(self, what: str, client: Client, *more: Any) -> None:
        assert client.word is not None
        if what == "answer":
            client.word.set_result(more[0])
            await self.finish(client, more[0])
        elif what == "raise":
            client.word.set_result(ValueError("told to"))
            await self.finish(client, EIO)
        elif what == "tool" and client.sends:
            client.word.set_result(more[0])
            client.word = None
            await self.next_word(client)
        elif what == "kill":
            client.may_end = {"cancelled"}
            assert client.run.cancel()
            await self.check(client)
        elif what == "race":
            client.word.set_result(more[0])
            client.statuses.append(more[0])
            client.may_end = {"cancelled"} if client.left > 1 else {"exit", "cancelled"}
            await asyncio.sleep(0)
            client.run.cancel()
            await self.check(client)


def expected_of(args: bytes) -> tuple[int, str]:
    try:
        return 0, args.decode()
    except UnicodeDecodeError:
        return EIO, ""


async def _outcome(run: Run) -> Any:
    return await run


async def play(node: Executor, actions: list[tuple[Any, ...]]) -> None:
    host = Host(node)
    for what, *more in actions:
        if what == "start":
            await host.start(*more)
            continue
        client = host.clients[more[0]] if more[0] < len(host.clients) else None
        if client is not None and client.left:
            await host.act(what, client, *more[1:])
    for client in host.clients:
        if client.left:
            await host.act("kill", client)
    assert all(call.gone for call, _, _ in host.begun)


@settings(max_examples=examples(120), deadline=None)
@given(actions=st.lists(ACTIONS, min_size=1, max_size=25))
def test_every_guest_ends_as_the_reference_says(actions: list[tuple[Any, ...]]):
    with executor(workers=2) as node:
        asyncio.run(play(node, [("start", "pause"), ("start", "send"), *actions]))


ARENAS = st.one_of(st.integers(-8, 100), st.sampled_from([2**31 - 1, 2**31, 2**40, 65536]))


@settings(max_examples=examples(150), deadline=None)
@given(
    arena_shift=st.integers(-(2**17), 2**17),
    arena=ARENAS,
    size=st.integers(0, 200),
    out_max=st.sampled_from([-1, 0, 1, 7, 8, 100, 2**31, 2**62]),
    function=st.one_of(st.integers(-2, 30), st.sampled_from([2**31, 2**33, -(2**63)])),
)
def test_no_arena_and_no_function_harms_the_host(
    arena_shift: int, arena: int, size: int, out_max: int, function: int
):
    """Whatever a handler asks for, the guest ends as guests do, and the next one is well."""
    said: list[Any] = []

    async def send(call: Call) -> int:
        place = (call.args[1] + arena_shift, arena)
        said.append(await call.tool(function, bytes(size), place, out_max))
        return 0

    with executor(workers=1) as node:
        node.serve({OPS["send"]: send, OPS["pause"]: lambda call: 0})
        run = node.start(tools_guest(), args=("tools", "sum"), timeout_ns=200_000_000)
        assert run.wait(HANG_S)
        assert run.outcome.cause in ("exit", "trap", "deadline")
        if run.outcome.cause == "exit" and said:
            status, text = said[0]
            assert status == 0 or text == ""
        assert node.start(calling("pause")).wait(HANG_S)

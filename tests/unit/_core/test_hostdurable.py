"""Durable puts from the guest's side: who is asked, what is answered, and how the wait ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import wasm_asm as asm
from guest_runs import HANG_S, MS, assembled, drained, ended, executor, guest, logged
from object_runs import EACCES, EEXIST, EINVAL, ENOSYS, ESTALE, Call, ask, get, input_of, put

from spear._core.engine import Engine
from spear._core.executor import Executor
from spear._core.objstore import ObjectStore

PUT, DURABLE, EIO = 17, 1, -5
KEY = b"/me/x"
ROW = ("spear", "object_put", "iiiiIii", "i")


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


@pytest.fixture
def store() -> ObjectStore:
    return ObjectStore(1 << 24)


def durable(name: bytes, value: bytes = b"v", if_version: int = -1) -> Call:
    return put(name, value, if_version, DURABLE)


def one_put() -> Any:
    """A module whose one function puts "v" as "x" durably, and exits with the answer."""
    exits = (asm.WASI, "proc_exit", "i", "")
    arguments = b"".join(map(asm.i32_const, (16, 1, 17, 1))) + asm.i64_const(-1)
    body = arguments + asm.i32_const(DURABLE) + asm.i32_const(0) + asm.call(0) + asm.call(1)
    return assembled(asm.module([ROW, exits], body, data=[(16, b"xv")]))


class Held:
    """A handler that answers when told to."""

    def __init__(self) -> None:
        self.asked, self.go = threading.Event(), threading.Event()
        self.cancelled = threading.Event()

    async def __call__(self, call: Any) -> int:
        self.asked.set()
        try:
            while not self.go.is_set():
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return 0


@pytest.mark.parametrize("inline", [False, True], ids=["worker", "inline"])
def test_the_handler_is_told_the_full_key_and_the_version(
    node: Executor, store: ObjectStore, inline: bool
) -> None:
    seen: list[Any] = []

    def kept(call: Any) -> int:
        key, version = call.args
        seen.append((call.name, key, version, bytes(store.get(key))))
        return 0

    node.serve({PUT: kept})
    asked = [durable(b"x"), put(b"z", b"plain"), durable(b"shared/y", b"w" * 70_000), get(b"x")]
    first, plain, second, got = ask(node, store, asked, inline=inline)
    assert [one.result for one in (first, plain, second, got)] == [0, 0, 0, 1]
    assert seen == [
        ("spear.object_put", KEY, first.version, b"v"),
        ("spear.object_put", b"shared/y", second.version, b"w" * 70_000),
    ]
    assert store.stats().bytes_held == 0


def test_what_is_refused_is_no_question(node: Executor, store: ObjectStore) -> None:
    node.serve({PUT: lambda call: pytest.fail("asked")})
    version = store.put(KEY, b"old")
    calls = [durable(b"x", b"w", 0), durable(b"x", b"w", version + 1), durable(b"/other/x"),
             durable(b"x", b"w", -2), put(b"x", b"w", flags=3)]  # fmt: skip
    assert [answer.result for answer in ask(node, store, calls)] == [
        EEXIST, ESTALE, EACCES, EINVAL, EINVAL,
    ]  # fmt: skip
    assert bytes(store.get(KEY)) == b"old"


def test_what_cannot_be_kept_is_in_memory_and_has_a_version(
    node: Executor, store: ObjectStore
) -> None:
    node.serve({PUT: lambda call: EIO})
    failed, again = ask(node, store, [durable(b"x", b"w"), put(b"x", b"u")])
    assert (failed.result, again.result) == (EIO, 0)
    assert 0 < failed.version < again.version


def test_a_handler_that_fails_is_an_error(node: Executor, store: ObjectStore) -> None:
    def fails(call: Any) -> int:
        raise OSError("the disk is gone")

    node.serve({PUT: fails})
    run = node.start(guest("object_calls"), stdin=input_of([durable(b"x")]), objects=store,
                     task="me")  # fmt: skip
    assert ended(run).exit_code == 0
    assert any("the disk is gone" in line for line in logged(run))


def test_the_version_is_held_while_its_guest_waits(node: Executor) -> None:
    store, held = ObjectStore(4000), Held()
    node.serve({PUT: held})
    run = node.start(one_put(), objects=store, task="me")
    assert held.asked.wait(HANG_S)
    for number in range(20):
        store.put(b"shared/%d" % number, b"u" * 1000)
    assert bytes(store.get(KEY)) == b"v"
    held.go.set()
    assert ended(run).exit_code == 0
    for number in range(20):
        store.put(b"shared/%d" % number, b"u" * 1000)
    assert KEY not in [stat.key for stat in store.list(b"/me/", 10)]


@pytest.mark.parametrize("how", ["cancelled", "deadline", "closed"])
def test_a_guest_that_ends_while_it_waits_leaves_nothing(store: ObjectStore, how: str) -> None:
    held = Held()
    with executor() as node:
        node.serve({PUT: held})
        timeout_ns = 100 * MS if how == "deadline" else 60_000 * MS
        run = node.start(one_put(), objects=store, task="me", timeout_ns=timeout_ns)
        assert held.asked.wait(HANG_S)
        if how == "cancelled":
            run.cancel()
        elif how == "closed":
            node.close()
        assert ended(run).cause == ("deadline" if how == "deadline" else "cancelled")
        assert held.cancelled.wait(HANG_S)
        drained(node)
    assert bytes(store.get(KEY)) == b"v"
    store.put(KEY, b"w")
    assert store.stats().bytes_held == 0, "its hold on the version is gone"


def test_many_guests_wait_at_once(node: Executor, store: ObjectStore) -> None:
    async def kept(call: Any) -> int:
        await asyncio.sleep(0)
        return 0

    node.serve({PUT: kept})
    runs = [
        node.start(guest("object_calls"), objects=store, task="me",
                   stdin=input_of([durable(b"%d/%d" % (number, at)) for at in range(20)]))
        for number in range(50)
    ]  # fmt: skip
    assert {ended(run).exit_code for run in runs} == {0}
    assert len(store) == 1000


def test_a_warm_instance_waits_in_a_run_and_not_in_place(
    node: Executor, store: ObjectStore
) -> None:
    body = b"".join(map(asm.i32_const, (16, 1, 17, 1))) + asm.i64_const(-1)
    body += asm.i32_const(DURABLE) + asm.i32_const(0) + asm.call(0) + asm.DROP
    module = assembled(asm.module([ROW], body, data=[(16, b"xv")]))
    seen: list[Any] = []
    node.serve({PUT: lambda call: seen.append(call.args) or 0})
    instance = node.instantiate(module, objects=store, task="me")
    for count in range(1, 4):
        run = instance.function("_start").start()
        assert ended(run).cause == "exit"
        assert len(seen) == count
    instance.function("_start")()
    assert len(seen) == 3
    assert "in place" in instance.read_logs()[-1].message


def test_nobody_keeps_objects_in_a_deterministic_world(store: ObjectStore) -> None:
    with executor(seed=1, workers=1) as node:
        module = Engine(metered=True).load(guest_module_bytes())
        run = node.start(module, stdin=input_of([durable(b"x")]), objects=store, task="me")
        assert ended(run).exit_code == 0
    assert int.from_bytes(run.output[:4], "little", signed=True) == ENOSYS
    assert len(store) == 0


def guest_module_bytes() -> bytes:
    from guest_runs import guest_bytes

    return guest_bytes("object_calls")


def test_a_module_knows_whether_it_puts_objects() -> None:
    assert guest("object_calls").puts_objects
    assert not guest("hello").puts_objects

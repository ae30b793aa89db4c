"""The object calls of guests: what each gives, and each of its errors."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from typing import Any

import pytest
import wasm_asm as asm
from guest_runs import MS, assembled, ended, engine, executor, guest, logged
from object_runs import (
    ADD_REF,
    EBUSY,
    EEXIST,
    EFAULT,
    EINVAL,
    ENOENT,
    ENOMEM,
    ENOSPC,
    ENOSYS,
    ESTALE,
    PIN,
    REMOVE_REF,
    UNPIN,
    UNSET,
    Call,
    ask,
    delete,
    get,
    input_of,
    listing,
    put,
    results,
    stat,
)  # fmt: skip

from spear._core.executor import Executor
from spear._core.objstore import ObjectStore
from spear.errors import InvalidArgument

KEY = b"/me/x"
PAGE = 65536


@pytest.fixture(scope="module")
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


@pytest.fixture
def store() -> ObjectStore:
    return ObjectStore(1 << 24)


# Put and get.


def test_what_is_put_is_got_with_its_version(node: Executor, store: ObjectStore) -> None:
    first, second = ask(node, store, [put(b"x", b"value"), get(b"x")])
    assert (first.result, second.result, second.out) == (0, 5, b"value")
    assert first.version == second.version == store.get(KEY).version


def test_guests_and_python_see_the_same_objects(node: Executor, store: ObjectStore) -> None:
    version = store.put(b"shared/y", b"from Python")
    got, _ = ask(node, store, [get(b"shared/y"), put(b"x", b"from a guest")])
    assert (got.out, got.version) == (b"from Python", version)
    assert bytes(store.get(KEY)) == b"from a guest"


def test_a_value_outlives_the_guest_that_put_it(node: Executor, store: ObjectStore) -> None:
    assert results(node, store, [put(b"x", b"v")]) == [0]
    assert ask(node, store, [get(b"x")])[0].out == b"v"


@pytest.mark.parametrize("size", [0, 1, 4095, 65535, 65536, 65537])
def test_values_of_every_size_arrive_whole(node: Executor, store: ObjectStore, size: int) -> None:
    value = bytes(at % 251 for at in range(size))
    stored = ask(node, store, [put(b"x", value)])[0]
    assert stored.result == 0
    assert bytes(store.get(KEY)) == value
    if size <= PAGE:
        got = ask(node, store, [get(b"x")])[0]
        assert (got.result, got.out) == (size, value)


def test_a_put_asks_for_a_version(node: Executor, store: ObjectStore) -> None:
    version = store.put(KEY, b"old")
    found = results(node, store, [
        put(b"x", b"new", 0), put(b"x", b"new", version + 1), put(b"y", b"new", version),
        put(b"x", b"new", version), put(b"x", b"newer", version), put(b"z", b"new", 0),
    ])  # fmt: skip
    assert found == [EEXIST, ESTALE, ESTALE, 0, ESTALE, 0]
    assert bytes(store.get(KEY)) == b"new"


def test_a_refused_put_writes_no_version(node: Executor, store: ObjectStore) -> None:
    store.put(KEY, b"old")
    assert ask(node, store, [put(b"x", b"new", 0)])[0].version == UNSET


def test_a_put_makes_metadata_empty_and_keeps_references_and_pin(
    node: Executor, store: ObjectStore
) -> None:
    store.put(KEY, b"v", metadata={"a": "b"})
    store.add_ref(KEY, 3)
    store.pin(KEY)
    assert results(node, store, [put(b"x", b"w")]) == [0]
    found = store.stat(KEY)
    assert (found.metadata, found.refs, found.pinned) == ({}, 3, True)


@pytest.mark.parametrize("flags", [2, 3, 4, -1, -(2**31)])
def test_unknown_flags_are_refused(node: Executor, store: ObjectStore, flags: int) -> None:
    store.put(KEY, b"v")
    assert results(node, store, [put(b"x", b"w", flags=flags), delete(b"x", flags=flags)]) == [
        EINVAL,
        EINVAL,
    ]
    assert bytes(store.get(KEY)) == b"v"


@pytest.mark.parametrize("version", [-2, -(2**63)])
def test_versions_below_minus_one_are_refused(
    node: Executor, store: ObjectStore, version: int
) -> None:
    assert results(node, store, [put(b"x", b"", version), delete(b"x", version)]) == [EINVAL] * 2


def test_a_durable_put_stores_nothing_and_warns_once(node: Executor, store: ObjectStore) -> None:
    run = node.start(
        guest("object_calls"), stdin=input_of([put(b"x", b"v", flags=1)] * 3), objects=store,
        task="me",
    )  # fmt: skip
    assert ended(run).exit_code == 0
    assert len(store) == 0
    (warning,) = logged(run)
    assert warning.startswith("object_put with the durable flag answers -ENOSYS")


def test_a_full_store_refuses_and_loses_nothing(node: Executor) -> None:
    store = ObjectStore(4000)
    kept = [put(b"x", b"v" * 1000), Call(PIN, b"x"), put(b"y", b"w" * 1000), Call(ADD_REF, b"y")]
    found = results(node, store, [*kept, put(b"z", b"u" * 3000), put(b"big", b"u" * 4001)])
    assert found == [0, 0, 0, 1, ENOMEM, ENOMEM]
    assert [bytes(store.get(key)) for key in (KEY, b"/me/y")] == [b"v" * 1000, b"w" * 1000]


def test_the_least_recently_used_goes_for_a_new_one(node: Executor) -> None:
    store = ObjectStore(4000)
    calls = [put(b"x", b"v" * 1000), put(b"y", b"v" * 1000), get(b"x"), put(b"z", b"v" * 1500)]
    assert results(node, store, [*calls, get(b"x"), get(b"y")]) == [0, 0, 1000, 0, 1000, ENOENT]


def test_a_get_tells_the_size_and_loses_nothing(node: Executor, store: ObjectStore) -> None:
    store.put(KEY, b"twelve bytes")
    small, empty, right = ask(node, store, [get(b"x", 11), get(b"x", 0), get(b"x", 12)])
    assert (small.result, small.len, small.version) == (ENOSPC, 12, UNSET)
    assert (empty.result, empty.len) == (ENOSPC, 12)
    assert (right.result, right.len, right.out) == (12, 12, b"twelve bytes")


def test_what_is_not_there_is_not_found(node: Executor, store: ObjectStore) -> None:
    calls = [get(b"x"), stat(b"x"), delete(b"x"), Call(ADD_REF, b"x"), Call(REMOVE_REF, b"x"),
             Call(PIN, b"x"), Call(UNPIN, b"x"), delete(b"x", 7), delete(b"x", 0)]  # fmt: skip
    assert results(node, store, calls) == [ENOENT] * len(calls)


# Delete, references, pins.


def test_a_delete_asks_for_a_version_and_for_nobody_who_needs_it(
    node: Executor, store: ObjectStore
) -> None:
    version = store.put(KEY, b"v")
    store.add_ref(KEY)
    calls = [delete(b"x", version + 1), delete(b"x", 0), delete(b"x", version),
             delete(b"x", version + 1, 1), delete(b"x", version, 1)]  # fmt: skip
    assert results(node, store, calls) == [ESTALE, ESTALE, EBUSY, ESTALE, 0]
    assert len(store) == 0


def test_a_pin_protects_until_it_is_taken_away(node: Executor, store: ObjectStore) -> None:
    calls = [put(b"x"), Call(PIN, b"x"), Call(PIN, b"x"), delete(b"x"), Call(UNPIN, b"x"),
             Call(UNPIN, b"x"), delete(b"x")]  # fmt: skip
    assert results(node, store, calls) == [0, 0, 0, EBUSY, 0, 0, 0]


def test_references_are_counted_and_bounded(node: Executor, store: ObjectStore) -> None:
    most = 2**31 - 1
    steps = [(ADD_REF, 1, 1), (ADD_REF, 4, 5), (REMOVE_REF, 6, EINVAL), (REMOVE_REF, 2, 3),
             (ADD_REF, 0, EINVAL), (ADD_REF, -1, EINVAL), (REMOVE_REF, 0, EINVAL),
             (REMOVE_REF, -(2**31), EINVAL), (ADD_REF, most, EINVAL), (ADD_REF, most - 3, most),
             (ADD_REF, 1, EINVAL), (REMOVE_REF, most, 0)]  # fmt: skip
    calls = [Call(call, b"x", number=count) for call, count, _ in steps]
    assert results(node, store, [put(b"x"), *calls])[1:] == [answer for *_, answer in steps]


# Stat and list.


def test_a_stat_is_compact_json_in_the_order_of_the_contract(
    node: Executor, store: ObjectStore
) -> None:
    version = store.put(KEY, b"value", metadata={"b": "1", "a": "2"})
    store.add_ref(KEY, 2)
    found = ask(node, store, [stat(b"x")])[0]
    known = store.stat(KEY)
    assert found.out.decode() == (
        f'{{"key":"/me/x","size":5,"version":{version},"refs":2,"pinned":false,'
        f'"created_ms":{known.created_ms},"updated_ms":{known.updated_ms},'
        '"metadata":{"b":"1","a":"2"}}'
    )
    assert found.result == found.len == len(found.out)


def test_a_stat_without_room_tells_the_size(node: Executor, store: ObjectStore) -> None:
    store.put(KEY, b"", metadata={"a": "x" * 5000})
    size = ask(node, store, [stat(b"x")])[0].result
    tight, short, none = ask(node, store, [stat(b"x", size), stat(b"x", size - 1), stat(b"x", 0)])
    assert tight.result == size
    assert (short.result, short.len) == (none.result, none.len) == (ENOSPC, size)


def names(answer: Any) -> list[str]:
    return [row["key"] for row in json.loads(answer.out)]


def test_a_list_is_in_byte_order_from_after_on(node: Executor, store: ObjectStore) -> None:
    for name in ("b", "a/2", "a", "a/1", "é", "a!"):
        store.put(b"/me/" + name.encode(), b"")
    calls = [listing(), listing(limit=2), listing(after=b"a/1"), listing(after=b"/me/a/1"),
             listing(b"a/"), listing(b"a", b"a!", 1), listing(b"c"), listing(after=b"\xc3\xa9"),
             listing(b"b", b"a"), listing(b"a", b"b")]  # fmt: skip
    full = ["/me/a", "/me/a!", "/me/a/1", "/me/a/2", "/me/b", "/me/é"]
    assert [names(answer) for answer in ask(node, store, calls)] == [
        full, full[:2], full[3:], full[3:], full[2:4], full[2:3], [], [], ["/me/b"], [],
    ]  # fmt: skip


def test_an_empty_list_is_an_empty_array(node: Executor, store: ObjectStore) -> None:
    assert [a.out for a in ask(node, store, [listing(), listing(b"shared/")])] == [b"[]"] * 2


@pytest.mark.parametrize("limit", [0, -1, 10_001, -(2**31), 2**31 - 1])
def test_a_limit_outside_its_range_is_refused(
    node: Executor, store: ObjectStore, limit: int
) -> None:
    assert results(node, store, [listing(limit=limit)]) == [EINVAL]


@pytest.mark.parametrize("count", [63, 64, 65, 127, 128, 129, 400])
def test_lists_around_the_size_of_a_page_are_whole(
    node: Executor, store: ObjectStore, count: int
) -> None:
    keys = [f"/me/{number:05}" for number in range(count)]
    for key in keys:
        store.put(key.encode(), b"v")
    limits = (1, 63, 64, 65, count - 1, count, count + 1, 10_000)
    found = ask(node, store, [listing(limit=limit) for limit in limits])
    assert [names(answer) for answer in found] == [keys[:limit] for limit in limits]
    assert store.stats().snapshots == 0
    whole = found[-1].result
    tight, short = ask(node, store, [listing(room=whole), listing(room=whole - 1)])
    assert (tight.result, short.result, short.len) == (whole, ENOSPC, whole)


def test_a_list_pages_by_its_last_key(node: Executor, store: ObjectStore) -> None:
    keys = sorted(f"/me/{number * 7919 % 1000}" for number in range(300))
    for key in keys:
        store.put(key.encode(), b"")
    seen: list[str] = []
    while True:
        after = seen[-1].encode() if seen else b""
        page = names(ask(node, store, [listing(after=after, limit=70)])[0])
        seen += page
        if len(page) < 70:
            break
    assert seen == keys


@pytest.mark.parametrize("strange", [1, 63, 64, 65, 200])
def test_keys_that_no_guest_can_name_are_left_out_of_lists(
    node: Executor, store: ObjectStore, strange: int
) -> None:
    """Python may store any bytes; a page still has as many rows as there are to show."""
    for number in range(strange):
        store.put(b"shared/a\xff%03d" % number, b"")
    keys = [f"shared/b{number:03}" for number in range(80)]
    for key in keys:
        store.put(key.encode(), b"")
    found = ask(node, store, [listing(b"shared/", limit=limit) for limit in (1, 64, 70, 1000)])
    assert [names(answer) for answer in found] == [keys[:1], keys[:64], keys[:70], keys]


def test_a_full_number_of_snapshots_refuses_long_lists_only(
    node: Executor, store: ObjectStore
) -> None:
    for number in range(65):
        store.put(b"/me/%d" % number, b"")
    held = [store.snapshot() for _ in range(1024)]
    assert results(node, store, [listing(limit=64), listing(limit=65)])[1] == ENOMEM
    held.pop().close()
    assert results(node, store, [listing(limit=65)])[0] > 0


# Pointers, stores, ends.

PUT_ROW = ("spear", "object_put", "iiiiIii", "i")
GET_ROW = ("spear", "object_get", "iiiii", "i")
STAT_ROW = ("spear", "object_stat", "iiii", "i")
LIST_ROW = ("spear", "object_list", "iiiiiii", "i")
DELETE_ROW = ("spear", "object_delete", "iiIi", "i")
REF_ROW = ("spear", "object_add_ref", "iii", "i")
PIN_ROW = ("spear", "object_pin", "ii", "i")
EXIT = (asm.WASI, "proc_exit", "i", "")


def called(
    node: Executor, store: ObjectStore | None, row: asm.ImportRow, *args: int,
    data: tuple[tuple[int, bytes], ...] = ((16, b"x"), (32, b"\x40\0\0\0")),
) -> int:  # fmt: skip
    """The answer to one call with these very numbers; "x" lies at 16, a room of 64 at 32."""
    consts = b"".join(
        asm.i64_const(value) if letter == "I" else asm.i32_const(value)
        for letter, value in zip(row[2], args, strict=True)
    )
    wasm = asm.module([row, EXIT], consts + asm.call(0) + asm.call(1), data=data)
    given = {} if store is None else {"objects": store, "task": "me"}
    outcome = ended(node.start(assembled(wasm), **given))
    assert outcome.cause == "exit"
    return outcome.exit_code


@pytest.mark.parametrize("at", [-1, -(2**31), PAGE, PAGE + 1, 2**31 - 1])
@pytest.mark.parametrize(
    ("row", "args", "place"),
    [
        (PUT_ROW, (16, 1, 64, 4, -1, 0, 0), 0), (PUT_ROW, (16, 1, 64, 4, -1, 0, 0), 2),
        (PUT_ROW, (16, 1, 64, 4, -1, 0, 0), 6),
        (GET_ROW, (16, 1, 64, 32, 0), 0), (GET_ROW, (16, 1, 64, 32, 0), 2),
        (GET_ROW, (16, 1, 64, 32, 0), 3), (GET_ROW, (16, 1, 64, 32, 0), 4),
        (STAT_ROW, (16, 1, 64, 32), 0), (STAT_ROW, (16, 1, 64, 32), 3),
        (LIST_ROW, (16, 1, 16, 1, 9, 64, 32), 0), (LIST_ROW, (16, 1, 16, 1, 9, 64, 32), 2),
        (LIST_ROW, (16, 1, 16, 1, 9, 64, 32), 5), (LIST_ROW, (16, 1, 16, 1, 9, 64, 32), 6),
        (DELETE_ROW, (16, 1, -1, 0), 0), (REF_ROW, (16, 1, 1), 0), (PIN_ROW, (16, 1), 0),
    ],
)  # fmt: skip
def test_a_pointer_outside_is_a_fault_and_changes_nothing(
    node: Executor, store: ObjectStore, row: asm.ImportRow, args: tuple[int, ...], place: int,
    at: int,
) -> None:  # fmt: skip
    version = store.put(KEY, b"abc")
    wrong = (*args[:place], at, *args[place + 1 :])
    assert called(node, store, row, *wrong) == EFAULT
    assert store.get(KEY).version == version


@pytest.mark.parametrize("size", [-1, -(2**31), 2**31 - 1, PAGE - 15])
@pytest.mark.parametrize(
    ("row", "args", "place"),
    [
        (PUT_ROW, (16, 1, 64, 4, -1, 0, 0), 1), (PUT_ROW, (16, 1, 16, 4, -1, 0, 0), 3),
        (GET_ROW, (16, 1, 64, 32, 0), 1), (LIST_ROW, (16, 1, 16, 1, 9, 64, 32), 1),
        (LIST_ROW, (16, 1, 16, 1, 9, 64, 32), 3), (PIN_ROW, (16, 1), 1),
    ],
)  # fmt: skip
def test_a_length_outside_is_a_fault(
    node: Executor, store: ObjectStore, row: asm.ImportRow, args: tuple[int, ...], place: int,
    size: int,
) -> None:  # fmt: skip
    wrong = (*args[:place], size, *args[place + 1 :])
    assert called(node, store, row, *wrong) == EFAULT
    assert len(store) == 0


@pytest.mark.parametrize("room", [64, PAGE, 2**31, 2**32 - 1])
def test_a_room_that_reaches_beyond_memory_counts_only_where_it_is_used(
    node: Executor, store: ObjectStore, room: int
) -> None:
    data = ((16, b"x"), (32, room.to_bytes(4, "little")))
    store.put(KEY, b"abc")
    assert called(node, store, GET_ROW, 16, 1, PAGE - 3, 32, 0, data=data) == 3
    assert called(node, store, GET_ROW, 16, 1, PAGE - 2, 32, 0, data=data) == EFAULT
    fault = ENOSPC if room == 64 else EFAULT
    assert called(node, store, STAT_ROW, 16, 1, PAGE - 20, 32, data=data) == fault
    assert called(node, store, LIST_ROW, 16, 0, 16, 0, 9, PAGE - 20, 32, data=data) == fault


def test_the_last_bytes_of_memory_are_memory(node: Executor, store: ObjectStore) -> None:
    assert called(node, store, PUT_ROW, 16, 1, PAGE - 4, 4, -1, 0, PAGE - 8) == 0
    assert called(node, store, PUT_ROW, 16, 1, PAGE, 0, -1, 0, 0) == 0
    assert bytes(store.get(KEY)) == b""


@pytest.mark.parametrize(
    "row", [PUT_ROW, GET_ROW, STAT_ROW, LIST_ROW, DELETE_ROW, REF_ROW, PIN_ROW]
)
def test_without_a_store_every_call_answers_enosys_and_warns(
    node: Executor, row: asm.ImportRow
) -> None:
    args = b"".join(asm.i64_const(-1) if p == "I" else asm.i32_const(-1) for p in row[2])
    body = (args + asm.call(0) + asm.DROP) * 2 + args + asm.call(0) + asm.call(1)
    run = node.start(assembled(asm.module([row, EXIT], body)))
    assert ended(run).exit_code == ENOSYS
    assert logged(run) == [
        f"spear.{row[1]} needs an object store, which this run has not: it answers -ENOSYS"
    ]


@pytest.mark.soak  # the store's copy takes 2 GiB
def test_a_value_longer_than_any_guest_is_told_and_not_given(node: Executor) -> None:
    size = 2**31
    store = ObjectStore(size + 4096)
    store.put(KEY, memoryview(bytes(size)))
    most = ((16, b"x"), (32, b"\xff\xff\xff\xff"))
    assert called(node, store, GET_ROW, 16, 1, 64, 32, 0, data=most) == ENOSPC
    answer = ask(node, store, [get(b"x")])[0]
    assert (answer.result, answer.len) == (ENOSPC, size)
    assert json.loads(ask(node, store, [stat(b"x")])[0].out)["size"] == size


@pytest.mark.parametrize(
    "row", [PUT_ROW, GET_ROW, STAT_ROW, LIST_ROW, DELETE_ROW, REF_ROW, PIN_ROW]
)
def test_a_guest_that_only_makes_object_calls_is_ended(
    node: Executor, store: ObjectStore, row: asm.ImportRow
) -> None:
    consts = b"".join(asm.i64_const(-1) if p == "I" else asm.i32_const(16) for p in row[2])
    body = asm.LOOP + consts + asm.call(0) + asm.DROP + asm.BR_0 + asm.END
    run = node.start(assembled(asm.module([row], body)), objects=store, task="me")
    run.wait(0.02)
    assert run.cancel()
    assert ended(run).cause == "cancelled"
    again = node.start(
        assembled(asm.module([row], body)), objects=store, task="me", timeout_ns=30 * MS
    )
    assert ended(again).cause == "deadline"


def test_a_batch_and_a_warm_instance_reach_the_store_too(
    node: Executor, store: ObjectStore
) -> None:
    batch = node.run_many(
        guest("object_calls"), 20, stdin=input_of([Call(ADD_REF, b"x")]), objects=store, task="me"
    )
    assert batch.completed == 20
    store.put(KEY, b"")
    node.run_many(
        guest("object_calls"), 20, stdin=input_of([Call(ADD_REF, b"x")]), objects=store, task="me"
    )
    assert store.stat(KEY).refs == 20
    wasm = asm.module(
        [REF_ROW], b"".join(map(asm.i32_const, (16, 1, 5))) + asm.call(0) + asm.DROP,
        data=[(16, b"x")],
    )  # fmt: skip
    node.instantiate(assembled(wasm), objects=store, task="me").function("_start")()
    assert store.stat(KEY).refs == 25


def test_the_store_lives_as_long_as_a_run_that_uses_it(node: Executor) -> None:
    run = node.start(
        guest("object_calls"), stdin=input_of([put(b"x", b"v" * 4000), get(b"x")]),
        objects=ObjectStore(1 << 20), task="me",
    )  # fmt: skip
    assert ended(run).exit_code == 0


def test_the_collector_takes_no_store_from_a_living_guest(node: Executor) -> None:
    """A run in a cycle that only the collector can end, with the only reference to its store."""
    consts = b"".join(map(asm.i32_const, (16, 1, 64, 32, 0)))
    wasm = asm.module([GET_ROW], asm.LOOP + consts + asm.call(0) + asm.DROP + asm.BR_0 + asm.END)
    for _ in range(20):
        cycle: list[Any] = [
            node.start(assembled(wasm), objects=ObjectStore(1 << 20), task="me", inline=True)
        ]
        cycle.append(cycle)
        del cycle
        gc.collect()
    assert node.stats()["live"] == 0


@pytest.mark.parametrize("task", ["", "a/b", "/", "a\0b", "x" * 256, "\ud800"])
def test_what_cannot_be_a_task_is_refused(node: Executor, store: ObjectStore, task: str) -> None:
    with pytest.raises(InvalidArgument, match="task's name"):
        node.start(guest("hello"), objects=store, task=task)
    with pytest.raises(InvalidArgument, match="task's name"):
        node.start(guest("hello"), objects=store, task="me", object_grants=[task])


def test_grants_are_a_list_of_limited_length(node: Executor, store: ObjectStore) -> None:
    with pytest.raises(InvalidArgument, match="found the text 'abc'"):
        node.start(guest("hello"), objects=store, task="me", object_grants="abc")
    with pytest.raises(InvalidArgument, match="257 grants"):
        node.start(guest("hello"), objects=store, task="me", object_grants=["t"] * 257)


def test_a_store_with_a_clock_of_its_own_is_not_lent(node: Executor) -> None:
    with pytest.raises(InvalidArgument, match="clock_ms"):
        node.start(guest("hello"), objects=ObjectStore(1 << 20, clock_ms=lambda: 1), task="me")


def test_a_module_knows_whether_it_uses_objects() -> None:
    assert guest("object_calls").uses_objects
    assert not guest("hello").uses_objects
    wasm = asm.module([("spear", "cchat_create", "", "i")], asm.call(0) + asm.DROP)
    assert not engine().load(wasm).uses_objects


def test_a_module_whose_guests_reach_nobody_is_self_contained() -> None:
    assert guest("hello").self_contained
    assert not guest("object_calls").self_contained
    posts = asm.module([("spear", "cchat_create", "", "i")], asm.call(0) + asm.DROP)
    assert not engine().load(posts).self_contained

"""Guests on several workers and Python share one store: no update is lost, no list is torn."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator

import pytest
from guest_runs import ended, executor, guest
from object_runs import (
    ADD_REF,
    AWAIT,
    DELETE,
    EEXIST,
    ENOENT,
    ESTALE,
    GET,
    PUT,
    REMOVE_REF,
    Answer,
    Call,
    answers_of,
    delete,
    get,
    input_of,
    listing,
    put,
)  # fmt: skip

from spear._core.executor import Executor
from spear._core.objstore import ObjectStore
from spear._core.run import Run
from spear.errors import VersionConflict
from tests.reference.linearizability import ABSENT, Operation, linearizable

COUNTER = b"shared/counter"
HERE, GO = b"shared/here", b"shared/go"
LAST_SEEN = -1000  # asks object_calls for the version it saw last


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


def add_one(store: ObjectStore, key: bytes) -> None:
    while True:
        try:
            view = store.get(key)
            value, version = int.from_bytes(bytes(view), "little"), view.version
            store.put(key, (value + 1).to_bytes(8, "little"), if_version=version)
        except VersionConflict:
            continue
        return


def test_no_increment_is_lost_between_two_tasks_and_python(node: Executor) -> None:
    store = ObjectStore(1 << 24)
    store.put(COUNTER, bytes(8))
    runs = [
        node.start(
            guest("increment"), args=("increment", COUNTER.decode(), "2000"), objects=store,
            task=("one", "two")[number % 2],
        )
        for number in range(8)
    ]  # fmt: skip
    for _ in range(2000):
        add_one(store, COUNTER)
    assert {ended(run).exit_code for run in runs} == {0}
    assert int.from_bytes(bytes(store.get(COUNTER)), "little") == 8 * 2000 + 2000
    assert sum(int(run.output) for run in runs) > 100, "they hardly met"


def test_a_counter_that_all_want_to_make_first_is_made_once(node: Executor) -> None:
    for _ in range(20):
        store = ObjectStore(1 << 20)
        runs = [
            node.start(
                guest("increment"), args=("increment", "/one/counter", "1"), objects=store,
                task=task, object_grants=["one"],
            )
            for task in ("one", "two", "three") * 4
        ]  # fmt: skip
        assert {ended(run).exit_code for run in runs} == {0}
        assert int.from_bytes(bytes(store.get(b"/one/counter")), "little") == 12


def test_references_of_many_guests_add_up(node: Executor) -> None:
    store = ObjectStore(1 << 20)
    store.put(b"shared/x", b"")
    calls = [Call(ADD_REF, b"shared/x", number=3), Call(REMOVE_REF, b"shared/x", number=2)] * 100
    runs = [
        node.start(guest("object_calls"), stdin=input_of(calls), objects=store, task=f"t{number}")
        for number in range(16)
    ]
    assert {ended(run).exit_code for run in runs} == {0}
    assert store.stat(b"shared/x").refs == 16 * 100


@pytest.mark.parametrize("rows", [60, 200])
def test_a_list_is_of_one_moment(node: Executor, rows: int) -> None:
    """All rows are written at once, in ever longer values: a torn list has two sizes or a hole."""
    store = ObjectStore(1 << 26)
    keys = [b"shared/%03d" % number for number in range(rows)]
    store.transact(writes=dict.fromkeys(keys, b""))
    calls = [listing(b"shared/", limit=1000)] * 40
    runs = [
        node.start(
            guest("object_calls"), stdin=input_of(calls), objects=store, task="t",
            output_bytes_max=1 << 30,
        )
        for _ in range(3)
    ]  # fmt: skip
    size = 0
    while not all(run.done for run in runs):
        size += 1
        store.transact(writes=dict.fromkeys(keys, bytes(size)))
    for run in runs:
        assert ended(run).exit_code == 0
        for answer in answers_of(calls, run.output):
            found = [row["size"] for row in json.loads(answer.out)]
            assert len(found) == rows
            assert len(set(found)) == 1
    assert size > 0
    assert store.stats().snapshots == 0


# Histories.


def random_calls(rng: random.Random, count: int) -> list[Call]:
    calls = []
    for number in range(count):
        name = b"shared/" + rng.choice(b"abc").to_bytes(1)
        value = b"%d.%d" % (rng.getrandbits(30), number)
        if rng.random() < 0.4:  # read, then change what was read
            calls += [get(name), rng.choice((put(name, value, LAST_SEEN), delete(name, LAST_SEEN)))]
        else:
            calls.append(rng.choice((get(name), put(name, value), put(name, value, 0))))
    return calls


def history(calls: list[Call], answers: list[Answer]) -> Iterator[Operation]:
    last_seen = 0
    for call, answer in zip(calls, answers, strict=True):
        asked = last_seen if call.if_version == LAST_SEEN else call.if_version
        key = call.name
        found: dict[bytes, tuple[int, bytes] | int] = {}
        left: dict[bytes, tuple[int, bytes]] = {}
        conflicts = {}
        if answer.result == ENOENT:
            found[key] = ABSENT
        elif answer.result in (ESTALE, EEXIST):
            conflicts[key] = asked
        elif call.call == GET:
            found[key] = (answer.version, answer.out)
        else:
            assert answer.result == 0
            left[key] = (answer.version, call.text) if call.call == PUT else ABSENT
            if asked != -1:
                found[key] = asked
        if call.call == GET or (call.call == PUT and answer.result == 0):
            last_seen = answer.version if answer.result >= 0 else 0
        assert call.call != DELETE or asked != -1
        yield Operation(
            answer.began_ns, answer.ended_ns, found=found, left=left, conflicts=conflicts
        )


def started(node: Executor, store: ObjectStore, calls: list[Call]) -> Run:
    return node.start(guest("object_calls"), stdin=input_of(calls), objects=store, task="t")


def recorded(node: Executor, seed: int) -> list[Operation]:
    """The history of three guests that begin together and let each other in at each call."""
    rng, store = random.Random(seed), ObjectStore(1 << 24)
    plans = [[Call(ADD_REF, HERE), Call(AWAIT, GO), *random_calls(rng, 40)] for _ in range(3)]
    store.put(HERE, b"")
    runs = [started(node, store, calls) for calls in plans]
    while store.stat(HERE).refs < 3:
        assert not runs[0].done
    store.put(GO, b"")
    assert {ended(run).exit_code for run in runs} == {0}
    return [
        operation
        for calls, run in zip(plans, runs, strict=True)
        for operation in history(calls[2:], answers_of(calls, run.output)[2:])
    ]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_histories_of_guests_are_linearizable(workers: int, seed: int) -> None:
    with executor(workers=workers) as node:
        found = recorded(node, seed)
    if workers == 1:  # they take turns; two workers may also run one after the other
        assert sum(a.called < b.called < a.returned for a in found for b in found) > 100
    assert linearizable(found), f"seed {seed}"


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1000, 1400))
def test_histories_of_guests_with_many_seeds_are_linearizable(node: Executor, seed: int) -> None:
    assert linearizable(recorded(node, seed)), f"seed {seed}"


def test_the_guests_clock_is_the_machines(node: Executor) -> None:
    """Histories of several guests need one clock."""
    store = ObjectStore(1 << 20)
    before = time.monotonic_ns()
    run = started(node, store, [put(b"x")])
    ended(run)
    (answer,) = answers_of([put(b"x")], run.output)
    assert before <= answer.began_ns <= answer.ended_ns <= time.monotonic_ns()

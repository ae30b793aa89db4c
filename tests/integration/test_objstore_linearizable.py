"""Concurrent histories of the object store have a sequential explanation, planted bugs none."""

from __future__ import annotations

import itertools
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from spear._core.objstore import DELETE, ObjectStore
from spear.errors import ObjectNotFound, VersionConflict
from tests.reference import objstore as reference
from tests.reference.linearizability import ABSENT, Operation, linearizable

KEYS = [b"a", b"b", b"c", b"d"]
THREADS = 4
LARGE = 1_100_000  # copied without the lock and without the GIL


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Recorder:
    """One thread's calls on a store, written down as operations."""

    def __init__(self, store: Any, ticks: Iterator[int], seed: int, large: bool) -> None:
        self.store, self.ticks, self.random = store, ticks, random.Random(seed)
        self.history: list[Operation] = []
        self.versions: dict[bytes, int] = {}
        self.large, self.seed = large, seed

    def value(self) -> bytes:
        name = b"%d.%d " % (self.seed, len(self.history))
        return name * (LARGE // len(name) + 1) if self.large else name

    def run(self, calls: int) -> None:
        actions: list[Callable[[bytes], dict[str, Any]]] = [
            self.get,
            self.get,
            self.put,
            self.put_if,
            self.put_if,
            self.delete,
            self.transact,
            self.transact,
            self.read_all,
        ]
        for _ in range(calls):
            action = self.random.choice(actions)
            called = next(self.ticks)
            self.let_others_in()
            told = action(self.random.choice(KEYS))
            self.let_others_in()
            self.history.append(Operation(called, next(self.ticks), **told))

    def let_others_in(self) -> None:
        """Without this a thread does all its calls before the next one starts."""
        if self.random.random() < 0.5:
            time.sleep(0)

    def get(self, key: bytes) -> dict[str, Any]:
        try:
            view = self.store.get(key)
        except ObjectNotFound:
            self.versions[key] = 0
            return {"found": {key: ABSENT}}
        self.versions[key] = view.version
        return {"found": {key: (view.version, bytes(view))}}

    def put(self, key: bytes) -> dict[str, Any]:
        value = self.value()
        self.versions[key] = self.store.put(key, value)
        return {"left": {key: (self.versions[key], value)}}

    def put_if(self, key: bytes) -> dict[str, Any]:
        value, asked = self.value(), self.versions.get(key, 0)
        try:
            version = self.store.put(key, value, if_version=asked)
        except VersionConflict as conflict:
            self.versions[key] = conflict.actual
            return {"found": {key: conflict.actual}, "conflicts": {key: asked}}
        self.versions[key] = version
        return {"found": {key: asked}, "left": {key: (version, value)}}

    def delete(self, key: bytes) -> dict[str, Any]:
        asked = self.versions.get(key, 0)
        try:
            self.store.delete(key, if_version=asked)
        except ObjectNotFound:
            return {"found": {key: ABSENT}}
        except VersionConflict as conflict:
            return {"found": {key: conflict.actual}, "conflicts": {key: asked}}
        return {"found": {key: asked}, "left": {key: ABSENT}}

    def transact(self, key: bytes) -> dict[str, Any]:
        """Writes two keys and may delete a third if the versions read still hold."""
        first, second, third = self.random.sample(KEYS, 3)
        value, reads = self.value(), {}
        for name in (first, third):
            reads[name] = self.versions.get(name, 0)
        writes: dict[bytes, Any] = {first: value, second: value}
        if reads[third]:
            writes[third] = DELETE
        try:
            given = self.store.transact(reads, writes)
        except VersionConflict as conflict:
            self.versions[conflict.key] = conflict.actual
            told = {conflict.key: conflict.actual}
            return {"found": told, "conflicts": {conflict.key: conflict.expected}}
        left = {name: (version, value) if version else ABSENT for name, version in given.items()}
        self.versions.update({name: cell[0] for name, cell in left.items()})
        return {"found": reads, "left": left}

    def read_all(self, key: bytes) -> dict[str, Any]:
        found: dict[bytes, Any] = dict.fromkeys(KEYS, ABSENT)
        with closing(self.store.snapshot()) as snapshot:
            for name in KEYS:
                try:
                    view = snapshot.get(name)
                except ObjectNotFound:
                    continue
                found[name] = (view.version, bytes(view))
        return {"found": found}


def record(store: Any, seed: int, calls: int = 40, large: bool = False) -> list[Operation]:
    """The history of several threads on one store."""
    ticks = itertools.count()
    recorders = [Recorder(store, ticks, seed * 100 + at, large) for at in range(THREADS)]
    gate = threading.Barrier(THREADS)
    errors: list[BaseException] = []

    def work(recorder: Recorder) -> None:
        try:
            gate.wait()
            recorder.run(calls)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(recorder,)) for recorder in recorders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    return [operation for recorder in recorders for operation in recorder.history]


def overlaps(history: list[Operation]) -> int:
    """Pairs of operations of which one was called while the other was under way."""
    return sum(a.called < b.called < a.returned for a in history for b in history)


@pytest.mark.parametrize("seed", range(12))
def test_histories_of_small_values_are_linearizable(seed: int) -> None:
    history = record(ObjectStore(1 << 24), seed)
    assert overlaps(history) > 10
    assert linearizable(history), f"seed {seed}"


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1000, 1500))
def test_histories_with_many_seeds_are_linearizable(seed: int) -> None:
    assert linearizable(record(ObjectStore(1 << 24), seed)), f"seed {seed}"


@pytest.mark.parametrize("seed", range(4))
def test_histories_of_values_copied_without_lock_and_gil_are_linearizable(seed: int) -> None:
    assert linearizable(record(ObjectStore(1 << 26), seed, calls=20, large=True)), f"seed {seed}"


def test_histories_of_the_reference_are_linearizable() -> None:
    assert linearizable(record(reference.ObjectStore(1 << 24), 1))


class StaleRead(reference.ObjectStore):
    """Answers some gets from the version before."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.before: dict[bytes, reference.Record] = {}
        self.gets = 0

    def _publish(self, write: reference.Write) -> int:
        if write.key in self.entries:
            self.before[write.key] = self.entries[write.key].record
        return super()._publish(write)

    def get(self, key: bytes) -> reference.View:
        view = super().get(key)
        self.gets += 1
        stale = self.gets % 5 == 0 and key in self.before
        return reference.View(self.before[key]) if stale else view


class LostUpdate(reference.ObjectStore):
    """Checks the version, but writes some values nowhere."""

    def _publish(self, write: reference.Write) -> int:
        if write.record and self.version % 7 == 0:
            self.version += 1
            return self.version
        return super()._publish(write)


class CheckThenAct(reference.ObjectStore):
    """Compares the version, lets others in, then writes."""

    def put(self, key: bytes, value: Any, *, if_version: Any = None, metadata: Any = None) -> int:
        if if_version is not None:
            with self.lock:
                self._check(key, if_version)
            threading.Event().wait(0.0005)
        return super().put(key, value, metadata=metadata)


class ReusedVersion(reference.ObjectStore):
    """Counts versions anew for every object made again after a delete."""

    def _publish(self, write: reference.Write) -> int:
        made = write.record is not None and write.key not in self.entries
        counter = self.version
        if made:
            self.version = self.epoch << 40
        version = super()._publish(write)
        self.version = max(self.version, counter)
        return version


class TornTransaction(reference.ObjectStore):
    """Makes the writes of a transaction one by one."""

    def _change(self, reads: Any, writes: list[reference.Write]) -> dict[bytes, int]:
        given: dict[bytes, int] = {}
        for at, write in enumerate(writes):
            if at:
                threading.Event().wait(0.0005)
            try:
                given.update(super()._change(reads if at == 0 else {}, [write]))
            except ObjectNotFound:
                given[write.key] = 0
        return given


@pytest.mark.parametrize(
    "faulty", [StaleRead, LostUpdate, CheckThenAct, ReusedVersion, TornTransaction]
)
def test_a_planted_bug_is_refused(faulty: type[reference.ObjectStore]) -> None:
    verdicts = [linearizable(record(faulty(1 << 24), seed)) for seed in range(5)]
    assert not all(verdicts)


def op(called: int, returned: int, **told: Any) -> Operation:
    return Operation(called, returned, **told)


ONE, TWO, THREE = (1, b"one"), (2, b"two"), (3, b"three")


def test_the_checker_accepts_overlapping_reads_of_old_and_new() -> None:
    assert linearizable(
        [
            op(0, 1, left={b"k": ONE}),
            op(2, 9, left={b"k": TWO}),
            op(3, 5, found={b"k": ONE}),
            op(4, 6, found={b"k": TWO}),
        ]
    )


def test_the_checker_refuses_a_read_that_goes_back() -> None:
    assert not linearizable(
        [
            op(0, 1, left={b"k": ONE}),
            op(2, 9, left={b"k": TWO}),
            op(3, 4, found={b"k": TWO}),
            op(5, 6, found={b"k": ONE}),
        ]
    )


def test_the_checker_refuses_a_lost_update() -> None:
    assert not linearizable(
        [
            op(0, 1, left={b"k": ONE}),
            op(2, 5, found={b"k": 1}, left={b"k": TWO}),
            op(3, 6, found={b"k": 1}, left={b"k": THREE}),
        ]
    )


def test_the_checker_refuses_a_version_given_twice() -> None:
    assert not linearizable(
        [
            op(0, 1, left={b"k": ONE}),
            op(2, 3, found={b"k": 1}, left={b"k": ABSENT}),
            op(4, 5, left={b"k": (1, b"again")}),
        ]
    )


def test_the_checker_refuses_half_a_transaction() -> None:
    assert not linearizable(
        [
            op(0, 1, left={b"k": ONE, b"l": TWO}),
            op(2, 9, left={b"k": (3, b"x"), b"l": (4, b"x")}),
            op(3, 4, found={b"k": (3, b"x"), b"l": TWO}),
        ]
    )


def test_the_checker_searches_independent_keys_apart() -> None:
    keys = [b"%d" % at for at in range(200)]
    history = [op(0, 9, left={key: (at + 1, b"v")}) for at, key in enumerate(keys)]
    history += [op(0, 9, found={key: (at + 1, b"v")}) for at, key in enumerate(keys)]
    assert linearizable(history)

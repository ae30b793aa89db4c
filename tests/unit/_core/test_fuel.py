"""Fuel: counted by metered modules, limited where a limit is given, the same on every run."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest
import wasmtime
from text_guests import FILE, MEMORY, NATIVE

from spear._core.engine import Engine, Module
from spear._core.executor import Executor
from spear._core.filetable import Directory
from spear._core.objstore import ObjectStore
from spear.errors import InvalidArgument
from tests.guest_runs import ended, executor, guest, guest_bytes


@functools.cache
def metered() -> Engine:
    return Engine(slots=100, metered=True)


@functools.cache
def module(name: str) -> Module:
    return metered().load(guest_bytes(name))


def test_a_loop_is_ended_when_its_fuel_is_used_up():
    with executor() as node:
        run = node.start(module("start_loop"), fuel=1_000_000)
        outcome = ended(run)
        assert (outcome.status, outcome.cause, outcome.exit_code) == ("failed", "fuel", -1)
        assert outcome.message == "the guest used up its fuel of 1000000"
        assert outcome.fuel == 1_000_000


def test_what_is_used_is_the_same_each_time_and_enough_is_enough():
    with executor() as node:
        used = {ended(node.start(module("hello"), args=("hello",))).fuel for _ in range(20)}
        assert len(used) == 1
        (fuel,) = used
        assert fuel is not None
        assert ended(node.start(module("hello"), args=("hello",), fuel=fuel)).status == "completed"
        short = ended(node.start(module("hello"), args=("hello",), fuel=fuel // 2))
        assert short.cause == "fuel"


def test_it_counts_across_waits_and_slices():
    with executor(workers=1, epoch_tick_ms=1) as node:
        runs = [node.start(module("start_loop"), fuel=60_000_000) for _ in range(3)]
        assert [ended(run).fuel for run in runs] == [60_000_000] * 3
        assert sum(run.outcome.cpu_ns for run in runs) > 0
        assert node.stats()["slices"] > 3, "none of them ran in one piece"


KEY = "(i32.const 16) (i32.const 9)"
BYTES = "(i32.const 4096) (i32.const 4000)"


def text_module(body: str) -> Module:
    text = f"""(module {NATIVE} {MEMORY} (func (export "_start") (local $fd i32) {body}))"""
    return metered().load(bytes(wasmtime.wat2wasm(text)))


def test_what_a_hostcall_copies_counts_a_unit_a_byte(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"x" * 4000)
    put = f"(drop (call $put {KEY} {BYTES} (i64.const -1) (i32.const 0) (i32.const 0)))"
    get = f"(call $room) (drop (call $get {KEY} (i32.const 8192) (i32.const 0) (i32.const 0)))"
    read = f"(local.set $fd (call $open)) (drop (call $read (local.get $fd) {FILE}))"
    for body, copied in [(put, 4000), (put + get, 8000), (read, 4000)]:
        with executor() as node:
            more = {
                "objects": ObjectStore(1 << 20),
                "task": "t",
                "dirs": [Directory(tmp_path, "/")],
            }
            used = ended(node.start(text_module(body), **more)).fuel
            assert copied <= used < copied + 300, body
            short = ended(node.start(text_module(body), fuel=used - 300, **more))
            assert short.cause == "fuel", body


def test_what_there_is_no_fuel_for_is_not_stored():
    store = ObjectStore(1 << 20)
    put = f"(drop (call $put {KEY} {BYTES} (i64.const -1) (i32.const 0) (i32.const 0)))"
    with executor() as node:
        assert (
            ended(node.start(text_module(put), objects=store, task="t", fuel=3000)).cause == "fuel"
        )
    assert store.stats().objects == 0


def test_each_run_of_a_batch_has_its_own():
    with executor() as node:
        batch = node.run_many(module("noop"), 50, fuel=1000)
        assert batch.counts == {"exit": 50}
        assert node.run_many(module("start_loop"), 5, fuel=1000).counts == {"fuel": 5}


def test_each_call_of_a_warm_instance_has_its_own():
    with executor() as node:
        count = node.instantiate(module("reactor"), fuel=200_000).function("count")
        assert [count() for _ in range(2000)] == list(range(1, 2001))
        run = count.start()
        assert ended(run).fuel is not None


def test_only_metered_modules_count_it():
    with executor() as node:
        with pytest.raises(InvalidArgument, match=r"Engine\(metered=True\)"):
            node.start(guest("noop"), fuel=5)
        assert ended(node.start(guest("noop"))).fuel is None


@pytest.mark.parametrize("fuel", [0, -1, 2**62 + 1, sys.maxsize, 1.5, "9"])
def test_wrong_amounts_are_refused(fuel: object):
    with executor() as node, pytest.raises(InvalidArgument, match="fuel"):
        node.start(module("noop"), fuel=fuel)  # type: ignore[arg-type]


def test_both_kinds_of_modules_share_an_executor_and_a_cache(tmp_path):
    wasm = guest_bytes("hello")
    plain, counting = Engine(slots=4), Engine(slots=4, metered=True)
    for source in ("compiled", "cache"):
        found = [engine.load(wasm, cache_dir=str(tmp_path)) for engine in (plain, counting)]
        assert [one.source for one in found] == [source, source]
    with executor() as node:
        outputs = {ended(run).status and run.output for run in map(node.start, found)}
        assert len(outputs) == 1
    assert isinstance(node, Executor)

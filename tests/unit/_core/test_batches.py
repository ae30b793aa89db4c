"""Many runs of one module in one call."""

from __future__ import annotations

import _thread
import threading
import time

import pytest
import wasm_asm as asm

from spear._core.executor import Executor
from spear.errors import InvalidArgument, ModuleInvalid, ModuleLimit, NodeClosed
from tests.guest_runs import assembled, executor, guest, parked


def test_every_run_of_a_batch_completes():
    with executor(workers=2) as node:
        batch = node.run_many(guest("noop"), 5000)
        assert (len(batch), batch.completed, batch.failed) == (5000, 5000, 0)
        assert batch.counts == {"exit": 5000}
        assert set(batch.exit_codes) == {0}
        assert all(duration > 0 for duration in batch.durations_ns)
        assert 0 < max(batch.durations_ns) <= batch.duration_ns
        assert node.stats()["live"] == 0


def test_each_run_has_its_own_cause_and_code():
    with executor(workers=2) as node:
        batch = node.run_many(guest("exit_code"), 50, args=["exit_code", "3"])
        assert batch.counts == {"exit": 50}
        assert (batch.completed, set(batch.exit_codes)) == (0, {3})
        batch = node.run_many(guest("divide"), 50)
        assert batch.counts == {"trap": 50}
        assert set(batch.exit_codes) == {None}


def test_a_run_that_exits_with_a_negative_code_is_none_that_did_not_exit():
    imports = [(asm.WASI, "proc_exit", "i", "")]
    wasm = asm.module(imports, asm.i32_const(-1) + asm.call(0))
    with executor(workers=1) as node:
        batch = node.run_many(assembled(wasm), 20)
        assert (batch.counts, batch.completed) == ({"exit": 20}, 0)
        assert batch.exit_codes == [-1] * 20


def test_a_run_begins_without_what_the_last_one_left():
    """They share a record where they end at once: output, log lines, files, an exit code."""
    with executor(workers=1) as node:
        batch = node.run_many(
            guest("stdout_flood"), 3, output_bytes_max=100_000, timeout_ns=60_000 * 1_000_000
        )
        assert batch.counts == {"output_limit": 3}
        alone = node.start(guest("answer"), args=["a"], stdin=b"one")
        assert alone.wait(20)
        limit = alone.outcome.output_bytes
        batch = node.run_many(
            guest("answer"), 500, args=["a"], stdin=b"one", output_bytes_max=limit
        )
        assert batch.counts == {"exit": 500}
        assert batch.completed == 500


def test_ends_of_every_kind_in_one_lane_do_not_mix():
    """Each run exits, traps or returns by chance, in the record of the one before it."""
    imports = [("spear", "random_i64", "", "I"), (asm.WASI, "proc_exit", "i", "")]
    coin = asm.call(0) + asm.i64_const(1) + b"\x83\xa7"  # i64.and, i32.wrap_i64
    leave = asm.i32_const(3) + asm.call(1)
    body = coin + asm.IF + leave + asm.END + coin + asm.IF + asm.UNREACHABLE + asm.END
    with executor(workers=1) as node:
        batch = node.run_many(assembled(asm.module(imports, body)), 600)
        codes = batch.exit_codes
        assert set(codes) == {0, 3, None}
        assert batch.counts == {"exit": 600 - codes.count(None), "trap": codes.count(None)}
        assert min(codes.count(code) for code in (0, 3, None)) > 50


def test_runs_that_wait_and_runs_that_do_not_share_a_lane():
    """Every other run leaves its lane, with the room and the record that the lane had taken."""
    imports = [("spear", "random_i64", "", "I"), ("spear", "sleep_ms", "i", "")]
    coin = asm.call(0) + asm.i64_const(1) + b"\x83\xa7"  # i64.and, i32.wrap_i64
    wasm = asm.module(imports, coin + asm.IF + asm.i32_const(1) + asm.call(1) + asm.END)
    for workers, room in ((1, 1), (1, 3), (2, 5), (2, 1000)):
        with executor(workers=workers, guests_max=room) as node:
            batch = node.run_many(assembled(wasm), 400)
            assert batch.completed == 400
            now = node.stats()
            assert (now["live"], now["ended_exit"]) == (0, 400)
            assert 100 < now["parks"] < 300


def test_input_reaches_every_run():
    with executor() as node:
        batch = node.run_many(guest("answer"), 20, args=["a"], env={"NAME": "x"}, stdin=b"one two")
        assert batch.completed == 20


def test_runs_that_wait_make_room_for_others_up_to_the_limit():
    """Many more sleepers than may live at once: lanes wait for room and go on."""
    with executor(workers=2, guests_max=8) as node:
        batch = node.run_many(guest("sleeper"), 60, args=["sleeper", "5"])
        assert batch.completed == 60


def test_a_batch_waits_for_room_that_others_take():
    with executor(workers=1, guests_max=2) as node:
        others = [node.start(guest("sleeper"), args=["sleeper", "50"]) for _ in range(2)]
        assert node.run_many(guest("noop"), 100).completed == 100
        assert all(other.wait(20) for other in others)


def test_a_deadline_holds_for_each_run():
    with executor(workers=2) as node:
        batch = node.run_many(guest("loop"), 6, args=["loop"], timeout_ns=30_000_000)
        assert batch.counts == {"deadline": 6}


def test_other_runs_go_on_beside_a_batch():
    with executor(workers=1) as node:
        done: list[int] = []
        worker = threading.Thread(
            target=lambda: done.append(node.run_many(guest("noop"), 100_000).completed)
        )
        worker.start()
        run = node.start(guest("noop"))
        assert run.wait(20)
        worker.join(60)
        assert done == [100_000]


def test_close_ends_a_batch():
    node = Executor(workers=1, guests_max=4)
    counts: list[dict[str, int]] = []
    thread = threading.Thread(
        target=lambda: counts.append(
            node.run_many(guest("sleeper"), 100, args=["sleeper", "-1"]).counts
        )
    )
    thread.start()
    while node.stats()["live"] < 4:
        time.sleep(0.001)
    node.close()
    thread.join(20)
    assert counts == [{"cancelled": 100}]


def test_an_interrupt_ends_a_batch():
    with executor(workers=1) as node:

        def interrupt() -> None:
            while node.stats()["live"] == 0:
                time.sleep(0.001)
            _thread.interrupt_main()

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            node.run_many(guest("sleeper"), 10, args=["sleeper", "-1"])
        thread.join(20)
        assert node.stats()["live"] == 0


@pytest.mark.parametrize("count", [0, -1, 10**12, 1.5, None])
def test_a_count_outside_its_range_is_refused(count: object):
    with executor() as node, pytest.raises(InvalidArgument, match="count="):
        node.run_many(guest("noop"), count)  # type: ignore[arg-type]


def test_what_a_run_would_refuse_a_batch_refuses():
    with executor() as node:
        with pytest.raises(ModuleInvalid, match="no function"):
            node.run_many(guest("noop"), 2, entry="nowhere")
        with pytest.raises(ModuleLimit, match="memory begins"):
            node.run_many(guest("memory_over_limit"), 2)
        node.close()
        with pytest.raises(NodeClosed):
            node.run_many(guest("noop"), 2)


def test_a_closing_executor_ends_lanes_that_wait_for_room():
    for _ in range(3):
        node = Executor(workers=2, guests_max=6)
        others = [node.start(guest("sleeper"), args=["sleeper", "-1"]) for _ in range(4)]
        counts: list[dict[str, int]] = []
        thread = threading.Thread(
            target=lambda node=node, counts=counts: counts.append(
                node.run_many(guest("sleeper"), 50, args=["sleeper", "-1"]).counts
            )
        )
        thread.start()
        while node.stats()["live"] < 6:
            time.sleep(0.001)
        node.close()
        thread.join(20)
        assert counts == [{"cancelled": 50}]
        assert all(other.done for other in others)


def test_batches_that_wait_for_the_same_room_do_not_chase_each_other():
    with executor(workers=1, guests_max=2) as node:
        others = [node.start(guest("sleeper"), args=["sleeper", "300"]) for _ in range(2)]
        completed: list[int] = []
        threads = [
            threading.Thread(
                target=lambda: completed.append(node.run_many(guest("noop"), 4).completed)
            )
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert completed == [4, 4]
        assert all(other.wait(20) for other in others)
        assert node.stats()["polls"] < 1000


def test_an_entry_that_gives_something_is_refused():
    with executor() as node, pytest.raises(ModuleInvalid, match="keeps no values"):
        node.run_many(guest("add"), 2, entry="count")


def test_an_interrupt_ends_a_batch_that_waits_for_room():
    """One sleeper takes all the room there is and goes on."""
    with executor(guests_max=1) as node:
        sleeper = parked(node)
        threading.Timer(0.1, _thread.interrupt_main).start()
        with pytest.raises(KeyboardInterrupt):
            node.run_many(guest("noop"), 5)
        assert not sleeper.done
        sleeper.cancel()

"""Priorities of guests, and what an executor counts."""

from __future__ import annotations

import pytest

from spear.errors import InvalidArgument
from tests.guest_runs import MS, drained, ended, executor, guest, looping, parked


def test_urgent_guests_are_served_before_others_that_wait_longer():
    """One worker is kept busy until all stand in its queue. Each eighth turn is the least
    urgent's, so one of the six may come out of turn."""
    with executor(workers=1, epoch_tick_ms=1000) as node:
        busy = looping(node, priority=0)
        runs = [
            node.start(guest("noop"), priority=priority) for priority in (250, 200, 150, 100, 50, 1)
        ]
        busy.cancel()
        for run in runs:
            ended(run)
        ends = [run.outcome.started_ns + run.outcome.duration_ns for run in runs]
        order = sorted(range(6), key=ends.__getitem__)
        assert any(
            order[:at] + order[at + 1 :] == [n for n in (5, 4, 3, 2, 1, 0) if n != order[at]]
            for at in range(6)
        ), order


@pytest.mark.parametrize("priority", [-1, 256, "high"])
def test_a_wrong_priority_is_refused(priority: object):
    with executor() as node, pytest.raises(InvalidArgument, match="priority"):
        node.start(guest("noop"), priority=priority)  # type: ignore[arg-type]


def test_endless_urgent_guests_do_not_starve_the_least_urgent():
    with executor(workers=1, epoch_tick_ms=2) as node:
        loops = [looping(node, priority=0) for _ in range(4)]
        last = node.start(guest("noop"), priority=255)
        assert ended(last).status == "completed"
        assert not any(run.done for run in loops)
        for run in loops:
            run.cancel()


def test_statistics_tell_what_there_is_and_how_guests_ended():
    with executor(workers=2) as node:
        sleeping = [parked(node) for _ in range(3)]
        assert node.stats()["live"] == 3
        ended(node.start(guest("noop")))
        ended(node.start(guest("unreachable")))
        ended(node.start(guest("start_loop"), timeout_ns=20 * MS))
        for run in sleeping:
            run.cancel()
        drained(node)
        stats = node.stats()
        assert (stats["started"], stats["ended"], stats["live"]) == (6, 6, 0)
        assert (stats["ended_exit"], stats["ended_trap"]) == (1, 1)
        assert (stats["ended_deadline"], stats["ended_cancelled"]) == (1, 3)
        assert stats["parks"] == 3
        assert stats["cpu_ns"] > 0


def test_an_execution_s_cpu_time_is_what_it_ran_not_what_it_slept():
    with executor() as node:
        run = node.start(guest("sleeper"), args=("s", "50"))
        outcome = ended(run)
        assert 0 < outcome.cpu_ns < outcome.duration_ns
        loop = node.start(guest("start_loop"), timeout_ns=30 * MS)
        assert ended(loop).cpu_ns > 0


def test_no_level_between_the_most_and_the_least_urgent_starves():
    """Loops at both ends, and a guest and a batch between them."""
    with executor(workers=1, epoch_tick_ms=2) as node:
        loops = [looping(node, priority=priority) for priority in (0, 0, 255, 255)]
        assert ended(node.start(guest("noop"), priority=64)).status == "completed"
        assert ended(node.start(guest("noop"), priority=200)).status == "completed"
        assert node.run_many(guest("noop"), 20).completed == 20
        assert not any(run.done for run in loops)
        for run in loops:
            run.cancel()


def test_guests_that_end_in_the_queue_leave_room_whatever_is_more_urgent():
    """Two urgent loops keep the worker; what is started behind them and cancelled leaves entries
    in the queue, many times more than it holds."""
    with executor(workers=1, guests_max=10, epoch_tick_ms=1000) as node:
        loops = [looping(node, priority=0) for _ in range(2)]
        for _ in range(3000):
            node.start(guest("noop"), priority=200).cancel()
        assert not any(run.done for run in loops)
        assert node.stats()["ended_no_memory"] == 0
        for run in loops:
            run.cancel()

"""What admission promises, one sentence a test; the properties are in tests/property."""

from __future__ import annotations

import pytest

from spear.errors import InvalidArgument, QueueFull
from spear.spearlet.admission import NODE_QUEUE_MAX, PASSING_NS, TASK_QUEUE_MAX, Admission

S = 10**9
GIB = 1 << 30


def node(**limits: int) -> Admission[str]:
    given = {"concurrency": 2, "cpu_millis": 4000, "memory_bytes": GIB} | limits
    return Admission(**given)


def test_what_fits_starts_at_once() -> None:
    admission = node()
    assert list(admission.offer("a", "task", "normal", 0)) == ["a"]
    assert admission.stats() == {
        "running": 1, "waiting": 0, "tasks": 1, "cpu_millis_reserved": 0,
        "memory_bytes_reserved": 0, "refused": 0,
    }  # fmt: skip
    assert list(admission.release("a")) == []
    assert admission.stats()["tasks"] == 0


def test_what_agents_called_has_a_place_of_its_depth_where_there_is_no_other_room() -> None:
    admission = node(concurrency=1, depths=2)
    admission.offer("root", "t", "normal", 0)
    assert not admission.offer("stranger", "t", "urgent", 0)
    assert list(admission.offer("child", "t", "normal", 1, depth=1)) == ["child"]
    assert not admission.offer("sibling", "t", "normal", 2, depth=1)
    assert list(admission.offer("grandchild", "t", "normal", 3, depth=2)) == ["grandchild"]
    assert not admission.offer("too deep", "t", "normal", 4, depth=3)
    assert list(admission.release("grandchild")) == []
    assert list(admission.release("child")) == ["sibling"]
    assert list(admission.release("root")) == ["stranger"]
    assert admission.stats()["running"] == 2
    assert list(admission.release("stranger")) == ["too deep"]
    assert list(admission.release("sibling")) == []
    assert list(admission.release("too deep")) == []
    assert (admission.stats()["running"], admission.stats()["tasks"]) == (0, 0)


def test_a_place_of_a_depth_takes_nothing_from_others_and_passes_reservations() -> None:
    admission = node(concurrency=2, depths=1)
    admission.offer("root", "t", "normal", 0, 4000)
    assert list(admission.offer("child", "c", "normal", 0, 1000, depth=1)) == ["child"]
    assert list(admission.offer("other", "o", "normal", 0)) == ["other"]
    assert admission.stats()["cpu_millis_reserved"] == 4000
    for name in ("child", "root", "other"):
        admission.release(name)
    assert admission.stats()["cpu_millis_reserved"] == 0


def test_a_place_of_a_depth_is_for_the_first_whose_task_has_room() -> None:
    admission = node(concurrency=1, depths=1)
    admission.set_limits("one", concurrency=1)
    admission.offer("root", "one", "normal", 0)
    assert not admission.offer("same", "one", "normal", 0, depth=1)
    assert list(admission.offer("other", "t", "normal", 1, depth=1)) == ["other"]
    assert not admission.offer("waits", "one", "normal", 2, depth=1)
    assert admission.cancel("same") == []
    assert list(admission.release("other")) == []
    assert list(admission.release("root")) == ["waits"]


def test_priorities_order_what_waits_and_age() -> None:
    admission = node(concurrency=1)
    admission.offer("running", "t", "normal", 0)
    for name, priority, now_s in [
        ("low", "low", 0), ("normal", "normal", 0), ("high", "high", 0), ("urgent", "urgent", 0),
        ("urgent later", "urgent", 6), ("urgent much later", "urgent", 31),
    ]:  # fmt: skip
        assert not admission.offer(name, name, priority, now_s * S)
    assert admission.position("urgent later") == 3
    order, last = [], "running"
    while started := admission.release(last):
        (last,) = started
        order.append(last)
    assert order == ["urgent", "high", "normal", "urgent later", "low", "urgent much later"]


def test_a_task_at_its_concurrency_does_not_block_those_behind_it() -> None:
    admission = node()
    admission.set_limits("one", concurrency=1)
    admission.offer("a", "one", "urgent", 0)
    assert not admission.offer("b", "one", "urgent", 0)
    assert list(admission.offer("c", "other", "low", 0)) == ["c"]
    assert list(admission.release("a")) == ["b"]


def test_small_ones_pass_a_big_one_for_a_while_then_room_is_kept_for_it() -> None:
    admission = node(concurrency=100)
    admission.offer("half", "t", "normal", 0, 2000)
    assert not admission.offer("big", "big", "normal", 0, 4000)
    assert list(admission.offer("soon", "s", "normal", PASSING_NS, 1000)) == ["soon"]
    assert not admission.offer("late", "s", "normal", PASSING_NS + 1, 1000)
    assert not admission.offer("tiny", "t", "normal", PASSING_NS + 2, 0), "no exception is made"
    assert not admission.release("soon")
    assert list(admission.release("half")) == ["big", "tiny"], "which passes `late` now"
    assert list(admission.release("big")) == ["late"]


def test_those_that_pass_go_in_the_order_of_their_keys() -> None:
    admission = node(concurrency=100)
    admission.offer("all", "t", "normal", 0, 4000)
    admission.offer("little", "t", "normal", 0, 0, 1)
    admission.offer("huge", "h", "normal", 0, 0, GIB)
    admission.offer("later", "l", "normal", 2, 2000)
    admission.offer("sooner", "s", "normal", 1, 2001)
    assert list(admission.release("all")) == ["sooner"]


def test_a_big_one_that_is_cancelled_makes_room_at_once() -> None:
    admission = node(concurrency=100)
    admission.offer("half", "t", "normal", 0, 2000)
    admission.offer("big", "big", "normal", 0, 4000)
    admission.offer("late", "s", "normal", 60 * S, 1000)
    assert list(admission.cancel("big") or ()) == ["late"]
    assert admission.cancel("late") is None, "it runs"
    assert admission.cancel("never seen") is None


def test_a_newcomer_of_the_same_task_may_let_others_start() -> None:
    """It takes the task's last place, so the task's big one is no longer the first in line."""
    admission = node(concurrency=100)
    admission.set_limits("t", concurrency=1)
    admission.offer("half", "h", "normal", 0, 2000)
    assert not admission.offer("big", "t", "low", 0, 4000)
    assert not admission.offer("late", "s", "low", 20 * S, 2000)
    assert list(admission.offer("quick", "t", "urgent", 21 * S, 0)) == ["quick", "late"]


def test_a_full_queue_of_a_task_refuses_and_says_when_to_come_back() -> None:
    admission = node(concurrency=1)
    admission.offer("runs", "t", "normal", 0)
    for number in range(TASK_QUEUE_MAX):
        admission.offer(str(number), "t", "normal", 0)
    with pytest.raises(QueueFull, match=r"the task has 1000 executions waiting") as caught:
        admission.offer("more", "t", "urgent", 0)
    assert caught.value.retry_after_ms == 1000, "nothing has left yet"
    assert admission.position("more") == -1
    for number in range(9):
        admission.release("runs" if number == 0 else str(number - 1))
        admission.offer(f"again {number}", "t", "normal", number * S // 10)
    with pytest.raises(QueueFull) as caught:
        admission.offer("more", "t", "normal", 9 * S // 10)
    assert caught.value.retry_after_ms == 100 * 126, "an eighth of the queue, at 10 a second"
    assert admission.stats()["refused"] == 2


def test_the_rate_is_that_of_late() -> None:
    admission = node(concurrency=1)
    admission.offer("runs", "t", "normal", 0)
    started = ["runs"]
    for number in range(TASK_QUEUE_MAX):
        admission.offer(str(number), "t", "normal", 0)
    for number in range(1_000):  # the first 500 leave one a second, then one each 10 ms
        now_ns = min(number, 500) * S + max(0, number - 500) * S // 100
        started = list(admission.release(started[0]))
        admission.offer(f"again {number}", "t", "normal", now_ns)
    with pytest.raises(QueueFull) as caught:
        admission.offer("more", "t", "normal", 505 * S)
    assert caught.value.retry_after_ms < 10_000, "over all, it were a minute"


def test_a_full_queue_of_the_node_refuses_but_what_can_start_starts() -> None:
    admission = node(concurrency=100, task_queue_max=NODE_QUEUE_MAX)
    admission.offer("runs", "t", "normal", 0, 2000)
    for number in range(NODE_QUEUE_MAX):
        admission.offer(str(number), f"task {number % 100}", "normal", 0, 4000)
    with pytest.raises(QueueFull, match="the node has 10000 executions waiting"):
        admission.offer("more", "u", "normal", 1, 4000)
    assert list(admission.offer("small", "u", "normal", 2, 1)) == ["small"]


def test_a_refused_offer_does_not_count_as_progress() -> None:
    admission = node(concurrency=1, task_queue_max=1)
    admission.offer("runs", "t", "normal", 0)
    admission.offer("waits", "t", "normal", 0)
    for number in range(5):
        with pytest.raises(QueueFull) as caught:
            admission.offer(f"more {number}", "t", "normal", S)
        assert caught.value.retry_after_ms == 1000


def test_a_reservation_beyond_the_node_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"8 processors .* the node has 4 and"):
        node().offer("a", "t", "normal", 0, 8000)


def test_what_waited_in_another_process_keeps_its_place() -> None:
    admission = node(concurrency=1)
    admission.offer("runs", "t", "normal", 100 * S)
    admission.offer("new", "a", "high", 100 * S)
    admission.offer("old", "b", "normal", 100 * S, waited_ns=60 * S)
    assert list(admission.release("runs")) == ["old"]


def test_raised_limits_start_what_waits_and_lowered_ones_let_run() -> None:
    admission = node(concurrency=10)
    admission.set_limits("t", concurrency=1, queue_max=2)
    for name in "abc":
        admission.offer(name, "t", "normal", 0)
    with pytest.raises(QueueFull, match="2 executions"):
        admission.offer("d", "t", "normal", 0)
    assert list(admission.set_limits("t", concurrency=2)) == ["b"]
    assert not admission.set_limits("t", concurrency=1)
    assert not admission.release("a")
    assert list(admission.forget("t")) == ["c"]
    assert admission.task_stats("t") == {"running": 2, "waiting": 0}


def test_an_execution_is_offered_once() -> None:
    admission = node()
    admission.offer("a", "t", "normal", 0)
    with pytest.raises(AssertionError, match="twice"):
        admission.offer("a", "t", "normal", 0)

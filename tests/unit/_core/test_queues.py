import threading
from array import array

import pytest

from spear._core.queues import DueQueue, RunQueue
from spear.errors import InvalidArgument, QueueFull

U64_MAX = 2**64 - 1


def test_the_lowest_priority_number_is_served_first():
    queue = RunQueue(10)
    for priority in (255, 3, 64, 0, 63):
        queue.push(priority, priority)
    assert queue.pop_many(10) == [0, 3, 63, 64, 255]


def test_equals_are_served_in_order_over_many_segments():
    queue = RunQueue(1000)
    queue.push_many(range(100), 5)
    queue.push_many(array("Q", range(100, 300)), 5)
    for handle in range(300, 400):
        queue.push(handle, 5)
    assert [queue.pop() for _ in range(70)] == list(range(70))
    assert queue.pop_many(1000) == list(range(70, 400))
    assert queue.pop_many(1) == []
    assert queue.pop() is None


def test_a_queue_used_for_long_keeps_its_order():
    queue = RunQueue(200)
    queue.push_many(range(150))
    for turn in range(1000):
        assert queue.pop_many(7) == list(range(turn * 7, turn * 7 + 7))
        queue.push_many(range(150 + turn * 7, 157 + turn * 7))
    assert len(queue) == 150


@pytest.mark.parametrize(
    "batch",
    [
        [1, 2, U64_MAX],
        (1, 2, U64_MAX),
        array("Q", [1, 2, U64_MAX]),
        memoryview(array("L", [1, 2, U64_MAX])),
        memoryview(bytes([1, *bytes(7), 2, *bytes(7), *[255] * 8])).cast("Q"),
        iter([1, 2, U64_MAX]),
    ],
)
def test_a_batch_is_a_buffer_of_u64_or_ints(batch):
    queue = RunQueue(3)
    queue.push_many(batch, 1)
    assert queue.pop_many(3) == [1, 2, U64_MAX]


def test_a_batch_goes_in_whole_or_not_at_all():
    queue = RunQueue(5)
    queue.push_many([1, 2, 3])
    with pytest.raises(QueueFull, match="3 more were pushed, it holds 3 and its limit is 5"):
        queue.push_many([4, 5, 6])
    queue.push_many([4, 5])
    with pytest.raises(QueueFull, match="its limit is 5"):
        queue.push(6)
    with pytest.raises(OverflowError):
        queue.push_many([7, -1])
    assert queue.pop_many(9) == [1, 2, 3, 4, 5]


def test_a_full_queue_takes_more_after_a_pop():
    queue = RunQueue(1)
    for handle in range(200):
        queue.push(handle, handle % 256)
        with pytest.raises(QueueFull):
            queue.push(0)
        assert queue.pop() == handle


def test_an_empty_batch_changes_nothing():
    queue = RunQueue(1)
    queue.push_many([], 9)
    queue.push_many(array("Q"), 9)
    assert len(queue) == 0
    assert queue.depths() == {}
    assert queue.pop_many(5) == []


def test_depths_tell_what_waits():
    queue = RunQueue(100)
    queue.push_many(range(70), 200)
    queue.push(1, 3)
    assert queue.depths() == {3: 1, 200: 70}
    assert len(queue) == 71
    assert queue.capacity == 100


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (b"12345678", InvalidArgument),
        (array("q", [1]), InvalidArgument),
        (array("d", [1]), InvalidArgument),
        (array("I", [1, 2]), InvalidArgument),
        (memoryview(array("Q", [1, 2, 3]))[::2], BufferError),
        ([1.0], TypeError),
        ("a", TypeError),
        ([2**64], OverflowError),
        ([-1], OverflowError),
        (5, TypeError),
    ],
)
def test_a_batch_of_something_else_is_refused(wrong, error):
    queue = RunQueue(10)
    with pytest.raises(error):
        queue.push_many(wrong)
    assert len(queue) == 0


@pytest.mark.parametrize("make", [RunQueue, DueQueue])
@pytest.mark.parametrize(
    ("capacity", "error"),
    [
        (0, InvalidArgument),
        (-1, InvalidArgument),
        (2**64, InvalidArgument),
        (1.5, TypeError),
        (True, TypeError),
        (None, TypeError),
    ],
)
def test_a_wrong_capacity_is_refused(make, capacity, error):
    with pytest.raises(error, match="capacity"):
        make(capacity)


@pytest.mark.parametrize(
    ("priority", "error"),
    [
        (-1, InvalidArgument),
        (256, InvalidArgument),
        (2**70, InvalidArgument),
        (1.0, TypeError),
        (True, TypeError),
    ],
)
def test_a_wrong_priority_is_refused(priority, error):
    queue = RunQueue(10)
    with pytest.raises(error, match="priority"):
        queue.push(1, priority)
    with pytest.raises(error, match="priority"):
        queue.push_many([1], priority)
    assert len(queue) == 0


def test_a_wrong_number_of_handles_is_refused():
    with pytest.raises(InvalidArgument, match="-1 handles"):
        RunQueue(1).pop_many(-1)
    with pytest.raises(InvalidArgument, match="-1 handles"):
        DueQueue(1).pop_due(0, -1)


def test_threads_lose_and_invent_nothing():
    queue = RunQueue(1 << 20)
    popped: list[list[int]] = [[], []]

    def produce(base: int) -> None:
        for at in range(0, 20_000, 50):
            queue.push_many(range(base + at, base + at + 50), base % 7)

    def consume(into: list[int]) -> None:
        while len(into) < 20_000:
            into += queue.pop_many(min(64, 20_000 - len(into)))

    threads = [threading.Thread(target=produce, args=(base,)) for base in (0, 20_001)]
    threads += [threading.Thread(target=consume, args=(into,)) for into in popped]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(popped[0] + popped[1]) == [*range(20_000), *range(20_001, 40_001)]


def test_due_handles_come_earliest_first_and_only_when_due():
    queue = DueQueue(10)
    queue.push_many([1, 2, 3], [300, 100, 200])
    assert queue.next_deadline_ns == 100
    assert queue.pop_due(99) == []
    assert queue.pop_due(200) == [2, 3]
    assert queue.next_deadline_ns == 300
    assert queue.pop_due(10**9) == [1]
    assert queue.next_deadline_ns is None


def test_equal_deadlines_come_in_the_order_of_their_push():
    queue = DueQueue(1000)
    queue.push_many(range(500), [7] * 500)
    queue.push_many(range(500, 1000), array("q", [7] * 500))
    assert queue.pop_due(7, 600) == list(range(600))
    assert queue.pop_due(7) == list(range(600, 1000))


def test_a_cancelled_handle_never_comes():
    queue = DueQueue(10)
    queue.push_many([1, 2, 3], [10, 20, 30])
    assert queue.cancel(1)
    assert not queue.cancel(1)
    assert not queue.cancel(99)
    assert queue.next_deadline_ns == 20
    assert 1 not in queue
    assert 2 in queue
    assert len(queue) == 2
    assert queue.pop_due(100) == [2, 3]
    assert not queue.cancel(2)


def test_a_cancelled_handle_may_be_queued_again():
    queue = DueQueue(1)
    queue.push(5, 10)
    queue.cancel(5)
    queue.push(5, 20)
    assert queue.pop_due(10) == []
    assert queue.pop_due(20) == [5]
    queue.push(5, 1)
    assert queue.pop_due(1) == [5]


def test_cancelled_entries_do_not_pile_up():
    queue = DueQueue(100)
    queue.push_many(range(50), [10**6] * 50)
    for handle in range(1000, 200_000):
        queue.push(handle, 10**9 - handle)
        assert queue.cancel(handle)
    assert len(queue) == 50
    assert queue.pop_due(10**10) == list(range(50))


def test_a_handle_is_queued_at_most_once():
    queue = DueQueue(10)
    queue.push_many([1, 2], [10, 20])
    with pytest.raises(InvalidArgument, match="handle 2 is queued already"):
        queue.push(2, 5)
    with pytest.raises(InvalidArgument, match="handle 2 is queued already"):
        queue.push_many([3, 2, 4], [1, 2, 3])
    with pytest.raises(InvalidArgument, match="handle 3 is queued already"):
        queue.push_many([3, 4, 3], [1, 2, 3])
    assert queue.pop_due(100) == [1, 2]


def test_a_due_batch_goes_in_whole_or_not_at_all():
    queue = DueQueue(3)
    with pytest.raises(QueueFull, match="4 more were pushed, it holds 0 and its limit is 3"):
        queue.push_many([1, 2, 3, 4], [1, 1, 1, 1])
    with pytest.raises(InvalidArgument, match="2 handles but 1 deadlines"):
        queue.push_many([1, 2], [1])
    with pytest.raises(InvalidArgument, match="format 'Q'"):
        queue.push_many([1], array("Q", [1]))
    for wrong in (2**63, -(2**63) - 1):
        with pytest.raises(OverflowError):
            queue.push(1, wrong)
    for wrong in (1.5, "1", None):
        with pytest.raises(TypeError):
            queue.push(1, wrong)
        with pytest.raises(TypeError):
            queue.push(wrong, 1)
    assert len(queue) == 0


def test_extreme_deadlines_and_handles_are_ordinary():
    queue = DueQueue(4)
    queue.push_many([0, U64_MAX, 7], [2**63 - 1, -(2**63), 0])
    assert queue.pop_due(-(2**63)) == [U64_MAX]
    assert queue.pop_due(2**63 - 1) == [7, 0]

"""Deliveries to a server on this machine that takes, refuses, hangs and drops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from manual_clock import ManualClock
from webhook_receiver import Receiver, receiving

from spear.errors import KvDamaged, KvError
from spear.kv.batch import Batch
from spear.kv.memory import MemoryKv
from spear.records.execution import Execution
from spear.spearlet.webhooks.delivery import PREFIX, Delivery, rows_for
from spear.spearlet.webhooks.sender import HOST_MAX, WebhookSender

S = 10**9


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


class Setting:
    def __init__(self, clock: ManualClock) -> None:
        self.kv, self.clock, self.reports = MemoryKv(), clock, list[str]()
        self.made: list[WebhookSender] = []

    def sender(self, **limits: int) -> WebhookSender:
        def report(id: str, why: str) -> None:
            self.reports.append(f"{id}: {why}")

        sender = WebhookSender(self.kv, self.clock, b"key", report, **limits)
        self.made.append(sender)
        sender.load()
        return sender

    def write(self, id: str, url: str) -> list[tuple[bytes, bytes]]:
        rows = rows_for(Execution(id=id, status="completed"), url)
        batch = Batch()
        for key, value in rows:
            batch.put(key, value)
        self.kv.write(batch)
        return rows

    def left(self) -> list[Delivery]:
        rows = self.kv.scan(PREFIX)
        return [msgspec.msgpack.decode(value, type=Delivery) for _, value in rows]


@pytest.fixture
async def setting(clock: ManualClock) -> AsyncIterator[Setting]:
    setting = Setting(clock)
    yield setting
    for sender in setting.made:
        await sender.close()


async def deliver(sender: WebhookSender) -> int:
    """All that is due now, one attempt each; how long to wait then."""
    while True:
        async with asyncio.TaskGroup() as group:
            sender.start_due(group)
            if not sender.stats()["posting"]:
                return sender.start_due(group)


async def test_a_delivery_is_posted_once_and_its_row_goes(
    setting: Setting, receiver: Receiver
) -> None:
    sender = setting.sender()
    sender.added(setting.write("e1", receiver.url))
    await deliver(sender)
    assert receiver.seen == [("e1", b'{"id":"e1","status":"completed"}')]
    assert setting.left() == []
    assert sender.stats() == {"waiting": 0, "posting": 0, "delivered": 1, "given_up": 0}


@pytest.mark.parametrize("fault", [500, 503, 429, 408, "drop", "hang"])
async def test_a_fault_is_tried_again_after_a_while(
    setting: Setting, receiver: Receiver, fault: int | str
) -> None:
    sender = setting.sender(timeout_ns=S // 5 if fault == "hang" else 10 * S)
    receiver.answers = [fault]
    sender.added(setting.write("e1", receiver.url))
    await deliver(sender)
    (row,) = setting.left()
    assert row.attempts == 1
    assert setting.clock.now_ns() < row.next_ns <= setting.clock.now_ns() + 5 * S
    await deliver(sender)
    assert len(receiver.seen) == 1, "not before its time"
    setting.clock.advance(5 * S)
    await deliver(sender)
    assert [id for id, _ in receiver.seen] == ["e1", "e1"]
    assert setting.left() == []


async def test_the_wait_that_the_receiver_asks_for_is_kept(
    setting: Setting, receiver: Receiver
) -> None:
    sender = setting.sender()
    receiver.answers, receiver.headers = [429], {"Retry-After": "120"}
    sender.added(setting.write("e1", receiver.url))
    await deliver(sender)
    assert setting.left()[0].next_ns == setting.clock.now_ns() + 120 * S


@pytest.mark.parametrize("set_by_ns", [-86_400 * S, 86_400 * S])
async def test_the_next_attempt_comes_in_its_time_though_the_clock_is_set(
    setting: Setting, receiver: Receiver, set_by_ns: int
) -> None:
    sender = setting.sender()
    receiver.answers = [500]
    sender.added(setting.write("e1", receiver.url))
    await deliver(sender)
    setting.clock.set_by(set_by_ns)
    await deliver(sender)
    assert len(receiver.seen) == 1
    setting.clock.advance(10 * S)  # the longest wait behind a first attempt
    await deliver(sender)
    assert (len(receiver.seen), setting.left()) == (2, [])


async def test_nobody_listening_is_a_fault_like_others(setting: Setting) -> None:
    receiver = Receiver()
    await receiver.start()
    await receiver.runner.cleanup()
    sender = setting.sender()
    sender.added(setting.write("e1", receiver.url))
    await deliver(sender)
    assert setting.left()[0].attempts == 1


@pytest.mark.parametrize("status", [301, 302, 307, 400, 403, 404])
async def test_a_refusal_or_a_redirect_is_final(
    setting: Setting, receiver: Receiver, status: int
) -> None:
    sender = setting.sender()
    receiver.answers, receiver.headers = [status], {"Location": "/elsewhere"}
    sender.added(setting.write("e1", receiver.url))
    await deliver(sender)
    assert len(receiver.seen) == 1
    assert setting.left() == []
    assert setting.reports == [f"e1: given up after 1 attempt: answer {status}"]


async def test_after_the_last_attempt_it_is_given_up(setting: Setting, receiver: Receiver) -> None:
    sender = setting.sender()
    receiver.answers = [500] * 100
    sender.added(setting.write("e1", receiver.url))
    for _ in range(25):
        await deliver(sender)
        setting.clock.advance(3600 * S)
    assert len(receiver.seen) == 20
    assert setting.left() == []
    assert setting.reports == ["e1: given up after 20 attempts: answer 500"]
    assert sender.stats()["waiting"] == 0


async def test_what_a_process_did_not_deliver_the_next_one_does(
    setting: Setting, receiver: Receiver
) -> None:
    for number in range(1001):
        setting.write(f"e{number}", receiver.url)
    await deliver(setting.sender())
    assert {id for id, _ in receiver.seen} == {f"e{number}" for number in range(1001)}
    assert setting.left() == []


async def test_a_process_that_dies_after_the_post_delivers_again(
    setting: Setting, receiver: Receiver
) -> None:
    setting.write("e1", receiver.url)
    receiver.answers = ["hang"]
    sender = setting.sender()
    running = asyncio.create_task(sender.run())
    await receiver.until(lambda: receiver.now == 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await deliver(setting.sender())
    assert [id for id, _ in receiver.seen] == ["e1", "e1"]


async def test_a_host_that_hangs_holds_up_only_its_own(
    setting: Setting, receiver: Receiver
) -> None:
    hanging = Receiver()
    await hanging.start()
    hanging.answers = ["hang"] * 20
    sender = setting.sender()
    for number in range(20):
        sender.added(setting.write(f"h{number}", hanging.url))
    for number in range(10):
        sender.added(setting.write(f"e{number}", receiver.url))
    running = asyncio.create_task(sender.run())
    await receiver.until(lambda: len(receiver.seen) == 10)
    await hanging.until(lambda: hanging.now == HOST_MAX)
    hanging.released.set()
    await hanging.until(lambda: len(hanging.seen) == 20)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert hanging.most == HOST_MAX
    await hanging.runner.cleanup()


async def test_more_than_can_wait_are_given_up(setting: Setting, receiver: Receiver) -> None:
    sender = setting.sender(waiting_max=2)
    for number in range(3):
        sender.added(setting.write(f"e{number}", receiver.url))
    assert [row.id for row in setting.left()] == ["e0", "e1"]
    assert setting.reports == ["e2: given up after 1 attempt: 2 deliveries wait already"]
    await deliver(sender)
    sender.added(setting.write("e3", receiver.url))
    await deliver(sender)
    assert [id for id, _ in receiver.seen] == ["e0", "e1", "e3"]


async def test_a_url_that_none_can_have_is_given_up(setting: Setting) -> None:
    sender = setting.sender()
    sender.added(setting.write("e1", "gopher://x"))
    assert setting.left() == []
    assert "expected http://HOST" in setting.reports[0]
    assert sender.stats()["waiting"] == 0


async def test_a_store_that_fails_puts_the_delivery_off(
    setting: Setting, receiver: Receiver
) -> None:
    sender, get = setting.sender(), setting.kv.get
    sender.added(setting.write("e1", receiver.url))

    def failing(key: bytes) -> bytes | None:
        raise KvError("disk")

    setting.kv.get = failing  # type: ignore[method-assign]
    await deliver(sender)
    setting.kv.get = get  # type: ignore[method-assign]
    setting.clock.advance(60 * S)
    await deliver(sender)
    assert setting.reports == ["e1: disk"]
    assert len(receiver.seen) == 1


async def test_a_damaged_row_is_said(setting: Setting) -> None:
    batch = Batch()
    batch.put(b"webhook/e1", b"\xc1")
    setting.kv.write(batch)
    with pytest.raises(KvDamaged, match="webhook/e1"):
        setting.sender()


async def test_a_row_that_was_removed_is_not_posted(setting: Setting, receiver: Receiver) -> None:
    sender = setting.sender()
    ((key, _),) = rows = setting.write("e1", receiver.url)
    sender.added(rows)
    batch = Batch()
    batch.delete(key)
    setting.kv.write(batch)
    await deliver(sender)
    assert receiver.seen == []
    assert sender.stats()["waiting"] == 0

"""Webhooks of a daemon: an end is told to a server, again after a failure, and over deaths.

Rule: the receiver is in this process and outlives the daemons; what it saw is judged. A delivery
that was taken while the daemon died may come twice, under the same key; none is lost.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from daemon_child import READY_S
from real_daemon import RealDaemon, real_daemon, until
from webhook_receiver import Receiver, receiving

from spear.records.execution import Execution, Invocation

HOUR_NS = 3600 * 10**9
SUBMITTED = 40


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RealDaemon]:
    async with real_daemon(tmp_path) as made:
        yield made


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


async def seen(receiver: Receiver, count: int) -> None:
    await asyncio.wait_for(receiver.until(lambda: len(receiver.seen) >= count), READY_S)


async def webhooks(daemon: RealDaemon) -> dict[str, int]:
    return (await daemon.client.stats())["webhooks"]


async def test_an_end_is_told_and_told_again_after_a_failure(
    daemon: RealDaemon, receiver: Receiver
) -> None:
    client = await daemon.live()
    await daemon.register("hello", webhook=receiver.url)
    receiver.answers = [503, "drop"]
    execution = await client.submit("hello")
    await seen(receiver, 1)

    async def taken() -> bool:
        daemon.pass_ns(HOUR_NS)  # over any back-off
        return (await webhooks(daemon))["delivered"] == 1

    await until(taken)
    assert [id for id, _ in receiver.seen] == [execution.id] * 3
    ((_, body), *others) = receiver.seen
    assert {body} == {other for _, other in others}
    told = msgspec.json.decode(body, type=Execution)
    assert (told.id, told.status, told.task_name) == (execution.id, "completed", "hello")
    key = (daemon.data / "webhook_key").read_text().strip().encode()
    signature = hmac.digest(key, body, "sha256").hex()
    assert set(receiver.signatures) == {f"sha256={signature}"}
    assert await webhooks(daemon) == {"waiting": 0, "posting": 0, "delivered": 1, "given_up": 0}


async def test_a_delivery_under_way_at_a_sigkill_is_made_by_the_next_process(
    daemon: RealDaemon, receiver: Receiver
) -> None:
    client = await daemon.live()
    await daemon.register("hello")
    receiver.answers = ["hang"]
    call = Invocation(webhook=receiver.url)
    execution = await client.invoke("hello", b"", call)
    await seen(receiver, 1)
    await daemon.die()
    receiver.released.set()
    client = await daemon.live()
    await seen(receiver, 2)
    assert receiver.seen[0] == receiver.seen[1]

    async def taken() -> bool:
        return (await webhooks(daemon))["waiting"] == 0

    await until(taken)
    await daemon.die()
    client = await daemon.live()
    other = await client.invoke("hello", b"", call)
    await seen(receiver, 3)
    assert [id for id, _ in receiver.seen] == [execution.id] * 2 + [other.id]


async def test_no_end_goes_untold_where_the_daemon_dies_among_many(
    daemon: RealDaemon, receiver: Receiver
) -> None:
    """Some are told already, some have ended, some run, some wait."""
    client = await daemon.live(SPEARLET_EXECUTOR_MAX_PARKED="4")
    await daemon.register("hello", webhook=receiver.url)
    submitted = await asyncio.gather(*(client.submit("hello") for _ in range(SUBMITTED)))
    await seen(receiver, 1)
    await daemon.die()
    client = await daemon.live()
    ends = {one.id: await client.wait(one.id) for one in submitted}
    await asyncio.wait_for(receiver.until(lambda: ends.keys() <= dict(receiver.seen).keys()), 60)
    for id, body in receiver.seen:
        told = msgspec.json.decode(body, type=Execution)
        assert told == msgspec.structs.replace(ends[id], output=b"", durability=told.durability)

"""Echoing guests with clients on threads and on an event loop at once: every frame comes back once,
in order, and no wait hangs.

Rule: what a client sends depends on its seed; clients of one guest run on different threads, so
that readiness changes while the guest looks.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading

import pytest
from guest_runs import HANG_S, MS, ended, executor, guest

from spear._core.executor import Executor
from spear._core.run import Run
from spear.errors import ChannelClosed
from spear.runtime.waiting import drive
from tests.reference import ssf


async def talk(run: Run, stream_id: int, count: int) -> None:
    """A window of frames is under way; each must be the next that was sent."""
    rng = random.Random(stream_id)
    stream, under_way, sent = run.stream(stream_id), [], 0
    while sent < count or under_way:
        if sent < count and len(under_way) < rng.randrange(1, 6):
            frame = ssf.frame(stream_id, rng.randbytes(rng.choice((0, 5, 300, 20_000))), seq=sent)
            await stream.send(frame)
            under_way.append(frame)
            sent += 1
        else:
            assert await stream.receive() == under_way.pop(0), (stream_id, sent)
    assert stream.receive_nowait() is None


async def together(run: Run, ids: range, count: int) -> None:
    await asyncio.wait_for(
        asyncio.gather(*(talk(run, stream_id, count) for stream_id in ids)), HANG_S
    )


def echo(node: Executor, count: int) -> None:
    run = node.start(guest("stream_echo"), args=("echo",), timeout_ns=int(HANG_S * 1000) * MS)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            if number < 3:
                drive(talk(run, 100 + number, count))
            else:
                asyncio.run(together(run, range(10 * number, 10 * number + 4), count))
        except BaseException as error:
            errors.append(error)
            run.cancel()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    run.close_streams()
    assert ended(run).exit_code == 0, run.read_logs()
    assert run.output == b"%d frames of 11 streams echoed\n" % (11 * count)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_frame_comes_back_once_and_in_order(workers: int):
    with executor(workers=workers) as node:
        echo(node, 60)


def test_guests_are_ended_while_their_clients_send():
    """Late clients meet an ended guest: refused, never harmful."""
    with executor(workers=2) as node:
        for seed in range(60):
            run = node.start(guest("stream_echo"), args=("echo",), timeout_ns=30 * MS)
            stream = run.stream(1)

            def flood(stream=stream) -> None:
                frame = ssf.frame(1, b"x" * 100)
                with contextlib.suppress(ChannelClosed):
                    while True:
                        drive(stream.send(frame))
                        stream.receive_nowait()

            clients = [threading.Thread(target=flood) for _ in range(2)]
            for client in clients:
                client.start()
            if seed % 3 == 0:
                run.cancel()
            elif seed % 3 == 1:
                stream.close()
                run.close_streams()
            cause = ended(run).cause
            stream.close()
            for client in clients:
                client.join()
            assert cause in ("cancelled", "exit", "deadline")


def test_a_client_that_never_stops_does_not_save_a_guest_from_its_deadline():
    with executor(workers=1) as node:
        run = node.start(guest("stream_echo"), args=("echo",), timeout_ns=150 * MS)
        stream = run.stream(1)
        frame = ssf.frame(1)
        with contextlib.suppress(ChannelClosed):
            while True:
                drive(stream.send(frame))
                stream.receive_nowait()
        assert ended(run).cause == "deadline"


@pytest.mark.soak
def test_long_echo():
    for _ in range(20):
        with executor(workers=2) as node:
            echo(node, 1500)

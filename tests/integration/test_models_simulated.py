"""Crowds of requests over backends that fail at random, in virtual time, one seed a world.

Whatever happens: a request is tried no more often than planned and ends by its deadline, a backend
has no more requests at once than it may, and at the end nothing is taken, waits or runs.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples
from scripted_backends import Act, Scripted, Stage, chat
from virtual_time import VirtualClock, run

from spear.errors import ModelError, ModelGarbled, ModelRefused, ModelUnavailable
from spear.hostcalls.llm.request import Delta, Reply

S = 10**9
REQUESTS = 30


class World:
    """One seed: backends with their ways to fail, and requests with their deadlines."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.clock = VirtualClock(seed)
        names = "abcd"[: random.randint(1, 4)]
        self.retries = random.randint(0, 3)
        self.limits = {
            name: {
                "concurrency": random.choice((0, 1, 2)),
                "requests_per_minute": random.choice((0, 0, 30)),
                "timeout_ns": random.choice((0, 3 * S)),
            }
            for name in names
        }
        specs = {name: {"priority": random.randint(0, 1)} for name in names}
        self.stage = Stage(
            self.clock, {name: self._script() for name in names}, retries=self.retries,
            settings=self.limits, specs=specs,
        )  # fmt: skip
        self.ends: dict[str, tuple[int, int]] = {}  # request -> its deadline, its end
        self.calls: Counter[str] = Counter()

    def _script(self) -> list[Act]:
        badness = self.random.choice((0.0, 0.3, 0.9))
        return [self._act(badness) for _ in range(REQUESTS * 3)]

    def _act(self, badness: float) -> Act:
        random = self.random
        seconds = random.choice((0.0, 0.1, 2.0))
        if random.random() >= badness:
            return lambda: seconds
        kind = random.randrange(6)
        if kind == 0:
            return lambda: 3600.0
        error = (
            ModelUnavailable("upstream status: 503", http_status=503),
            ModelUnavailable("connect failed"),
            ModelUnavailable(
                "upstream status: 429", http_status=429, retry_after_ms=random.choice((0, 700))
            ),
            ModelGarbled("no JSON", http_status=200),
            ModelRefused("upstream status: 400", http_status=400),
        )[kind - 1]

        def act() -> float:
            error.__cause__ = error.__context__ = None
            raise error

        return act

    async def live(self) -> None:
        async with asyncio.TaskGroup() as group:
            for n in range(REQUESTS):
                task = group.create_task(self._request(f"r{n}"))
                if self.random.random() < 0.2:
                    delay_s = self.random.choice((0.0, 0.05, 1.0))
                    asyncio.get_running_loop().call_later(delay_s, task.cancel)
                await asyncio.sleep(self.random.choice((0.0, 0.0, 0.2)))

    async def _request(self, id: str) -> None:
        now_ns = self.clock.monotonic_ns()
        deadline_ns = now_ns + round(self.random.choice((0.05, 1.0, 5.0, 60.0)) * S)
        request = chat(deadline_ns=deadline_ns, request_id=id)
        try:
            if self.random.random() < 0.5:
                self.calls[id] = (await self.stage.models.chat(request)).usage.calls
            else:
                await self._stream(id, request)
        except ModelError as error:
            self.calls[id] = error.calls
        finally:
            self.ends[id] = deadline_ns, self.clock.monotonic_ns()

    async def _stream(self, id: str, request: object) -> None:
        task: asyncio.Task[Reply]

        def deliver(piece: Delta) -> None:
            assert isinstance(piece, Delta)
            if self.random.random() < 0.1:
                task.cancel()

        stream = self.stage.models.stream(request, deliver)  # type: ignore[arg-type]
        task = asyncio.create_task(stream)
        try:
            self.calls[id] = (await task).usage.calls
        except asyncio.CancelledError:
            if not task.cancelled():
                raise

    def check(self) -> None:
        backends: list[Scripted] = list(self.stage.backends.values())
        tries = Counter(id for one in backends for id in one.requests)
        for id, count in tries.items():
            assert count <= len(self.limits) + self.retries, id
            assert self.calls[id] <= count
        for deadline_ns, end_ns in self.ends.values():
            assert end_ns <= deadline_ns + 1
        for one in backends:
            concurrency = self.limits[one.spec.name]["concurrency"]
            assert not concurrency or one.busy_max <= concurrency
            assert one.busy == 0
        assert self.stage.slots == 0


def play(seed: int) -> World:
    world = World(seed)

    async def main() -> None:
        await world.live()
        world.check()

    run(main())
    return world


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(0, 1 << 32))
def test_whatever_fails_requests_end_in_time_and_leave_nothing(seed: int) -> None:
    play(seed)


def test_the_same_seed_is_the_same_world() -> None:
    first, second = play(7), play(7)
    assert first.ends == second.ends
    assert first.calls == second.calls


@pytest.mark.soak
def test_many_seeds_long() -> None:
    for seed in range(5000):
        play(seed)

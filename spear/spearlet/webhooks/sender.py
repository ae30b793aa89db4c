"""Delivers webhooks: the rows of the metadata store, posted until taken or given up.

The rule: the store holds the deliveries, memory only which are due when; so a crash loses none.
Bounded: deliveries that wait, posts at once, posts at once to one host (so that a host which hangs
holds up only its own), the time of a post. Nothing of an answer is read but its status and
Retry-After. Within a process waits go by the monotonic clock, which nobody sets.
"""

from __future__ import annotations

import asyncio
import heapq
import importlib
from collections import deque

import msgspec

from spear.errors import InvalidArgument, KvDamaged, KvError
from spear.kv.batch import Batch
from spear.spearlet.retry import RANDOM_BITS
from spear.spearlet.webhooks import delivery as rules
from spear.spearlet.webhooks.delivery import AGAIN, DONE, PREFIX, Delivery
from spear.units import plural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import aiohttp

    from spear.clock import Clock
    from spear.kv.interface import LocalKv

    Report = Callable[[str, str], None]  # the delivery's id, and why it is given up or put off

WAITING_MAX = 100_000
TOGETHER_MAX, HOST_MAX = 32, 4
TIMEOUT_NS = 10 * 10**9
_CHECK_NS = 2 * 10**9
_STORE_AGAIN_NS = 60 * 10**9
_DECODER = msgspec.msgpack.Decoder(Delivery)


class WebhookSender:
    """The webhooks of a node, on the loop's thread. `key` signs; `load` first, then `run` as a task
    that its parent cancels at the end."""

    def __init__(
        self, kv: LocalKv, clock: Clock, key: bytes, report: Report, *,
        timeout_ns: int = TIMEOUT_NS, waiting_max: int = WAITING_MAX,
    ) -> None:  # fmt: skip
        self._kv, self._clock, self._key, self._report = kv, clock, key, report
        self._timeout_ns, self._waiting_max = timeout_ns, waiting_max
        self._later: list[tuple[int, bytes, str]] = []  # a heap: monotonic time, key, host
        self._ready: dict[str, deque[bytes]] = {}  # by host: their time has come
        self._posting: dict[str, int] = {}  # by host
        self._together = 0  # those in _posting
        self._waiting = 0  # those in _later, _ready and _posting
        self._delivered = self._given_up = 0
        self._wake = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None

    def load(self) -> None:
        """Reads what was not delivered before. Raises KvDamaged."""
        after = b""
        while rows := self._kv.scan(PREFIX, after=after):
            self.added(rows)
            after = rows[-1][0]

    def added(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Tells of rows that were written, as `rows_for` gave them. What is more than can wait is
        given up and its row deleted."""
        for key, value in rows:
            delivery = _decode(key, value)
            if self._waiting >= self._waiting_max:
                self._end(delivery, f"{self._waiting_max} deliveries wait already")
                continue
            self._waiting += 1
            self._line_up(delivery)
        self._wake.set()

    def stats(self) -> dict[str, int]:
        return {
            "waiting": self._waiting,
            "posting": self._together,
            "delivered": self._delivered,
            "given_up": self._given_up,
        }

    async def run(self) -> None:
        """For ever."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._wake.clear()
                    wait_ns = self.start_due(group)
                    try:
                        async with asyncio.timeout(wait_ns / 1e9):
                            await self._wake.wait()
                    except TimeoutError:
                        pass
        finally:
            await self.close()

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def start_due(self, group: asyncio.TaskGroup) -> int:
        """Begins the posts that are due and have a place; how long to wait for the next ones."""
        now_ns = self._clock.monotonic_ns()
        while self._later and self._later[0][0] <= now_ns:
            _, key, host = heapq.heappop(self._later)
            self._ready.setdefault(host, deque()).append(key)
        for host in list(self._ready):
            if self._together == TOGETHER_MAX:
                break
            places = min(HOST_MAX - self._posting.get(host, 0), TOGETHER_MAX - self._together)
            queue = self._ready.pop(host)
            for _ in range(min(places, len(queue))):
                self._posting[host] = self._posting.get(host, 0) + 1
                self._together += 1
                group.create_task(self._deliver(queue.popleft(), host))
            if queue:
                self._ready[host] = queue  # as the last host: each has its turn
        next_ns = self._later[0][0] if self._later else now_ns + _CHECK_NS
        return min(_CHECK_NS, next_ns - now_ns)

    async def _deliver(self, key: bytes, host: str) -> None:
        try:
            value = self._kv.get(key)
            if value is not None:
                await self._attempt(_decode(key, value))
            else:
                self._waiting -= 1
        except KvError as error:  # its row stays: it is tried again
            self._report(_id(key), str(error))
            again_ns = self._clock.monotonic_ns() + _STORE_AGAIN_NS
            heapq.heappush(self._later, (again_ns, key, host))
        finally:
            self._together -= 1
            self._posting[host] -= 1
            if not self._posting[host]:
                del self._posting[host]
            self._wake.set()

    async def _attempt(self, delivery: Delivery) -> None:
        answer, after_ns, said = await self._post(delivery)
        if answer == DONE:
            self._delete(delivery)
            self._delivered += 1
            self._waiting -= 1
            return
        random = int.from_bytes(self._clock.random_bytes(RANDOM_BITS // 8), "big")
        again = None
        if answer == AGAIN:
            again = rules.try_again(delivery, self._clock.now_ns(), random, after_ns)
        if again is None:
            self._end(delivery, said)
            self._waiting -= 1
            return
        batch = Batch()
        batch.put(*rules.row_of(again))
        self._kv.write(batch)
        self._line_up(again)

    async def _post(self, delivery: Delivery) -> tuple[str, int, str]:
        """What the answer means, its Retry-After, and how it is said in a report."""
        session = await self._open()
        import aiohttp

        headers = rules.headers_of(delivery, self._key)
        try:
            async with session.post(
                delivery.url, data=delivery.body, headers=headers, allow_redirects=False
            ) as response:
                after_ns = rules.retry_after_ns(response.headers.get("Retry-After"))
                return rules.verdict(response.status), after_ns, f"answer {response.status}"
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            return AGAIN, 0, f"{type(error).__name__} {error}".rstrip()

    async def _open(self) -> aiohttp.ClientSession:
        """Not before there is a webhook; what takes long of it is the import, done in a thread."""
        if self._session is None:
            await asyncio.to_thread(importlib.import_module, "aiohttp")
        import aiohttp

        if self._session is None:  # still
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout_ns / 1e9),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _line_up(self, delivery: Delivery) -> None:
        try:
            host = rules.check_url(delivery.url)
        except InvalidArgument as error:
            self._end(delivery, str(error))
            self._waiting -= 1
            return
        wait_ns = rules.wait_ns(delivery.next_ns, self._clock.now_ns())
        due_ns = self._clock.monotonic_ns() + wait_ns
        heapq.heappush(self._later, (due_ns, delivery.key, host))

    def _end(self, delivery: Delivery, why: str) -> None:
        """Gives it up."""
        self._delete(delivery)
        self._given_up += 1
        tries = plural(delivery.attempts + 1, "attempt")
        self._report(delivery.id, f"given up after {tries}: {why}")

    def _delete(self, delivery: Delivery) -> None:
        """Class crash: after a power cut it is delivered once more."""
        batch = Batch()
        batch.delete(delivery.key)
        self._kv.write(batch)


def _decode(key: bytes, value: bytes) -> Delivery:
    try:
        return _DECODER.decode(value)
    except msgspec.DecodeError as error:
        raise KvDamaged(f"the row {key!r} is no delivery: {error}") from error


def _id(key: bytes) -> str:
    return key.removeprefix(PREFIX).decode(errors="replace")

"""One GET of a document, on a connection of its own."""

from __future__ import annotations

from spear.errors import ModelUnavailable
from spear.hostcalls.llm.http.client import HttpClient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.clock import Clock


async def get(base_url: str, path: str, clock: Clock, timeout_ms: int, bytes_max: int) -> bytes:
    """Raises ModelError, also for every status but 200."""
    client = HttpClient(base_url, clock, {})
    deadline_ns = clock.monotonic_ns() + timeout_ms * 10**6
    try:
        async with client.request("GET", path, deadline_ns=deadline_ns, bytes_max=bytes_max) as got:
            if got.status != 200:
                raise ModelUnavailable(f"status {got.status} from {path}", http_status=got.status)
            return await got.body()
    finally:
        await client.close()

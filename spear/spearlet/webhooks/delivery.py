"""What a webhook is told, and when it is tried again: rows, bodies, signatures, decisions.

The rule: pure. A delivery's row is written in the same batch as the end that it tells of, so that
neither is there without the other; it goes when the receiver took it or it was given up. Delivery
is at least once: a receiver knows repetitions by `Idempotency-Key`.
"""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

import msgspec

from spear.errors import InvalidArgument
from spear.spearlet.retry import jitter_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.records.execution import Execution

PREFIX = b"webhook/"
ATTEMPTS_MAX = 20  # about half a day
BACKOFF_NS, BACKOFF_MAX_NS = 5 * 10**9, 3600 * 10**9
DONE, AGAIN, NEVER = "done", "again", "never"
_AGAIN = frozenset((408, 425, 429))  # and all from 500 on
_URL_MAX = 2048


class Delivery(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One row. `id` is the execution's, with a number behind it for a second URL."""

    id: str
    url: str
    body: bytes
    attempts: int = 0
    next_ns: int = 0  # Unix time of the next attempt

    @property
    def key(self) -> bytes:
        return PREFIX + self.id.encode()


def check_url(url: str) -> str:
    """The URL's host and port. Raises InvalidArgument for one that no webhook can have. Private
    addresses are accepted: what registers tasks at a node may reach what the node reaches."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidArgument(f"webhook {_shown(url)}: {error}") from None
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or "@" in parts.netloc
        or not url.isascii()
        or not url.isprintable()
        or " " in url
        or len(url) > _URL_MAX
    ):
        raise InvalidArgument(
            f"webhook {_shown(url)}: expected http://HOST/... or https://HOST/... in printable "
            f"ASCII, without user and password, of at most {_URL_MAX} characters"
        )
    return f"{parts.hostname}:{port or parts.scheme}"


def rows_for(execution: Execution, *urls: str) -> list[tuple[bytes, bytes]]:
    """The rows that tell each of the URLs ("": none) of this end, to be written with it."""
    body = b""
    rows = []
    for number, url in enumerate(dict.fromkeys(filter(None, urls))):
        body = body or body_of(execution)
        id = f"{execution.id}/{number}" if number else execution.id
        rows.append(row_of(Delivery(id=id, url=url, body=body)))
    return rows


def row_of(delivery: Delivery) -> tuple[bytes, bytes]:
    return delivery.key, msgspec.msgpack.encode(delivery)


def body_of(execution: Execution) -> bytes:
    """The record as JSON, without its output and without what is empty."""
    return msgspec.json.encode(msgspec.structs.replace(execution, output=b""))


def headers_of(delivery: Delivery, key: bytes) -> dict[str, str]:
    """`Spear-Signature` is the HMAC-SHA256 of the body, in hex, by the node's webhook key."""
    signature = hmac.digest(key, delivery.body, "sha256").hex()
    return {
        "Content-Type": "application/json",
        "Idempotency-Key": delivery.id,
        "Spear-Signature": f"sha256={signature}",
        "User-Agent": "spear",
    }


def verdict(status: int) -> str:
    """What an answer means: DONE, AGAIN or NEVER. A redirect is not followed."""
    if 200 <= status < 300:
        return DONE
    return AGAIN if status in _AGAIN or status >= 500 else NEVER


def retry_after_ns(header: str | None) -> int:
    """Of a number of seconds; 0 for all else (a date is not looked at), at most the longest
    back-off."""
    text = header.strip() if header else ""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        return 0
    return min(int(text) * 10**9, BACKOFF_MAX_NS)


def try_again(delivery: Delivery, now_ns: int, random: int, after_ns: int = 0) -> Delivery | None:
    """The delivery after one more failed attempt; None: it is given up. `random` as for retries."""
    attempts = delivery.attempts + 1
    if attempts >= ATTEMPTS_MAX:
        return None
    wait_ns = max(after_ns, jitter_ns(BACKOFF_NS, BACKOFF_MAX_NS, attempts, random))
    return msgspec.structs.replace(delivery, attempts=attempts, next_ns=now_ns + wait_ns)


def wait_ns(next_ns: int, now_ns: int) -> int:
    """How long to wait; never longer than the longest back-off, though the clock went back."""
    return max(0, min(next_ns - now_ns, BACKOFF_MAX_NS))


def _shown(url: str) -> str:
    return repr(url) if len(url) <= 100 else f"{url[:97]!r}..."

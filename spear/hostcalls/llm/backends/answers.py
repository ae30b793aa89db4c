"""What upstreams say, whatever they speak: JSON, errors, when to come back.

The rule: pure; anything may come, and what cannot be understood is a ModelError or is left out.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from spear.errors import ModelError, ModelGarbled, ModelRefused, ModelUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

RETRY_AFTER_MAX_MS = 3600 * 1000
_ANSWERS = ("choices", "data")  # beside these an error is a part of the answer
_BOM = b"\xef\xbb\xbf"
_DECODER = msgspec.json.Decoder()


def decode(data: bytes) -> Any:
    """A mark of the byte order before the document is dropped. Of equal keys the last one counts.
    Raises ModelGarbled, also for a number that no JSON value here can be, such as 1e400."""
    try:
        return _DECODER.decode(data.removeprefix(_BOM) if data[:1] == b"\xef" else data)
    except (ValueError, RecursionError) as error:  # whose words repeat nothing of the answer
        raise ModelGarbled(f"the answer is not JSON that can be read: {error}") from None


def sound(answer: Any) -> Any:
    """The answer, unless it is an error that came with the status of success. Raises ModelError."""
    if isinstance(answer, dict) and answer.get("error") and not any(map(answer.get, _ANSWERS)):
        raise broken(answer)
    return answer


def object_of(document: Any) -> dict[str, Any]:
    """Raises ModelGarbled."""
    if not isinstance(document, dict):
        raise ModelGarbled("the answer is JSON, but no object")
    return document


def at(document: Any, key: str) -> dict[str, Any]:
    """The object under the key; empty where there is none."""
    value = document.get(key) if isinstance(document, dict) else None
    return value if isinstance(value, dict) else {}


def objects_at(document: Any, key: str) -> list[dict[str, Any]]:
    """The objects in the array under the key; what is none is left out."""
    value = document.get(key) if isinstance(document, dict) else None
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def text_at(document: dict[str, Any], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""


def count_at(document: dict[str, Any], key: str) -> int:
    """A count of tokens; 0 for what is none."""
    value = document.get(key)
    sane = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53
    return value if sane and isinstance(value, int) else 0


def failure(status: int, said: Mapping[str, str], headers: Mapping[str, str], now_ns: int) -> (
    ModelError
):  # fmt: skip
    """Of an answer that is an error; `said` as `error_of` gives it."""
    parts = [f"upstream status: {status}"]
    parts += [said[key] for key in ("type", "code", "message") if key in said]
    if status != 429 and status < 500:
        return ModelRefused(": ".join(parts), http_status=status)
    after_ms = retry_after_ms(headers, now_ns)
    return ModelUnavailable(": ".join(parts), http_status=status, retry_after_ms=after_ms)


def broken(document: Any) -> ModelError:
    """Of an error that came after a status of success, by its error document."""
    said = error_of(document)
    type = said.get("type", "")
    kind = ModelRefused if type == "invalid_request_error" else ModelUnavailable
    message = said.get("message", "the upstream ended the answer by an error")
    return kind(message, code=said.get("code") or type or "upstream_error")


def error_of(document: Any) -> dict[str, str]:
    """`type`, `code` and `message` of an error document, as far as it has them, in any of the
    forms in use: {"error": {...}}, {"error": text}, {"message": text}, {"detail": text}."""
    if not isinstance(document, dict):
        return {}
    error = document.get("error", document)
    if isinstance(error, str):
        return {"message": error}
    if not isinstance(error, dict):
        return {}
    found = {key: error.get(key) for key in ("type", "code", "message")}
    found["message"] = found["message"] or error.get("detail")
    return {key: str(v) for key, v in found.items() if isinstance(v, str | int) and v}


def retry_after_ms(headers: Mapping[str, str], now_ns: int) -> int:
    """Of seconds or a date; 0 where there is none or it cannot be read; at most an hour."""
    text = headers.get("retry-after", "")
    try:
        if text[:1].isdigit():
            wait_ms = float(text) * 1000
        else:
            wait_ms = parsedate_to_datetime(text).timestamp() * 1000 - now_ns / 1e6
        return int(min(max(wait_ms, 0), RETRY_AFTER_MAX_MS))
    except (ValueError, TypeError, OverflowError):
        return 0

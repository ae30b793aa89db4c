"""Text that cannot steer a terminal: control characters made visible.

The rule: newline and tab stay; what moves the cursor, changes colours or reorders the text around
it does not. In JSON the escapes are JSON's own, so nothing is lost.
"""

from __future__ import annotations

import re

# Controls above ASCII (U+007F to U+009F), separators of lines, and what reorders text, as UTF-8.
_STEERING = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]|\xe2\x81[\xa6-\xa9]")


def escape(text: str) -> str:
    """The text with its control characters, but newline and tab, made visible."""
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or not _controls(c) else _visible(c) for c in text)


def escape_json(data: bytes) -> bytes:
    """JSON in UTF-8, whose encoder has escaped ASCII's control characters already, with the rest
    of them escaped too."""
    if data.isascii() and b"\x7f" not in data:
        return data
    return _STEERING.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), data)


def _controls(character: str) -> bool:
    code = ord(character)
    return code < 0x20 or 0x7F <= code < 0xA0 or character in "\u2028\u2029" or _turns(code)


def _turns(code: int) -> bool:
    """Characters that reorder the text around them."""
    return 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069


def _visible(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

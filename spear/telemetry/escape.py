"""Text that cannot steer a terminal: control characters made visible.

The rule: newline and tab stay; what moves the cursor, changes colours or reorders the text around
it does not. On the command's start path, so it imports nothing.
"""

from __future__ import annotations


def escape(text: str) -> str:
    """The text with its control characters, but newline and tab, made visible."""
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or not _controls(c) else _visible(c) for c in text)


def _controls(character: str) -> bool:
    code = ord(character)
    return code < 0x20 or 0x7F <= code < 0xA0 or character in "\u2028\u2029" or _turns(code)


def _turns(code: int) -> bool:
    """Characters that reorder the text around them."""
    return 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069


def _visible(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

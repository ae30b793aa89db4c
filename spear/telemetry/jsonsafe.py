"""JSON that cannot steer a terminal either.

The rule: what an encoder leaves as it is and a terminal obeys gets JSON's own escapes, so nothing
is lost.
"""

from __future__ import annotations

import re

# Controls above ASCII (U+007F to U+009F), separators of lines, and what reorders text, as UTF-8.
_STEERING = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]|\xe2\x81[\xa6-\xa9]")


def escape_json(data: bytes) -> bytes:
    """JSON in UTF-8, whose encoder has escaped ASCII's control characters already, with the rest
    of them escaped too."""
    if data.isascii() and b"\x7f" not in data:
        return data
    return _STEERING.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), data)

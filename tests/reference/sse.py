"""Server-sent events and JSON lines in plain Python, of a whole stream at once.

Rule: short enough to be seen right, written from the HTML standard's grammar; the oracle of the
property tests and the fuzzer.
"""

from __future__ import annotations

import re

BOM = b"\xef\xbb\xbf"


def events(stream: bytes) -> list[tuple[bytes, bytes]]:
    """(type, data) of every event that a blank line ends."""
    found = []
    type, data = b"", []
    lines = re.split(rb"\r\n|\n|\r", stream)
    lines[0] = lines[0].removeprefix(BOM)
    for line in lines[:-1]:  # the last one has no end
        if line == b"":
            if data:
                found.append((type, b"\n".join(data)))
            type, data = b"", []
            continue
        name, colon, value = line.partition(b":")
        value = value[1:] if colon and value[:1] == b" " else value
        if name == b"data":
            data.append(value)
        if name == b"event":
            type = value
    return found


def lines(stream: bytes) -> tuple[list[bytes], bytes]:
    """The lines that LF ends, and what follows them."""
    *whole, rest = stream.removeprefix(BOM).split(b"\n")
    return whole, rest

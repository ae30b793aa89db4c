"""Values as people write them, and back: durations, sizes, counts, flags, addresses.

The rule: what is read is what is shown; anything else is refused with what is accepted.
"""

from __future__ import annotations

from spear.errors import InvalidArgument

_NS = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
_BYTES = {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


def parse_duration_ns(value: object) -> int:
    """Nanoseconds of `250ms`, `5s`, `2m`, `1h`, `7d` or a bare number of seconds."""
    return _parse_quantity(value, _NS, 10**9, "a duration such as 250ms, 5s, 2m or 1h")


def parse_size(value: object) -> int:
    """Bytes of `64KiB`, `16MiB`, `1GiB` or a bare number of bytes."""
    return _parse_quantity(value, _BYTES, 1, "a size such as 64KiB, 16MiB or 1GiB")


def parse_count(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise InvalidArgument(f"expected a whole number, found {value!r}")


def parse_text(value: object) -> str:
    """Of what is shown in records and sent to clients."""
    if (text := parse_path(value)) and is_utf8(text):
        return text
    raise InvalidArgument(f"expected text in UTF-8, found {value!r}")


def parse_path(value: object) -> str:
    """A path has any bytes, so what is not UTF-8 in it stands for them."""
    if isinstance(value, str) and value and "\0" not in value:
        return value
    raise InvalidArgument(f"expected a text that is not empty, found {value!r}")


def is_utf8(text: str) -> bool:
    """Whether it can be encoded: words of a command line need not be text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_flag(value: object) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "1", "false", "0"):
        return value.lower() in ("true", "1")
    if isinstance(value, bool):
        return value
    raise InvalidArgument(f"expected true or false, found {value!r}")


def parse_address(value: object) -> str:
    """The text of HOST:PORT; port 0 is any free one, an IPv6 address stands in brackets."""
    split_address(parse_text(value))
    return str(value)


def split_address(text: str) -> tuple[str, int]:
    """Host, without brackets, and port."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if colon and host and bracketed == (":" in host) and _digits(port) and int(port) < 1 << 16:
        return host.strip("[]"), int(port)
    raise InvalidArgument(f"expected HOST:PORT such as 127.0.0.1:50052, found {text!r}")


def _parse_quantity(value: object, units: dict[str, int], bare: int, wanted: str) -> int:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        text = repr(value)
    elif isinstance(value, str):
        text = value.strip()
    else:
        raise InvalidArgument(f"expected {wanted}, found {value!r}")
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = units.get(text[len(number) :].lower()) if len(number) < len(text) else bare
    whole, _, part = number.strip().removeprefix("-").partition(".")
    if unit is None or not _digits(whole) or not (_digits(part) or part == ""):
        raise InvalidArgument(f"expected {wanted}, found {value!r}")
    amount = int(whole + part) * unit // int("1" + "0" * len(part))
    return -amount if number.startswith("-") else amount


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 30


def format_duration(ns: int) -> str:
    """The shortest text that `parse_duration_ns` reads back."""
    for unit in ("d", "h", "m", "s"):
        if ns and ns % _NS[unit] == 0:
            return f"{ns // _NS[unit]}{unit}"
    if ns % _NS["ms"] == 0:
        return f"{ns // _NS['ms']}ms"
    return f"{ns // _NS['s']}.{ns % _NS['s']:09}s"


def format_size(count: int) -> str:
    """The shortest text that `parse_size` reads back."""
    for name, unit in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count and count % unit == 0:
            return f"{count // unit}{name}"
    return str(count)


def show_size(count: int) -> str:
    """The size as a person reads it, to a tenth: `125 MiB`, `3.3 KiB`, `126 bytes`."""
    for name, unit in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= unit:
            return f"{count / unit:.1f}".removesuffix(".0") + f" {name}"
    return plural(count, "byte")


def plural(count: int, noun: str) -> str:
    """`1 byte`, `2 bytes`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"

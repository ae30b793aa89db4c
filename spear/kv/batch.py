"""What is written together: puts and deletes, and what must hold before (`expect`).

The rule: a batch is a plain value with limits; of several changes to one key the last counts, and
nothing is checked against the store until it is written.
"""

from __future__ import annotations

from spear.errors import Conflict, InvalidArgument

KEY_BYTES_MAX = 4096
VALUE_BYTES_MAX = 16 << 20
BATCH_BYTES_MAX = 64 << 20
BATCH_KEYS_MAX = 100_000


class Batch:
    """`changes` maps a key to its new value, None: deleted; `expected` to the value it must have
    before, None: absent. Keys begin with a byte other than 0, which is the store's own."""

    __slots__ = ("bytes", "changes", "expected")

    def __init__(self) -> None:
        self.changes: dict[bytes, bytes | None] = {}
        self.expected: dict[bytes, bytes | None] = {}
        self.bytes = 0  # of all puts, the overwritten included, and of deletes of other keys

    def put(self, key: bytes, value: bytes) -> None:
        """Raises InvalidArgument beyond a limit, TypeError where it is not bytes."""
        if type(value) is not bytes or len(value) > VALUE_BYTES_MAX:
            raise _refused_value(key, value)
        if type(key) is not bytes or not 0 < len(key) <= KEY_BYTES_MAX or not key[0]:
            check_key(key)
        taken = self.bytes + len(key) + len(value)
        if taken > BATCH_BYTES_MAX or len(self.changes) >= BATCH_KEYS_MAX:
            raise _too_much()
        self.bytes = taken
        self.changes[key] = value

    def delete(self, key: bytes) -> None:
        """No error where there is none. What was put can always be taken back."""
        if key in self.changes:
            self.changes[key] = None
            return
        check_key(key)
        taken = self.bytes + len(key)
        if taken > BATCH_BYTES_MAX or len(self.changes) >= BATCH_KEYS_MAX:
            raise _too_much()
        self.bytes = taken
        self.changes[key] = None

    def expect(self, key: bytes, value: bytes | None) -> None:
        """The batch is written only if the key has this value (None: is absent) just before."""
        check_key(key)
        if value is not None and type(value) is not bytes:
            raise TypeError(f"a value is bytes or None, not {type(value).__name__}")
        if self.expected.setdefault(key, value) != value:
            raise InvalidArgument(f"{shown(key)} is expected to have two different values")
        if len(self.expected) > BATCH_KEYS_MAX:
            raise InvalidArgument(f"a batch expects at most {BATCH_KEYS_MAX} keys")


def _too_much() -> InvalidArgument:
    return InvalidArgument(
        f"a batch holds at most {BATCH_BYTES_MAX} bytes and {BATCH_KEYS_MAX} keys"
    )


def check_key(key: bytes) -> None:
    """Raises InvalidArgument where it is empty, too long, or one of the store's own."""
    if type(key) is not bytes:
        raise TypeError(f"a key is bytes, not {type(key).__name__}")
    if not 0 < len(key) <= KEY_BYTES_MAX or not key[0]:
        raise InvalidArgument(
            f"{shown(key)} is no key: 1 to {KEY_BYTES_MAX} bytes, the first of them not 0"
        )


def _refused_value(key: bytes, value: bytes) -> Exception:
    if type(value) is not bytes:
        return TypeError(f"a value is bytes, not {type(value).__name__}")
    return InvalidArgument(
        f"the value of {shown(key)} has {len(value)} bytes, the limit is {VALUE_BYTES_MAX}"
    )


def conflict(key: bytes, expected: bytes | None, found: bytes | None) -> Conflict:
    """The error of a precondition that does not hold. Values may be secret: it does not show
    them."""
    if found is None:
        return Conflict(f"{shown(key)} was expected to be there, and is absent")
    wanted = "absent" if expected is None else "unchanged"
    return Conflict(f"{shown(key)} was expected to be {wanted}, and has another value")


def shown(key: bytes) -> str:
    """The key as a sentence shows it; of a long one the beginning."""
    return f"key {key[:80]!r}" + ("..." if len(key) > 80 else "")

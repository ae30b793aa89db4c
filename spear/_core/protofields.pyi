from collections.abc import Sequence
from typing import Any, Final, NamedTuple

KINDS: Final[tuple[str, ...]]

class Field(NamedTuple):
    name: str
    number: int
    kind: str
    presence: bool
    default: object
    required: bool
    oneof: str
    inner: Fields | None

class Fields:
    def __init__(self, record: type[Any], fields: Sequence[Field]) -> None: ...
    def encode(self, record: Any) -> bytes | None: ...
    def decode(self, data: bytes) -> Any | None: ...

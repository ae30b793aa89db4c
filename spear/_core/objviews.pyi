from types import TracebackType
from typing import Final, NamedTuple, final

LIST_LIMIT_MAX: Final[int]

class ObjectStat(NamedTuple):
    key: bytes
    size: int
    version: int
    refs: int
    pinned: bool
    created_ms: int
    updated_ms: int
    metadata: dict[str, str]

class TableOwner: ...

@final
class ObjectView:
    @property
    def key(self) -> bytes: ...
    @property
    def version(self) -> int: ...
    @property
    def metadata(self) -> dict[str, str]: ...
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Snapshot:
    def get(self, key: bytes) -> ObjectView: ...
    def list(
        self, prefix: bytes = b"", limit: int = 1000, start_after: bytes | None = None
    ) -> list[ObjectStat]: ...
    def close(self) -> None: ...
    def __enter__(self) -> Snapshot: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

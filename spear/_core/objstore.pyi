import enum
from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple, final

from typing_extensions import Buffer  # type checkers know it without the package

from spear._core.objviews import LIST_LIMIT_MAX as LIST_LIMIT_MAX
from spear._core.objviews import ObjectStat as ObjectStat
from spear._core.objviews import ObjectView as ObjectView
from spear._core.objviews import Snapshot as Snapshot
from spear._core.objviews import TableOwner

BYTES_MAX_LIMIT: Final[int]
EPOCH_MAX: Final[int]
OBJECT_BYTES_OVERHEAD: Final[int]

class Deletion(enum.Enum):
    DELETE = "delete"

DELETE: Final = Deletion.DELETE

class StoreStats(NamedTuple):
    objects: int
    snapshots: int
    bytes_max: int
    bytes_used: int
    bytes_live: int
    bytes_held: int
    bytes_writing: int
    bytes_recycled: int
    bytes_mapped: int
    recycles: int
    puts: int
    gets: int
    misses: int
    deletes: int
    conflicts: int
    evictions: int
    refusals: int

@final
class ObjectStore(TableOwner):
    def __init__(
        self, bytes_max: int, *, epoch: int = 1, clock_ms: Callable[[], int] | None = None
    ) -> None: ...
    @property
    def clock_ms(self) -> Callable[[], int] | None: ...
    def __len__(self) -> int: ...
    def put(
        self,
        key: bytes,
        value: Buffer,
        *,
        if_version: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> int: ...
    def get(self, key: bytes) -> ObjectView: ...
    def stat(self, key: bytes) -> ObjectStat: ...
    def list(
        self, prefix: bytes = b"", limit: int = 1000, start_after: bytes | None = None
    ) -> list[ObjectStat]: ...
    def delete(self, key: bytes, *, if_version: int | None = None, force: bool = False) -> None: ...
    def add_ref(self, key: bytes, count: int = 1, *, if_version: int | None = None) -> int: ...
    def remove_ref(self, key: bytes, count: int = 1, *, if_version: int | None = None) -> int: ...
    def pin(self, key: bytes, *, if_version: int | None = None) -> None: ...
    def unpin(self, key: bytes, *, if_version: int | None = None) -> None: ...
    def snapshot(self, *, age_ms_max: int = 60_000, yields: bool = False) -> Snapshot: ...
    def transact(
        self,
        reads: Mapping[bytes, int] | None = None,
        writes: Mapping[bytes, Buffer | Literal[Deletion.DELETE]] | None = None,
    ) -> dict[bytes, int]: ...
    def set_durable_room(self, room: int) -> None: ...
    def stats(self) -> StoreStats: ...

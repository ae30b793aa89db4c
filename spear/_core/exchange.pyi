from typing import Any

class Exchange:
    outgoing: list[bytes]
    flush_due: bool
    open: bool
    own_requests: dict[int, Any]
    other_requests: dict[int, Any]
    last_asked: int
    last_answered: int
    silent: int
    @property
    def parity(self) -> int: ...
    @property
    def payload_bytes_max(self) -> int: ...
    def begin_ids(self, parity: int, payload_bytes_max: int) -> None: ...
    def call(self, path: bytes, deadline_ms: int, payload: bytes) -> int: ...
    def respond(self, request_id: int, payload: bytes, status: int = 0) -> None: ...

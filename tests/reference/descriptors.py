"""A guest's descriptor table with its epoll instances, in plain Python: numbers and answers."""

from __future__ import annotations

from dataclasses import dataclass, field

FIRST = 1000
IN, OUT, ERR, HUP = 1, 4, 8, 16
ADD, MOD, DEL = 1, 2, 3
EBADF, EINVAL = -9, -22


@dataclass
class Descriptor:
    """`ready` is what an open one is ready for."""

    kind: str
    closed: bool = False
    ready: int = 0
    watches: dict[int, int] = field(default_factory=dict)


class Table:
    """Without limits: those have tests of their own."""

    def __init__(self) -> None:
        self.known: list[Descriptor] = []

    def find(self, number: int) -> Descriptor | None:
        index = number - FIRST
        return self.known[index] if 0 <= index < len(self.known) else None

    def open(self, kind: str) -> int:
        self.known.append(Descriptor(kind))
        return FIRST + len(self.known) - 1

    def close(self, number: int, *kinds: str) -> int:
        found = self.find(number)
        if found is None or found.kind not in kinds:
            return EBADF
        found.closed = True
        found.watches.clear()
        return 0

    def mask(self, number: int) -> int:
        found = self.find(number)
        assert found is not None
        return HUP if found.closed else found.ready

    def control(self, epfd: int, op: int, fd: int, events: int) -> int:
        target, epoll = self.find(fd), self.find(epfd)
        if epfd == fd or (target is not None and target.kind == "Epoll"):
            return EINVAL
        if target is None or epoll is None or epoll.kind != "Epoll" or epoll.closed:
            return EBADF
        if op not in (ADD, MOD, DEL):
            return EINVAL
        if op == DEL:
            epoll.watches.pop(fd, None)
        elif op == ADD or fd in epoll.watches:
            epoll.watches[fd] = events & (IN | OUT | ERR | HUP)
        return 0

    def wait(self, epfd: int, count_max: int) -> int | list[tuple[int, int]]:
        epoll = self.find(epfd)
        if epoll is None or epoll.kind != "Epoll" or epoll.closed:
            return EBADF
        ready = [(fd, self.mask(fd) & events) for fd, events in sorted(epoll.watches.items())]
        return [record for record in ready if record[1]][:count_max]

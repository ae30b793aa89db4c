"""The daemon in a child process, for tests: `python door_daemon.py [--real] OPTIONS OF spearlet`.

It serves a DoorNode unless --real is said. Its clocks are ahead by what $TEST_AHEAD says, a file
with a number of nanoseconds: as often as that changes, so much time has passed; a node looks at its
clock more often then. Each line of readiness tells in brackets whether gRPC was imported then, and
what the ports file held.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from door_node import DoorNode

from spear import config as configuration
from spear.cli import exits, spearlet, terminal
from spear.cli.arguments import parse
from spear.clock import Clock
from spear.config import Config
from spear.errors import SpearError
from spear.spearlet import daemon, readiness

LOOK_S = 0.1


class Served:
    def __init__(self) -> None:
        self.services = DoorNode()
        self.turn = None

    async def close(self, grace_s: float = 0.0) -> None:
        await self.services.close()


async def open_served(config: Config, start: daemon.Start) -> Served:
    return Served()


class AheadClock(Clock):
    def __init__(self, path: Path) -> None:
        self._path = path

    def _ahead_ns(self) -> int:
        return int(self._path.read_text())

    def now_ns(self) -> int:
        return super().now_ns() + self._ahead_ns()

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() + self._ahead_ns()


def clock() -> Clock:
    path = os.environ.get("TEST_AHEAD")
    if not path:
        return Clock()
    from spear.spearlet.node import housekeeping
    from spear.spearlet.schedules import scheduler
    from spear.spearlet.webhooks import sender

    housekeeping._EVERY_S = LOOK_S
    scheduler.CHECK_NS = sender._CHECK_NS = int(LOOK_S * 1e9)
    return AheadClock(Path(path))


def main() -> int:
    words = sys.argv[1:]
    real = words[:1] == ["--real"]
    parsed = parse(words[real:], spearlet.OPTIONS)
    ports_file = parsed.last("ports_file") or ""
    plain = readiness.say

    def say(line: str) -> None:
        held = Path(ports_file).read_text().strip() if Path(ports_file).is_file() else ""
        plain(f"{line} [{'grpc' in sys.modules} {held}]")

    readiness.say = say
    opener = None if real else open_served
    try:
        return daemon.run(
            spearlet.config_of(parsed), clock(), configuration.environment(), ports_file=ports_file,
            opener=opener,
        )  # fmt: skip
    except SpearError as error:
        terminal.say_error(str(error))
        return exits.of_error(error)


if __name__ == "__main__":
    sys.exit(main())

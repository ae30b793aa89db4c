"""Seeded random messages: what is read at once is what protobuf reads, or is left to it.

    python tests/fuzz/fuzz_protofields.py --runs 10000 --seed 1

Rule: a run depends on its seed alone. A failing run prints the seed that repeats it.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "tests")) if path not in sys.path]

from wire_messages import disagreement, strange  # noqa: E402

from spear.protocol.convert.execution import EXECUTION, INVOCATION, INVOKE, USAGE  # noqa: E402
from spear.protocol.convert.frozen_call import ANSWER, ASKED  # noqa: E402
from spear.protocol.convert.task import TASK  # noqa: E402
from tests.fuzz import seeded  # noqa: E402

MIRRORS = (EXECUTION, INVOCATION, INVOKE, USAGE, TASK, ASKED, ANSWER)


def run(seed: int) -> bool:
    """Whether the message was read at once."""
    rng = random.Random(seed)
    mirror = rng.choice(MIRRORS)
    data = strange(rng, mirror.kind.DESCRIPTOR)
    if rng.random() < 0.1:
        data = data[: rng.randrange(len(data) + 1)]
    assert not (wrong := disagreement(mirror, data)), wrong
    found = mirror.fields.decode(data)
    if found is not None:
        again = mirror.encode(found)
        assert mirror.slow_record(mirror.kind.FromString(again)) == found, again.hex()
    return found is not None


def fuzz(runs: int, seed: int) -> int:
    """How many of the messages were read at once; raises with the seed of the one that fails."""
    return seeded.total(run, runs, seed)


def main() -> None:
    arguments = seeded.asked(__doc__)
    total = fuzz(arguments.runs, arguments.seed)
    print(f"{arguments.runs} messages from seed {arguments.seed}: {total} read at once, all alike")


if __name__ == "__main__":
    main()

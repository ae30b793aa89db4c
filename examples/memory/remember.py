"""Many agents at once write to one memory, and nothing that one of them wrote is lost.

Each agent counts its visit and adds a note to the notes that the earlier ones left. Between reading
and writing it thinks; when another was faster, its write is refused and it begins again.

    python examples/memory/remember.py [VISITORS]

Rule: uses the public names of `spear` only. Exit code 0 if every visit and every note was kept.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import spear

AGENT = Path(__file__).resolve().parent / "memory.wasm"
VISITS, NOTES = b"/memory/visits", b"/memory/notes"  # full keys: the task's name, then the agent's


async def main(visitors: int) -> int:
    """0 if nothing was lost."""
    async with spear.Spearlet() as node:
        agent = await node.load(AGENT)
        names = [f"visitor {number}" for number in range(1, visitors + 1)]
        ended = await asyncio.gather(
            *(node.run(agent, name="memory", args=[n], input=f"{n} was here") for n in names)
        )
        print(f"{visitors} agents ran at once, on one memory. The last of them said:")
        print("  " + max((e.output.decode().strip() for e in ended), key=visit))
        again = sum(
            int(execution.output.split(b"begun again ")[1].split()[0]) for execution in ended
        )
        counted = int(bytes(node.objects.get(VISITS)))
        notes = bytes(node.objects.get(NOTES)).decode().splitlines()
        lost = visitors - counted + len(set(names) - {note.split(":")[0] for note in notes})
        print(f"{counted} visits counted, {len(notes)} notes kept, {lost} lost;")
        print(f"{again} writes were refused, since another agent was faster, and made again.")

        later = await node.run(agent, name="memory", args=["Ada"], input="I came later")
        print(f"An agent that runs later remembers: {later.output.decode().strip()}")
        kept = counted == len(notes) == visitors and lost == 0
        return 0 if kept and visit(later.output.decode()) == visitors + 1 else 1


def visit(answer: str) -> int:
    return int(answer.split(",")[0].removeprefix("visit "))


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 24)))

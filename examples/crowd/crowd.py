"""Ten thousand agents wait at once in one process; one more works among them as if it were alone.

Each agent logs a line and sleeps. A sleeping agent is parked: it holds no thread, only its memory
and a stack. While all are parked one more agent reads a text and answers. Then all are cancelled.

    python examples/crowd/crowd.py [AGENTS]

Rule: uses the public names of `spear` only. Exit code 0 if all were parked and all ended.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import spear

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.spearlet.handle import Handle

EXAMPLES = Path(__file__).resolve().parent.parent
TEXT = EXAMPLES.parent / "README.md"
PAGE_BYTES = 1 << 16
MAPS_LIMIT = "/proc/sys/vm/max_map_count"
MAPS_PER_AGENT = 6  # at most; four are usual
MAPS_SPARE = 1000  # for the process itself


def room(wanted: int) -> int:
    """How many agents fit under the kernel's limit on the mappings of a process; says so where
    they are fewer than wanted."""
    maps = int(Path(MAPS_LIMIT).read_text())
    fit = max(1, min(wanted, (maps - MAPS_SPARE) // MAPS_PER_AGENT))
    if fit < wanted:
        needed = wanted * MAPS_PER_AGENT + MAPS_SPARE
        print(f"vm.max_map_count is {maps}: room for {fit:,} of {wanted:,} agents;")
        print(f"for all of them: sysctl -w vm.max_map_count={needed}")
    return fit


def memory_kib() -> dict[str, int]:
    """What the kernel says of this process: VmRSS (resident), VmPTE (page tables), ..."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = (line.split() for line in lines if line.endswith(" kB"))
    return {name.removesuffix(":"): int(size) for name, size, _ in fields}


async def logged(agent: Handle) -> None:
    """Returns once the agent has logged that it goes to sleep."""
    async for progress in agent.follow():
        if progress.logs or progress.ended:
            return


async def parked(node: spear.Spearlet) -> int:
    """How many agents are parked, once nobody runs or is about to."""
    while True:
        runtime = (await node.stats())["runtime"]
        if runtime["queued"] == runtime["busy_workers"] == 0:
            return runtime["live"]
        await asyncio.sleep(0)  # the last that logged is on its way into its sleep


async def main(wanted: int) -> int:
    """0 if all were parked, one answered meanwhile, and all ended when they were told to."""
    count = room(wanted)
    clock = asyncio.get_running_loop().time
    async with spear.Spearlet({"executor.max_parked": count + 1}) as node:
        sleeper = await node.load(EXAMPLES / "sleeper/sleeper.wasm")
        worker = await node.load(EXAMPLES / "answer/answer.wasm")
        await node.run(sleeper, args=["0"])  # what the first agent makes, all share
        before, since = memory_kib(), clock()
        agents = [await node.start(sleeper, args=["-1"]) for _ in range(count)]
        for agent in agents:
            await logged(agent)
        waiting, seconds = await parked(node), clock() - since
        after = memory_kib()
        resident, tables = ((after[name] - before[name]) / count for name in ("VmRSS", "VmPTE"))
        program = sleeper.program
        pages = program.memory_min_bytes // PAGE_BYTES
        print(
            f"{waiting:,} agents parked in one process after {seconds:.2f} s: "
            f"{resident:.1f} KiB resident each, {tables:.1f} KiB of page tables beside it"
        )
        print(f"each is sleeper.wasm, {program.shape}: begins with a memory of {pages} pages")

        since = clock()
        answer = await node.run(worker, input=TEXT.read_text())
        lines = answer.output.decode().splitlines() or [answer.status]
        print(f"one more works among them, {(clock() - since) * 1000:.0f} ms: {lines[-1]}")

        since = clock()
        ended = await asyncio.gather(*(agent.cancel("the crowd goes home") for agent in agents))
        seconds = clock() - since
        gone = sum(execution.status == "terminated" for execution in ended)
        left = (await node.stats())["executions"]["live"]
        print(f"{gone:,} of {count:,} cancelled and ended in {seconds:.2f} s, {left} are left")
    return 0 if waiting == gone == count and left == 0 and answer.completed else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)))

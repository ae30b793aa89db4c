"""SPEAR at work, from a greeting to a crowd of ten thousand agents. `make demo` runs it.

Rule: every step is a command that anyone could type; what it must give is checked, and the first
step that gives something else ends the demo with 1.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from spear._core import filetable

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
STEP_SECONDS_MAX = 60
CROWD_MAPS = 61_000  # what 10,000 agents take of vm.max_map_count at most; 65,530 is usual


@dataclass(frozen=True)
class Step:
    """One command: what it shows, what it exits with, what its output and errors must say. Without
    a title it goes on with the step before; SCRATCH in it is a folder that goes with the demo.
    `refusal` says why this machine cannot show it, if so."""

    title: str
    command: Sequence[str]
    code: int = 0
    output: Sequence[str] = ()
    errors: Sequence[str] = ()
    refusal: Callable[[], str] = str


def no_room_for_a_crowd() -> str:
    maps = int(Path("/proc/sys/vm/max_map_count").read_text())
    return f"vm.max_map_count is {maps}" if maps < CROWD_MAPS else ""


MODELS = ("--config", "SCRATCH/models.toml")
SHOP = ("spear", "run", "examples/tool_calling/tool_calling.wasm")
DICE = ("spear", "run", "examples/dice/dice.wasm")
NODE = ("--node", "unix:SCRATCH/node/spearlet.sock")
STEPS = (
    Step(
        "A guest says hello: its output is ours, its log lines are marked.",
        ["spear", "run", "examples/hello/hello.wasm"],
        output=["Hello, SPEAR!"],
        errors=["[info] hello from a guest"],
    ),
    Step(
        "An agent reads its input, here this project's README, and answers.",
        ["spear", "run", "examples/answer/answer.wasm", "--input", "README.md", "--", "Ada"],
        output=["Dear Ada,", "The most frequent word is"],
    ),
    Step(
        "An agent gets a directory, for reading, and tries to do more: it sees nothing else.",
        ["spear", "run", "examples/files/files.wasm", "--dir", "examples:/data"],
        output=[
            "/data has ",
            "write /data/written-by-an-agent: Read-only file system",
            "read /data/../README.md: Operation not permitted",
            "read /etc/passwd: No such file or directory",
        ],
        refusal=filetable.refusal,
    ),
    Step(
        "A guest reads outside its memory: the sandbox stops it and says where. Exit code 134.",
        ["spear", "run", "examples/trap/trap.wasm"],
        code=134,
        errors=["out of bounds memory access", "at read_price", "at sum_prices", "at main"],
    ),
    Step(
        "A guest loops for ever: it is ended at its deadline. Exit code 124.",
        ["spear", "run", "examples/loop/loop.wasm", "--timeout", "300ms"],
        code=124,
        errors=["deadline of 0.3 s", "at run_away"],
    ),
    Step(
        "It loops beside five others on one node, through the Python library: they finish, then\n"
        "   its deadline ends it, and only it.",
        ["python", "examples/together/together.py"],
        output=["runaway   timeout"],
    ),
    Step(
        "Many agents at once write to one memory, the node's object store: no update is lost.",
        ["python", "examples/memory/remember.py"],
        output=["24 visits counted, 24 notes kept, 0 lost;", "remembers: visit 25,"],
    ),
    Step(
        "An agent throws dice, waits, asks for the time. Recorded with a seed, it is the same\n"
        "   when replayed, step for step.",
        [*DICE, "--deterministic", "--seed", "7", "--trace", "SCRATCH/dice.trace"],
        output=["dice: 6 1 2 1 5 3; sum 18; 18 ms by the clock"],
    ),
    Step(
        "",
        [*DICE, "--replay", "SCRATCH/dice.trace"],
        output=["dice: 6 1 2 1 5 3; sum 18; 18 ms by the clock"],
    ),
    Step(
        "Ten thousand agents wait in one process, parked: what each takes, and one that works.",
        ["python", "examples/crowd/crowd.py"],
        output=[
            "10,000 agents parked in one process after ",
            "each is sleeper.wasm, small:",
            "one more works among them, ",
            ", 0 are left",
        ],
        refusal=no_room_for_a_crowd,
    ),
    Step(
        "A node in the background keeps tasks, and runs them whenever it is asked.",
        ["spear", "up", "--detach", "--storage-path", "SCRATCH/node", "--grpc-addr", "127.0.0.1:0"],
        output=["socket", "spear node drain"],
    ),
    Step(
        "",
        ["spear", "task", "register", "examples/answer/answer.wasm", *NODE],
        output=["task answer is registered"],
    ),
    Step(
        "",
        ["spear", "invoke", "answer", *NODE, "--input", "README.md", "--", "Ada"],
        output=["Dear Ada,"],
    ),
    Step("", ["spear", "ls", *NODE], output=["answer", "completed"]),
    Step("", ["spear", "node", "drain", *NODE], output=["the node has drained"]),
    Step(
        "A node is killed in the middle of its work: what it had said is so when it is back.",
        ["python", "examples/survive/survive.py"],
        output=["the answer is there: completed, its output the same: True", "OUTCOME_UNKNOWN"],
    ),
    Step(
        "An agent asks a model, which calls the agent's own C function before it answers. The\n"
        "   model is a stub, without a network; with another backend the same agent asks that.",
        ["spear", "model", "add", "offline", "--kind", "stub", *MODELS],
        output=["offline is in "],
    ),
    Step(
        "",
        [*SHOP, *MODELS, "--", "What do 3 pieces of article 2 cost?"],
        output=["stub chat completion after tool"],
        errors=['tool price({"pieces":3,"article":2}) gives {"article":"notebook","usd":"10.50"}'],
    ),
)


class Screen:
    """Plain text; bold, faint and red where a terminal shows them."""

    def __init__(self) -> None:
        self._colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours and text else text

    def say(self, text: str = "") -> None:
        print(text, flush=True)

    def title(self, number: int, text: str) -> None:
        self.say()
        self.say(self.paint(f"{number}. {text}", "1"))
        self.say()

    def command(self, words: Sequence[str]) -> None:
        self.say("   $ " + self.paint(shlex.join(words), "36"))

    def show(self, text: str, colour: str) -> None:
        if text:
            self.say(self.paint(textwrap.indent(text.rstrip("\n"), "   "), colour))


def execute(command: Sequence[str]) -> tuple[subprocess.CompletedProcess[str], float]:
    """The finished command and the seconds it took."""
    program, *arguments = command
    since = time.monotonic()
    done = subprocess.run(
        [str(BIN / program), *arguments], cwd=ROOT, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=STEP_SECONDS_MAX,
    )  # fmt: skip
    return done, time.monotonic() - since


def differences(step: Step, done: subprocess.CompletedProcess[str]) -> list[str]:
    """What was expected and is not so."""
    found = [] if done.returncode == step.code else [
        f"exit code {step.code} was expected, found {done.returncode}"
    ]  # fmt: skip
    for stream, wanted, text in (
        ("stdout", step.output, done.stdout),
        ("stderr", step.errors, done.stderr),
    ):
        found += [f"{stream} does not say {part!r}" for part in wanted if part not in text]
    return found


def perform(screen: Screen, step: Step, scratch: str) -> bool:
    """Whether it gave what it must."""
    if why := step.refusal():
        screen.say(f"   left out, this machine cannot: {why}")
        return True
    command = [word.replace("SCRATCH", scratch) for word in step.command]
    screen.command(command)
    try:
        done, seconds = execute(command)
    except subprocess.TimeoutExpired:
        screen.say(screen.paint(f"   not done after {STEP_SECONDS_MAX} s", "31"))
        return False
    screen.show(done.stderr, "2")
    screen.show(done.stdout, "0")
    wrong = differences(step, done)
    screen.say(screen.paint(f"   [exit code {done.returncode}, {seconds * 1000:.0f} ms]", "2"))
    if wrong:
        screen.say(screen.paint("\n".join(f"   wrong: {text}" for text in wrong), "31"))
    return not wrong


def main() -> int:
    """0 if every step gave what it must."""
    screen, number = Screen(), 0
    screen.say(screen.paint("SPEAR runs AI agents as small sandboxed programs.", "1"))
    with tempfile.TemporaryDirectory(prefix="spear-demo-") as scratch:
        for step in STEPS:
            if step.title:
                number += 1
                screen.title(number, step.title)
            if not perform(screen, step, scratch):
                return 1
    screen.say()
    screen.say("All as it should be. What next: spear --help, spear doctor, README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())

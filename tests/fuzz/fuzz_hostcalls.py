"""Seeded guests that call every import with wild arguments: only clean outcomes may come.

    python tests/fuzz/fuzz_hostcalls.py --runs 10000 --seed 1

Rule: a guest depends on its seed alone (and finds the objects that others left), and a failing run
prints it. A crash of the process says no more than that: `--verbose` prints each seed before it
runs. Guests are granted two folders deep in a temporary one, and every way out that they are given
ends within that one too, so that a guard that does not hold costs nothing but a failed run.
"""

from __future__ import annotations

import functools
import os
import random
import struct
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "tests")) if path not in sys.path]

import wasm_asm as asm  # noqa: E402

from spear._core import trial  # noqa: E402
from spear._core.door import Call  # noqa: E402
from spear._core.engine import Engine, host_imports  # noqa: E402
from spear._core.executor import Executor  # noqa: E402
from spear._core.filetable import Directory  # noqa: E402
from spear._core.objstore import ObjectStore  # noqa: E402
from spear._core.run import Run  # noqa: E402
from spear.errors import ChannelClosed, QueueFull  # noqa: E402
from tests.fuzz import seeded, wild_handles  # noqa: E402

PAGE = 65536
# A relay waits for guests that relay, too.
IMPORTS = sorted(
    row for row in host_imports(trial=True).items() if row[0] != ("spear_trial", "relay")
)
POSTED = (
    trial.ECHO, trial.ADD, trial.PAUSE, trial.CONTROL, trial.MIXED, trial.SEND, *wild_handles.OPS,
)  # fmt: skip
SENDS = (("spear", "cchat_send"), ("spear_trial", "send"))  # a module imports one of them
EDGES = (
    0, 1, 2, 3, 4, 7, 8, 16, 48, 64, 255, 256, 999, 1000, 1001, 1024, 1025, 16383, 16384, 16385,
    PAGE - 48, PAGE - 32, PAGE - 8, PAGE - 4, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE - 1, 2 * PAGE,
    2**31 - 1, 2**31, 2**32 - 16, 2**32 - 8, 2**32 - 4, 2**32 - 1,
)  # fmt: skip
WIDE_EDGES = (0, 1, 10**6, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
NAMES = (b"a", b"b", b"shared/a", b"/fuzz/a", b"/other/a", b"/else/a", b"\xff", b"x" * 300)
NAMES_AT, NAME_ROOM = 45_000, 320  # of a guest with names; a slot each, the rest of it zeros
# Texts at known places, and arguments that point at them; `@` is the temporary folder's path.
PATHS = (
    b"file", b"d", b"d/e", b"d/../file", b"new", b"link", b"out", b"loop", b"..", b"../..", b".",
    b"../secret", b"out/secret", b"d/../../secret", b"@/secret", b"@", b"fifo", b"d/", b"file/",
    b"a\0b", b"\xff", b"x" * 300,
)  # fmt: skip
PATHS_AT = 40_000
SECRET = b"nobody may read this"
CAUSES = {"exit", "trap", "deadline", "cancelled", "output_limit"}


def value(rng: random.Random, letter: str) -> bytes:
    if letter == "I":
        picked = rng.choice(WIDE_EDGES) if rng.random() < 0.5 else rng.getrandbits(64)
        return asm.i64_const(picked)
    kind = rng.random()
    if kind < 0.18:  # a small count, a stream, an operation, a WASI descriptor
        return asm.i32_const(rng.randrange(-1, 9))
    if kind < 0.3:  # a descriptor of SPEAR's
        return asm.i32_const(rng.randrange(1000, 1011))
    if kind < 0.55:
        return asm.i32_const(rng.choice(EDGES) + rng.randrange(-1, 2))
    if kind < 0.9:  # somewhere inside
        return asm.i32_const(rng.randrange(2 * PAGE))
    return asm.i32_const(rng.getrandbits(32))


def object_arguments(rng: random.Random, params: str) -> bytes:
    """What an object call takes, right more often than not: names that are there, then anything."""
    code = b""
    for letter in params[2:]:
        if letter == "I":
            code += asm.i64_const(rng.choice((-1, -1, 0, 1, 1 << 40, (1 << 40) + 1)))
            continue
        number = rng.randrange(len(NAMES))
        pair = (NAMES_AT + number * NAME_ROOM, len(NAMES[number]))
        plain = (0, 1, 1, 64, 4096, rng.randrange(PAGE))
        code += asm.i32_const(rng.choice((*pair, *plain)))
    number = rng.randrange(len(NAMES))
    first = asm.i32_const(NAMES_AT + number * NAME_ROOM) + asm.i32_const(len(NAMES[number]))
    return first + code


def wild_memory(rng: random.Random) -> list[tuple[int, bytes]]:
    """Vectors and subscriptions that point anywhere, so that whoever follows them goes astray."""
    pieces = []
    for _ in range(rng.randrange(6)):
        at = rng.choice((0, 4, 8, 64, 1024, PAGE - 64, rng.randrange(PAGE)))
        words = [
            rng.choice(EDGES) if rng.random() < 0.6 else rng.randrange(PAGE) for _ in range(32)
        ]
        pieces.append((at, struct.pack("<32I", *(word & 0xFFFFFFFF for word in words))))
    for _ in range(rng.randrange(3)):
        subscription = struct.pack(
            "<QB7xI4xQQH6x", rng.getrandbits(64), rng.randrange(4), rng.randrange(5),
            rng.choice((0, 1, 10**6, 10**15, 2**64 - 1)), 0, rng.randrange(3),
        )  # fmt: skip
        pieces.append((48 * rng.randrange(20), subscription * rng.randrange(1, 4)))
    return pieces


def arguments(rng: random.Random, letters: str, texts: Sequence[tuple[int, int]]) -> bytes:
    """One value a letter; two that follow each other are now and then a text and its length, and
    the first is often a directory's number where those are."""
    code, at = b"", 0
    while at < len(letters):
        if letters == "ii" and rng.random() < 0.5:  # two descriptors, as for fd_renumber
            return b"".join(asm.i32_const(rng.randrange(6)) for _ in letters)
        if letters[at : at + 2] == "ii" and rng.random() < 0.4:
            code += b"".join(map(asm.i32_const, rng.choice(texts)))
            at += 2
            continue
        if at == 0 and len(letters) > 2 and rng.random() < 0.5:
            code += asm.i32_const(rng.randrange(3, 6))
        else:
            code += value(rng, letters[at])
        at += 1
    return code


def path_data(folder: str) -> list[tuple[int, bytes]]:
    at, pieces = PATHS_AT, []
    for path in PATHS:
        path = path.replace(b"@", folder.encode())
        pieces.append((at, path))
        at += len(path) + 1
    return pieces


def module(rng: random.Random, folder: str) -> bytes:
    """Up to twenty calls of up to eight imports, some in the start function, some in a loop."""
    left_out = rng.choice(SENDS)
    chosen = rng.sample([row for row in IMPORTS if row[0] != left_out], rng.randrange(1, 9))
    handles = [row for row in IMPORTS if row[0][1].startswith(("cchat_", "task_", "embed_"))]
    if rng.random() < 0.3:
        chosen = [row for row in handles if row[0] != left_out] + chosen[:1]
        chosen = list(dict(chosen).items())
    rows = []
    paths = path_data(folder)
    texts = [(at, len(path)) for at, path in paths]
    pages = None if rng.random() < 0.05 else rng.choice((1, 1, 2, 3))
    for (host, name), (signature, _) in chosen:
        inside, _, result = signature.partition(" -> ")
        params = inside.strip("()").replace("i32", "i").replace("i64", "I").replace(", ", "")
        rows.append((host, name, params, {"i32": "i", "i64": "I"}.get(result, "")))

    def calls(count: int) -> bytes:
        code = b""
        for _ in range(count):
            index = rng.randrange(len(rows))
            if rows[index][1].startswith("object_") and rng.random() < 0.7:
                code += object_arguments(rng, rows[index][2]) + asm.call(index)
            else:
                code += arguments(rng, rows[index][2], texts) + asm.call(index)
            code += asm.DROP if rows[index][3] else b""
            if pages and rng.random() < 0.2:  # what a call wrote is looked at by the next
                code += asm.i32_store(rng.randrange(2000), rng.getrandbits(32))
        return code

    body = calls(rng.randrange(1, 20))
    if rng.random() < 0.1:
        body = asm.LOOP + body + asm.BR_0 + asm.END
    elif rng.random() < 0.2:
        body += asm.UNREACHABLE
    room = (pages or 0) * PAGE
    names = [(NAMES_AT + at * NAME_ROOM, name) for at, name in enumerate(NAMES)]
    data = [*wild_memory(rng), *paths, *names]
    data = [(at, piece) for at, piece in data if at + len(piece) <= room]
    return asm.module(
        rows, body, pages=pages, data=data,
        memory_name="memory" if rng.random() < 0.95 else "other",
        start=calls(rng.randrange(1, 6)) if rng.random() < 0.15 else None,
    )  # fmt: skip


def answer(call: Call, handles: wild_handles.Handles) -> Any:
    """What Python says depends on the call's arguments alone, so that a seed can be repeated; of
    handles, also on how many were asked for."""
    rng = random.Random(repr(call.args))
    kind = rng.random()
    if kind < 0.1:
        raise ValueError("told to")
    if call.op in wild_handles.OPS:
        return handles.answer(call, random.Random(handles.asked))
    if call.op == trial.SEND and kind < 0.8:
        return wild_tools(call, rng)
    if kind < 0.5:
        return rng.choice((0, 1, -1, -28, 2**31 - 1, -(2**31), 2**31, None))
    return rng.choice((0, 0, 7, -2)), rng.randbytes(rng.choice((0, 1, 8, 1000, PAGE)))


async def wild_tools(call: Call, rng: random.Random) -> int:
    for _ in range(rng.randrange(4)):
        place = rng.choice(EDGES) - 1, rng.choice(EDGES) - 1
        await call.tool(rng.choice(EDGES) - 1, bytes(rng.randrange(99)), place, rng.choice(EDGES))
    return rng.randrange(-5, 5)


def furnish(folder: Path) -> list[Directory]:
    """The granted folders, with a way out in one; and what must stay as it is, beside them."""
    granted = folder / "a" / "b" / "c" / "granted"
    for name in ("d/e", "f"):
        (granted / name).mkdir(parents=True)
    (granted / "file").write_bytes(b"content")
    (granted / "link").symlink_to("file")
    (granted / "out").symlink_to("..")
    (granted / "loop").symlink_to("loop")
    os.mkfifo(granted / "fifo")
    for place in (folder, granted.parent):
        (place / "secret").write_bytes(SECRET)
    return [Directory(granted, "/", writable=True), Directory(folder / "a" / "b", "/readable")]


def outside(folder: Path) -> list[tuple[str, int, bytes]]:
    """All that is not granted for writing."""
    granted = folder / "a" / "b" / "c" / "granted"
    found = []
    for path in sorted(folder.rglob("*")):
        if granted not in [path, *path.parents]:
            content = path.read_bytes() if path.is_file() else b""
            found.append((str(path), path.stat().st_ino, content))
    return found


def links() -> dict[str, str]:
    """This process's descriptors, and what each is of."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the one by which they are listed
            continue
    return found


def opened(folder: Path) -> int:
    return sum(target.startswith(str(folder)) for target in links().values())


def others(folder: Path) -> dict[str, str]:
    return {name: to for name, to in links().items() if not to.startswith(str(folder))}


def started(
    rng: random.Random, engine: Engine, node: Executor, store: ObjectStore, folder: Path,
    dirs: Sequence[Directory],
) -> Run:  # fmt: skip
    return node.start(
        engine.load(module(rng, str(folder))),
        dirs=dirs[: rng.randrange(3)], descriptors_max=rng.choice((16, 1024)),
        objects=store if rng.random() < 0.9 else None, task="fuzz", object_grants=["other"],
        args=["x" * rng.randrange(40) for _ in range(rng.randrange(5))],
        env={f"N{n}": "v" * rng.randrange(9) for n in range(rng.randrange(4))},
        stdin=b"".join(
            struct.pack("<I", rng.choice(EDGES) & 0xFFFFFFFF) for _ in range(rng.randrange(300))
        ),
        timeout_ns=rng.choice((2, 5, 15)) * 1_000_000,
        output_bytes_max=rng.choice((0, 1000, 1 << 20)),
        log_bytes_max=rng.choice((0, 1000, 1 << 20)),
        log_stdout=rng.random() < 0.5, inline=rng.random() < 0.3,
    )  # fmt: skip


def meddle(rng: random.Random, run: Run) -> None:
    """What clients of its streams may do at any time, also too late."""
    for _ in range(rng.randrange(4)):
        try:
            stream = run.stream(rng.randrange(5), wait_s=rng.choice((0, 30)))
            header = struct.pack("<4sHHHHIQII", b"SPST", 1, 32, 2, 0, stream.id, 0, 0, 5)
            rng.choice((
                stream.connect, stream.fail, stream.close, stream.receive_nowait,
                run.close_streams, functools.partial(stream.send_nowait, header + b"hello"),
            ))()  # fmt: skip
        except (ChannelClosed, QueueFull):
            continue


def check(run: Run, seed: int) -> str:
    assert run.wait(60), f"the guest hangs: repeat with --runs 1 --seed {seed}"
    outcome = run.outcome
    assert outcome.cause in CAUSES, f"{outcome}: repeat with --runs 1 --seed {seed}"
    assert outcome.output_bytes == len(run.output), seed
    assert SECRET not in run.output, seed
    for line in run.read_logs():
        assert 0 <= line.level <= 4
        assert len(line.message) <= 16384
    return outcome.cause


def check_store(store: ObjectStore) -> None:
    """Nothing lies outside what the guests may reach, and nothing is held any more."""
    allowed = (b"shared/", b"/fuzz/", b"/other/")
    assert all(found.key.startswith(allowed) for found in store.list())
    stats = store.stats()
    assert stats.bytes_used == stats.bytes_live <= stats.bytes_max
    assert stats.snapshots == 0


def fuzz(runs: int, seed: int, *, verbose: bool = False) -> dict[str, int]:
    """Ends by cause of `runs` guests, of which a few live at once."""
    engine = Engine(slots=64, trial=True)
    handles = wild_handles.Handles()
    handlers = dict.fromkeys(POSTED, functools.partial(answer, handles=handles))
    node = Executor(workers=2, guests_max=32, handlers=handlers)
    store = ObjectStore(1 << 20)
    causes: dict[str, int] = {}
    temporary = tempfile.TemporaryDirectory()
    folder = Path(temporary.name)
    dirs = furnish(folder)
    before, kept = outside(folder), others(folder)
    live: list[tuple[Run, int]] = []
    try:
        for number in range(seed, seed + runs):
            if verbose:
                print(number, flush=True)
            rng = random.Random(number)
            live.append((started(rng, engine, node, store, folder, dirs), number))
            meddle(rng, live[-1][0])
            if rng.random() < 0.1:
                live[rng.randrange(len(live))][0].cancel()
            if len(live) == 16 or number == seed + runs - 1:
                for run, own in live:
                    cause = check(run, own)
                    causes[cause] = causes.get(cause, 0) + 1
                live.clear()
    finally:
        node.close()
    assert node.stats()["live"] == 0
    assert handles.made == handles.closed, f"handles stay open: --runs {runs} --seed {seed}"
    check_store(store)
    assert outside(folder) == before, f"something outside changed: --runs {runs} --seed {seed}"
    assert opened(folder) == len(dirs), f"something stays open: --runs {runs} --seed {seed}"
    assert others(folder).items() >= kept.items(), f"closed: --runs {runs} --seed {seed}"
    temporary.cleanup()
    return causes


def main() -> None:
    options = seeded.asked(__doc__, verbose=True)
    causes = fuzz(options.runs, options.seed, verbose=options.verbose)
    print(f"{options.runs} guests from seed {options.seed}: {causes}")


if __name__ == "__main__":
    main()

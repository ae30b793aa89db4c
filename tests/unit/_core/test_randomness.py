"""Random bytes for guests: drawn in blocks, each byte given out once and to one process only."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import wasm_asm as asm
from guest_runs import ROOT, assembled, ended, executor, python

from spear._core.executor import Executor

RANDOM_GET = (asm.WASI, "random_get", "ii", "i")
FD_WRITE = (asm.WASI, "fd_write", "iiii", "i")
RANDOM_I64 = ("spear", "random_i64", "", "I")
OUT_AT = 4096


def drawing(sizes: list[int]) -> bytes:
    """A guest that draws so many bytes each time, one behind another, and a zero; and writes it."""
    body, at = b"", OUT_AT
    for size in sizes:
        body += asm.i32_const(at) + asm.i32_const(size) + asm.call(0) + asm.DROP
        at += size
    body += asm.i32_store(0, OUT_AT) + asm.i32_store(4, at + 1 - OUT_AT)
    body += b"".join(map(asm.i32_const, (1, 0, 1, 8))) + asm.call(1) + asm.DROP
    return asm.module([RANDOM_GET, FD_WRITE], body)


def words(data: bytes) -> list[bytes]:
    return [data[at : at + 8] for at in range(0, len(data) - 7, 8)]


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


@pytest.mark.parametrize("inline", [False, True], ids=["workers", "inline"])
def test_no_byte_is_given_out_twice(node: Executor, inline: bool):
    """Many blocks' worth, of several guests at once."""
    runs = [node.start(assembled(drawing([8] * 200)), inline=inline) for _ in range(20)]
    drawn = [word for run in runs if ended(run).exit_code == 0 for word in words(run.output)]
    assert len(drawn) == len(set(drawn)) == 20 * 200


@pytest.mark.parametrize("size", [0, 1, 7, 8, 63, 64, 65, 511, 512, 513, 2000])
def test_all_bytes_asked_for_are_random_and_none_beyond(node: Executor, size: int):
    seen = bytearray(size + 1)
    for _ in range(12):
        run = node.start(assembled(drawing([size])))
        assert ended(run).exit_code == 0
        seen = bytearray(a | b for a, b in zip(seen, run.output, strict=True))
    assert seen[size] == 0
    assert seen[:size].count(0) == 0


def test_odd_sizes_meet_in_one_block(node: Executor):
    """Where the rest of a block is too small, it is not used up byte by byte either."""
    run = node.start(assembled(drawing([61, 7, 64, 33] * 30)))
    assert ended(run).exit_code == 0
    drawn = words(run.output)
    assert len(set(drawn)) == len(drawn)
    assert abs(sum(byte.bit_count() for byte in run.output) / len(run.output) - 4) < 0.3


def test_a_number_of_64_bits_differs_each_time(node: Executor):
    trap = b"\x04\x40" + asm.UNREACHABLE + asm.END
    body = (asm.call(0) + asm.call(0) + b"\x51" + trap) * 400  # i64.eq: unreachable
    assert ended(node.start(assembled(asm.module([RANDOM_I64], body)))).cause == "exit"


def test_a_forked_child_draws_other_bytes_than_its_parent():
    """Guests run on the thread that forks, which had drawn a part of a block before."""
    probe = """
import os, sys
sys.path.insert(0, "tests/unit/_core")
from test_randomness import drawing
from spear._core.engine import Engine
from spear._core.executor import Executor

def draw(count):
    node = Executor(workers=1)
    run = node.start(Engine(slots=1).load(drawing([8] * count)), inline=True)
    assert run.wait(20) and run.outcome.exit_code == 0
    data = run.output
    node.close()
    return [data[at:at + 8] for at in range(0, 8 * count, 8)]

draw(1)
there, here = os.pipe()
child = os.fork()
if child == 0:
    os.write(here, b"".join(draw(40)))
    os._exit(0)
mine = draw(40)
assert os.waitpid(child, 0)[1] == 0
data = os.read(there, 320)
theirs = [data[at:at + 8] for at in range(0, len(data), 8)]
print(len(theirs), len(set(mine) | set(theirs)))
"""
    done = python(probe)
    assert done.stdout == "40 80\n", done.stderr


BLOCK = """
#include "entropy.h"
#include <stdio.h>
static int zeros(size_t from, size_t to)
{
    int count = 0;
    for (size_t at = from; at < to; at++)
        count += entropy_own.block[at] == 0;
    return count;
}
int main(void)
{
    uint8_t first[64], again[64];
    entropy_fill(first, 64, 1);
    entropy_fill(again, 64, 1);
    printf("%d wiped, %d not, %zu left\\n", zeros(0, 128), zeros(128, 512) < 64,
           entropy_own.left);
    entropy_t before = entropy_own;
    entropy_fill(again, 8, 2);
    int same = memcmp(before.block + 128, entropy_own.block + 128, 384) == 0;
    printf("%d the same, %zu left\\n", same, entropy_own.left);
    entropy_fill(again, 64, 2);
    for (int i = 0; i < 6; i++)
        entropy_fill(again, 64, 2);
    printf("%zu left\\n", entropy_own.left);
    entropy_fill(again, 64, 2);
    printf("%zu left\\n", entropy_own.left);
    return 0;
}
"""


def test_what_was_given_out_is_wiped_and_a_fork_drops_the_rest(tmp_path: Path):
    compiler = shutil.which("gcc") or pytest.skip("no gcc")
    source, program = tmp_path / "block.c", tmp_path / "block"
    source.write_text(BLOCK)
    subprocess.run(
        [compiler, "-O2", "-std=gnu11", f"-I{ROOT / 'spear' / '_core'}", "-o", program, source],
        check=True,
    )
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    assert printed.splitlines() == [
        "128 wiped, 1 not, 384 left", "0 the same, 504 left", "56 left", "448 left",
    ]  # fmt: skip

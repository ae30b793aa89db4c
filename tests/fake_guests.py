"""What the committed guests do, played without an engine; for the fake node.

The rule: by the digest of the module's bytes, so a test hands the same files to a fake node and to
a real one. A module that is not known here writes nothing and exits with 0.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from functools import cache
from typing import NamedTuple

from conftest import guest_path

from spear.records.execution import ExecutionError, Frame


class Call(NamedTuple):
    """What a guest was given; `log` takes a level and a message."""

    args: tuple[str, ...]
    env: dict[str, str]
    input: bytes
    function: str
    numbers: tuple[int | float, ...]
    log: Callable[[str, str], None]


class End(NamedTuple):
    """How it ended."""

    output: bytes = b""
    exit_code: int = 0
    value: tuple[int | float, ...] = ()
    error: ExecutionError | None = None


Guest = Callable[[Call], Awaitable[End]]


async def _hello(call: Call) -> End:
    call.log("info", "hello from a guest")
    call.log("info", "the time is 0 ms")
    return End(b"Hello, SPEAR!\n")


async def _echo(call: Call) -> End:
    return End(call.input)


async def _exit_code(call: Call) -> End:
    code = int(call.args[0])
    return End(exit_code=code, error=ExecutionError(code="EXIT") if code else None)


async def _environ(call: Call) -> End:
    lines = [f"arg {arg}" for arg in call.args]
    lines += [f"env {name}={value}" for name, value in call.env.items()]
    return End("".join(f"{line}\n" for line in lines).encode())


async def _loop(call: Call) -> End:
    call.log("info", "looping")
    await asyncio.Event().wait()
    raise AssertionError("only a cancellation ends it")


async def _trap(call: Call) -> End:
    frames = (Frame(function="deeper", index=3, offset=0x1F), Frame(function="main", index=2))
    error = ExecutionError(
        code="TRAP", message="the guest trapped: unreachable", trap="unreachable", backtrace=frames
    )
    return End(b"half", -1, error=error)


async def _add(call: Call) -> End:
    return End(value=(sum(call.numbers),))


_PLAYED: dict[str, Guest] = {
    "hello": _hello, "wasi/echo": _echo, "exit_code": _exit_code, "environ": _environ,
    "loop/loop": _loop, "trap/trap": _trap, "shapes/add": _add,
}  # fmt: skip


@cache
def _by_digest() -> dict[str, Guest]:
    return {
        hashlib.sha256(guest_path(name).read_bytes()).hexdigest(): played
        for name, played in _PLAYED.items()
    }


async def _nothing(call: Call) -> End:
    return End()


def guest_of(digest: str) -> Guest:
    return _by_digest().get(digest, _nothing)

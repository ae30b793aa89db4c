"""Runs guests of module `spear_trial` in tests: an engine that has it, and guests that call it.

Rule: as in guest_runs; handlers that a test controls by hand wait for events, never for time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import wasm_asm as asm
from guest_runs import guest_bytes

from spear._core import trial
from spear._core.door import Call
from spear._core.engine import Engine, Module

TRIAL = "spear_trial"
EXIT = (asm.WASI, "proc_exit", "i", "")
PARAMS = {
    "noop": "", "echo": "iiii", "add": "ii", "pause": "", "control": "iiii", "mixed": "iIiiii",
    "send": "ii", "relay": "i",
}  # fmt: skip
OPS = {
    "echo": trial.ECHO, "add": trial.ADD, "pause": trial.PAUSE, "control": trial.CONTROL,
    "mixed": trial.MIXED, "send": trial.SEND,
}  # fmt: skip
PAGE = 65536
ENOENT, EIO, ENOMEM, EFAULT, EINVAL, ENOSPC, ENOSYS = -2, -5, -12, -14, -22, -28, -38
Pieces = list[tuple[int, bytes]]


@functools.cache
def trial_engine() -> Engine:
    return Engine(slots=2000, trial=True)


@functools.cache
def tools_guest() -> Module:
    return trial_engine().load(guest_bytes("tools"))


def calling(name: str, *values: int, times: int = 1, data: Pieces | None = None) -> Module:
    """A guest that makes one call, so often, and exits with what the last one gave."""
    return _calling(name, values, times, tuple(data or ()))


@functools.cache
def _calling(name: str, values: tuple[int, ...], times: int, data: Any) -> Module:
    params = PARAMS[name]
    consts = [asm.i64_const(v) if p == "I" else asm.i32_const(v)
              for p, v in zip(params, values, strict=True)]  # fmt: skip
    once = b"".join(consts) + asm.call(0)
    body = (once + asm.DROP) * (times - 1) + once + asm.call(1)
    return trial_engine().load(asm.module([(TRIAL, name, params, "i"), EXIT], body, data=data))


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def adding(call: Call) -> int:
    return call.args[0] + call.args[1]


def echoing(call: Call) -> bytes:
    return call.args[0]


Sender = Callable[[Call], Any]


def sending(*args: bytes, out_max: int = 100, arena: int = 1024, said: list[Any]) -> Sender:
    """A handler of `send` that calls the guest's tool with each of `args`, then answers 7."""

    async def send(call: Call) -> int:
        function, arena_at = call.args
        for each in args:
            answer = await call.tool(function, each, (arena_at, arena), out_max)
            said.append(answer)
        return 7

    return send

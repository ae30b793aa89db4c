"""Guests that use handles, written in WebAssembly's text format, and handlers that give them.

Rule: a body leaves as many i32 as its test says, and these are the run's value; bytes are seen by
logging them. 0 is an output's length, 64 its place; text lies from 4096 on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import wasmtime
from guest_runs import ended

from spear._core.door import Call
from spear._core.endpoints import Channel
from spear._core.engine import Engine, Module
from spear._core.executor import Executor
from spear._core.handles import CHAT_RESPONSE, CHAT_SESSION, CHAT_STREAM, TASK_CALL, Handle
from spear._core.run import Run
from spear.hostcalls.table import by_import

ROWS = {
    "create": ("cchat_create", 0), "write": ("cchat_write_msg", 5), "fn": ("cchat_write_fn", 4),
    "ctl": ("cchat_ctl", 4), "send": ("cchat_send", 2), "recv": ("cchat_recv", 3),
    "close": ("cchat_close", 1), "stream": ("cchat_stream", 2), "read": ("cchat_stream_read", 3),
    "embed": ("embed_send", 3), "invoke": ("task_invoke", 5), "wait": ("task_wait", 2),
    "result": ("task_result", 3), "status": ("task_status", 3), "cancel": ("task_cancel", 3),
    "leave": ("task_close", 1), "epoll": ("spear_epoll_create", 0),
    "watch": ("spear_epoll_ctl", 4), "poll": ("spear_epoll_wait", 4), "fd_ctl": ("spear_fd_ctl", 4),
    "log": ("log", 3), "time": ("wall_time_s", 0),
}  # fmt: skip
CREATE, WRITE, FN, SEND, CTL, STREAM, EMBED, INVOKE, CANCEL = (
    by_import(ROWS[name][0]).op or 0
    for name in ("create", "write", "fn", "send", "ctl", "stream", "embed", "invoke", "cancel")
)
EIO, EBADF, EAGAIN, ENOMEM, EFAULT, EINVAL, ENOSPC, ENOSYS, ETIMEDOUT = (
    -5, -9, -11, -12, -14, -22, -28, -38, -110,
)  # fmt: skip
IN, HUP = 1, 16
OUT, TEXT = "(i32.const 64) (i32.const 0)", "(i32.const 4096) (i32.const 5)"


def _imports() -> str:
    return "\n".join(
        f'(import "spear" "{name}" (func ${short} (param {"i32 " * count}) '
        f"(result {'i64' if name == 'wall_time_s' else 'i32'})))"
        for short, (name, count) in ROWS.items()
    )


HELPERS = """
(memory (export "memory") 2)
(data (i32.const 4096) "hello, world")
(func $room (param $room i32) (i32.store (i32.const 0) (local.get $room)))
(func $show (result i32)
  (call $log (i32.const 2) (i32.const 64) (i32.load (i32.const 0))))
(func $look (param $epoll i32) (param $ms i32) (result i32) (local $count i32)
  (call $room (i32.const 8))
  (local.set $count
    (call $poll (local.get $epoll) (i32.const 64) (i32.const 0) (local.get $ms)))
  (if (result i32) (i32.gt_s (local.get $count) (i32.const 0))
    (then (i32.load (i32.const 68))) (else (local.get $count))))
"""


@functools.cache
def handle_engine() -> Engine:
    return Engine(slots=1000)


@functools.cache
def handle_guest(body: str, results: int = 1, more: str = "") -> Module:
    """`body` has locals $a, $b, $c and $n; `more` stands beside it."""
    text = f"""(module {_imports()} {HELPERS} {more}
      (func (export "go") (result {"i32 " * results})
        (local $a i32) (local $b i32) (local $c i32) (local $n i32) {body}))"""
    return handle_engine().load(bytes(wasmtime.wat2wasm(text)))


def started(node: Executor, body: str, results: int = 1, *, more: str = "", **options: Any) -> Run:
    return node.start(handle_guest(body, results, more), entry="go", **options)


def gives(node: Executor, body: str, results: int = 1, **options: Any) -> Any:
    """What the body leaves; a number, or a tuple."""
    run = started(node, body, results, **options)
    assert ended(run).cause == "exit", run.outcome
    return run.value


def session(call: Call) -> Handle:
    return Handle(CHAT_SESSION)


def response(body: bytes = b"{}", about: bytes = b"{}") -> Callable[[Call], Handle]:
    def handler(call: Call) -> Handle:
        made = Handle(CHAT_RESPONSE)
        made.finish(0, body, about)
        return made

    return handler


class Maker:
    """A handler that gives a new handle each time, and keeps them; knows which were closed."""

    def __init__(self, kind: int, *, items_max: int = 1024) -> None:
        self.kind, self.items_max = kind, items_max
        self.made: list[Handle] = []
        self.channels: list[Channel] = []
        self.closed: list[Handle] = []

    def __call__(self, call: Call) -> Handle:
        channel = Channel(items_max=self.items_max) if self.kind == CHAT_STREAM else None
        made = Handle(self.kind, call.context, channel=channel, closed=self.closed.append)
        self.made.append(made)
        if channel is not None:
            self.channels.append(channel)
        return made


def sessions() -> Maker:
    return Maker(CHAT_SESSION)


def streams() -> Maker:
    return Maker(CHAT_STREAM)


def calls() -> Maker:
    return Maker(TASK_CALL)

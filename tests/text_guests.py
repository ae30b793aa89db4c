"""Guests for tests written in WebAssembly's text format: imports by short names, and a memory.

Rule: a body is what one test needs and nothing else; the memory below holds what its calls point
at, and calls write only behind it.
"""

from __future__ import annotations

import functools

import wasmtime

from spear._core.engine import Engine, Module, host_imports

NATIVE = """
(import "spear" "sleep_ms" (func $sleep (param i32)))
(import "spear" "log" (func $log (param i32 i32 i32) (result i32)))
(import "spear" "spear_epoll_create" (func $epoll (result i32)))
(import "spear" "spear_epoll_wait" (func $wait (param i32 i32 i32 i32) (result i32)))
(import "spear" "object_get" (func $get (param i32 i32 i32 i32 i32) (result i32)))
(import "spear" "object_put" (func $put (param i32 i32 i32 i32 i64 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
(import "wasi_snapshot_preview1" "path_open"
  (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_seek" (func $seek (param i32 i64 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
"""
POSTED = """
(import "spear_trial" "pause" (func $pause (result i32)))
(import "spear_trial" "add" (func $add (param i32 i32) (result i32)))
(import "spear_trial" "send" (func $send (param i32 i32) (result i32)))
"""
# 0: an output's length; 16: text; 256 and 304: waits of a millisecond and for ever; 400: a vector.
MEMORY = r"""
(memory (export "memory") 2)
(data (i32.const 16) "shared/gofile")
(data (i32.const 272) "\01")
(data (i32.const 280) "\40\42\0f")
(data (i32.const 320) "\01")
(data (i32.const 328) "\00\00\00\00\00\00\00\10")
(data (i32.const 400) "\00\10\00\00\00\10\00\00")
(func $room (i32.store (i32.const 0) (i32.const 4096)))
(func $open (result i32)
  (if (call $path_open (i32.const 3) (i32.const 0) (i32.const 25) (i32.const 4) (i32.const 0)
        (i64.const 6) (i64.const 6) (i32.const 0) (i32.const 8)) (then unreachable))
  (i32.load (i32.const 8)))
(func $go_length (result i32)
  (call $room)
  (call $get (i32.const 16) (i32.const 9) (i32.const 8192) (i32.const 0) (i32.const 0)))
"""
SHORT = "(i32.const 256) (i32.const 8192) (i32.const 1) (i32.const 12)"
LONG = SHORT.replace("256", "304")
FILE = "(i32.const 400) (i32.const 1) (i32.const 12)"
GO = "(i32.const 16) (i32.const 9) (i32.const 4096)"


def again(body: str) -> str:
    """For ever."""
    return f"(loop $again {body} (br $again))"


def times(count: int, body: str) -> str:
    return f"""(local.set $left (i32.const {count}))
      (loop $again {body} (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br_if $again (local.get $left)))"""


@functools.cache
def text_engine(trial: bool) -> Engine:
    return Engine(slots=2000, trial=trial)


@functools.cache
def text_guest(body: str, *, trial: bool = False, more: str = "") -> Module:
    """`body` has the locals $fd and $left; `more` are imports."""
    text = f"""(module {NATIVE} {POSTED if trial else ""} {more} {MEMORY}
      (func (export "_start") (local $fd i32) (local $left i32) {body}))"""
    return text_engine(trial).load(bytes(wasmtime.wat2wasm(text)))


def calls_of_everything() -> tuple[str, str]:
    """Imports of all that is answered natively, and one call of each, all arguments -1; what ends
    the guest or waits for ever is left out, and what takes its descriptors away comes last."""
    imports, calls, last = "", "", ""
    for number, ((host, name), (signature, _)) in enumerate(sorted(host_imports().items())):
        inside, _, result = signature.partition(" -> ")
        params = [part for part in inside.strip("()").split(", ") if part]
        gives = f"(result {result})" if result != "()" else ""
        if name in ("proc_exit", "sleep_ms"):
            continue
        imports += (
            f'(import "{host}" "{name}" (func $n{number} (param {" ".join(params)}) {gives}))'
        )
        given = " ".join(f"({part}.const -1)" for part in params)
        call = f"(call $n{number} {given}) {'drop' if gives else ''}\n"
        if "close" in name or "renumber" in name:
            last += call
        else:
            calls += call
    return imports, calls + last

"""Writes a guest that calls every import with wild arguments for as long as it is told to.

Rule: what it does depends on the numbers it is called with alone: it draws each call and argument
from a generator of its own, so a million calls need one compiled module and nothing from Python.
What it counted it returns. Its memory begins as an image that it lays out anew now and then, and
grows between its calls and, by its tool, while one of them is under way.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

PAGE = 65536
VARIETIES = 6  # of arguments, for each import
RENEWED_EVERY = 64  # calls; then the memory is what it was
GROWS_EVERY = 256  # steps
GROWN_PAGES = 40  # from then on it asks for more than it may have
TOO_MANY_PAGES = 60_000
PAIRS_AT = 62_000
FRAMES = [
    struct.pack("<4sHHHHIQII", b"SPST", 1, 32, 2, 0, id, 0, 0, 5) + b"hello" for id in range(3)
]
DOCUMENTS = (b'{"set":["O_NONBLOCK"],"clear":[]}', b'{"clear":["O_NONBLOCK"]}', b"{")
ROOMS = (0, 7, 8, 64, 4096, PAGE, 2**31)
# One call in so many is made, the others are left out: what ends the guest, what takes away what
# other calls need, and what waits for Python.
SELDOM = {
    "proc_exit": 128, "fd_close": 8, "fd_renumber": 16, "user_stream_close": 8,
    "spear_epoll_close": 8, "spear_epoll_create": 8, "user_stream_ctl_open": 8,
    "echo": 16, "add": 16, "pause": 16, "control": 16, "mixed": 16,
    "send": 8, "cchat_create": 4, "cchat_write_msg": 16, "cchat_write_fn": 16, "cchat_ctl": 8,
    "cchat_send": 2, "cchat_stream": 4, "embed_send": 16, "task_invoke": 8, "task_cancel": 16,
    "cchat_close": 8, "task_close": 8,
}  # fmt: skip
# Arguments that a call is likely to take, for half of the varieties: chance finds none of these.
# A name in braces is two arguments, a pair from the memory.
SANE = {
    "object_put": "{name} {text} (i64.const -1) (i32.const 0) (call $aligned)",
    "object_get": "{name} {room} (call $aligned)",
    "object_stat": "{name} {room}",
    "object_delete": "{name} (i64.const -1) (call $below (i32.const 2))",
    "object_add_ref": "{name} (call $small)",
    "object_remove_ref": "{name} (call $small)",
    "object_pin": "{name}",
    "object_unpin": "{name}",
    "user_stream_open": "(call $below (i32.const 3)) (call $below (i32.const 5))",
    "user_stream_read": "(call $handle) {room}",
    "user_stream_write": "(call $handle) {frame}",
    "spear_epoll_ctl": "(call $handle) (call $small) (call $handle) (call $below (i32.const 32))",
    "spear_fd_ctl": "(call $handle) (call $small) {room}",
    "cchat_write_msg": "(call $handle) {text} {text}",
    "cchat_write_fn": "(call $handle) (call $small) {text}",
    "cchat_ctl": "(call $handle) (call $below (i32.const 4)) {room}",
    "cchat_send": "(call $session) (call $below (i32.const 2))",
    "cchat_recv": "(call $handle) {room}",
    "cchat_stream_read": "(call $handle) {room}",
    "embed_send": "{text} (call $small)",
    "task_invoke": "{text} {text} (call $small)",
    "task_cancel": "(call $handle) {text}",
    "task_result": "(call $handle) {room}",
    "task_status": "(call $handle) {room}",
    "fd_read": "(call $fd) {vector} (call $aligned)",
    "fd_write": "(call $fd) {vector} (call $aligned)",
    "fd_pread": "(call $fd) {vector} (call $little) (call $aligned)",
    "fd_pwrite": "(call $fd) {vector} (call $little) (call $aligned)",
    "fd_readdir": "(call $fd) {text} (call $little) (call $aligned)",
    "fd_seek": "(call $fd) (call $little) (call $below (i32.const 3)) (call $aligned)",
    "fd_advise": "(call $fd) (call $little) (call $little) (call $below (i32.const 7))",
    "fd_allocate": "(call $fd) (call $little) (call $little)",
    "fd_filestat_set_size": "(call $fd) (call $little)",
    "path_open": "(call $dir) (call $below (i32.const 2)) {text} (call $below (i32.const 10)) "
                 "(i64.const 0x1fffffff) (i64.const 0x1fffffff) (i32.const 0) (call $aligned)",
    "path_filestat_get": "(call $dir) (call $below (i32.const 2)) {text} (call $aligned)",
    "path_filestat_set_times": "(call $dir) (call $below (i32.const 2)) {text} (call $little) "
                               "(call $little) (call $below (i32.const 16))",
    "path_create_directory": "(call $dir) {text}",
    "path_link": "(call $dir) (call $below (i32.const 2)) {text} (call $dir) {text}",
    "path_rename": "(call $dir) {text} (call $dir) {text}",
    "path_symlink": "{text} (call $dir) {text}",
    "path_readlink": "(call $dir) {text} {text} (call $aligned)",
}  # fmt: skip
WAITS = {"sleep_ms", "spear_epoll_wait", "poll_oneoff", "task_wait"}
OPENS = {
    "spear_epoll_create", "user_stream_open", "user_stream_ctl_open", "cchat_create", "cchat_send",
    "cchat_stream", "embed_send", "task_invoke",
}  # fmt: skip
WAITS_WILDLY = 128  # one in so many waits as long as it happens to

RUNTIME = """
(global $state (mut i64) (i64.const 1))
(global $made (mut i64) (i64.const 0))
(global $low (mut i64) (i64.const 0))
(global $high (mut i64) (i64.const 0))
(global $good_low (mut i64) (i64.const 0))
(global $good_high (mut i64) (i64.const 0))
(global $grown (mut i64) (i64.const 0))
(global $grown_in_tools (mut i64) (i64.const 0))
(func $next (result i64) (local $x i64)
  (local.set $x (i64.xor (global.get $state) (i64.shl (global.get $state) (i64.const 13))))
  (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
  (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
  (global.set $state (local.get $x))
  (local.get $x))
(func $below (param $end i32) (result i32)
  (i32.rem_u (i32.wrap_i64 (i64.shr_u (call $next) (i64.const 33))) (local.get $end)))
(func $edge (result i32)
  (i32.add
    (i32.sub
      (i32.shl (i32.const 1) (call $below (i32.const 32)))
      (i32.mul (call $below (i32.const 2))
               (i32.shl (i32.const 1) (call $below (i32.const 7)))))
    (i32.sub (call $below (i32.const 3)) (i32.const 1))))
(func $small (result i32) (i32.sub (call $below (i32.const 11)) (i32.const 1)))
(func $little (result i64) (i64.extend_i32_u (call $below (i32.const 3000))))
(func $room (result i32) (i32.shl (memory.size) (i32.const 16)))
(func $inside (result i32) (call $below (call $room)))
(func $aligned (result i32) (i32.and (call $inside) (i32.const -8)))
(func $grow (result i64)
  (i64.extend_i32_u (i32.ne (i32.const -1) (memory.grow (select
    (i32.add (i32.const 1) (call $below (i32.const 3))) (i32.const TOO_MANY_PAGES)
    (i32.lt_u (memory.size) (i32.const GROWN_PAGES)))))))
(func $fd (result i32)
  (if (result i32) (call $below (i32.const 12))
    (then (call $below (i32.const 9))) (else (call $any))))
(func $dir (result i32)
  (if (result i32) (call $below (i32.const 4)) (then (i32.const 3)) (else (call $fd))))
(global $newest (mut i32) (i32.const 1000))
(func $seen (param $fd i32) (result i32)
  (if (i32.gt_s (local.get $fd) (global.get $newest))
    (then (global.set $newest (local.get $fd))))
  (i32.ge_s (local.get $fd) (i32.const 0)))
(func $handle (result i32)
  (if (call $below (i32.const 2))
    (then (return (i32.sub (global.get $newest) (call $below (i32.const 6))))))
  (if (result i32) (call $below (i32.const 12))
    (then (i32.add (i32.const 1000) (call $below (i32.const 12)))) (else (call $any))))
(func $any (result i32) (local $kind i32)
  (local.set $kind (call $below (i32.const 8)))
  (if (i32.lt_u (local.get $kind) (i32.const 2)) (then (return (call $small))))
  (if (i32.lt_u (local.get $kind) (i32.const 4)) (then (return (call $edge))))
  (if (i32.lt_u (local.get $kind) (i32.const 7)) (then (return (call $inside))))
  (i32.wrap_i64 (call $next)))
(func $wide (result i64) (local $kind i32)
  (local.set $kind (call $below (i32.const 4)))
  (if (i32.eq (local.get $kind) (i32.const 0)) (then (return (call $next))))
  (if (i32.eq (local.get $kind) (i32.const 1))
    (then (return (i64.extend_i32_s (call $small)))))
  (i64.sub (i64.shl (i64.const 1) (i64.extend_i32_u (call $below (i32.const 64))))
           (i64.extend_i32_u (call $below (i32.const 2)))))
(func $pair (param $first i32) (param $count i32) (result i32 i32) (local $at i32)
  (local.set $at (i32.add (i32.const PAIRS_AT) (i32.mul (i32.const 8)
    (i32.add (local.get $first) (call $below (local.get $count))))))
  (i32.load (local.get $at))
  (i32.load offset=4 (local.get $at)))
(func $swapped (param $first i32) (param $second i32) (param $third i32) (result i32 i32 i32)
  (local.get $first) (local.get $third) (local.get $second))
(func $step
  (if (i64.eqz (i64.rem_u (global.get $made) (i64.const RENEWED_EVERY)))
    (then (memory.init $image (i32.const 0) (i32.const 0) (i32.const PAGE))))
  (if (i32.eqz (call $below (i32.const 4)))
    (then (i32.store (call $below (i32.sub (call $room) (i32.const 3))) (call $any))))
  (if (i32.eqz (call $below (i32.const GROWS_EVERY)))
    (then (global.set $grown (i64.add (global.get $grown) (call $grow)))))
  (call_indirect (type $plain) (i32.add (i32.const 1) (call $below (i32.const CHOICES)))))
(func $tool (param i32 i32 i32 i32) (result i32)
  (if (call $below (i32.const 2)) (then (global.set $grown_in_tools
    (i64.add (global.get $grown_in_tools) (call $grow)))))
  (if (call $below (i32.const 2)) (then (call $step)))
  (if (result i32) (call $below (i32.const 4)) (then (i32.const 0)) (else (call $any))))
(func (export "wild") (param $seed i64) (param $calls i64)
    (result i64 i64 i64 i64 i64 i64 i64)
  (global.set $state (i64.or (local.get $seed) (i64.const 1)))
  (loop $on
    (call $step)
    (br_if $on (i64.lt_u (global.get $made) (local.get $calls))))
  (global.get $made) (global.get $low) (global.get $high)
  (global.get $good_low) (global.get $good_high)
  (global.get $grown) (global.get $grown_in_tools))
"""


@dataclass(frozen=True)
class Row:
    """One import; `params` and `result` are types of the text format."""

    host: str
    name: str
    params: tuple[str, ...]
    result: str


def rows_of(imports: dict[tuple[str, str], tuple[str, bool]]) -> list[Row]:
    """From what `host_imports` gives, in the order of names."""
    rows = []
    for (host, name), (signature, _) in sorted(imports.items()):
        inside, _, result = signature.partition(" -> ")
        params = tuple(part for part in inside.strip("()").split(", ") if part)
        rows.append(Row(host, name, params, "" if result == "()" else result))
    return rows


class Image:
    """The first page of the memory, and where the pairs of each kind lie in its list of pairs."""

    def __init__(self, rng: random.Random, names: tuple[bytes, ...], paths: list[bytes],
                 wild: list[tuple[int, bytes]]) -> None:  # fmt: skip
        self.bytes = bytearray(PAGE)
        self.ranges: dict[str, tuple[int, int]] = {}
        self._pairs: list[tuple[int, int]] = []
        self._end = 40_000
        for at, piece in wild:
            self.bytes[at : min(at + len(piece), self._end)] = piece[: max(0, self._end - at)]
        self._kind("name", [(self._text(name) + 4, len(name)) for name in names])
        self._kind("frame", [(self._text(frame) + 4, len(frame)) for frame in FRAMES])
        texts = [(self._text(text), len(text)) for text in (*paths, *DOCUMENTS)]
        self._kind("text", [(at + 4, size) for at, size in texts])
        counted = [(at + 4, at) for at, _ in texts]
        rooms = [(rng.randrange(0, PAGE // 2, 8), self._word(room)) for room in ROOMS * 2]
        self._kind("room", [*counted, *rooms])
        self._kind("vector", [(self._vectors(rng, count), count) for count in (1, 1, 2, 3, 8)])
        self._kind("wait", [(self._waits(rng, count), count) for count in (1, 1, 2, 3)])
        assert self._end <= PAIRS_AT
        assert PAIRS_AT + 8 * len(self._pairs) <= PAGE
        struct.pack_into(f"<{2 * len(self._pairs)}I", self.bytes, PAIRS_AT,
                         *(number for pair in self._pairs for number in pair))  # fmt: skip

    def _kind(self, kind: str, pairs: list[tuple[int, int]]) -> None:
        self.ranges[kind] = (len(self._pairs), len(pairs))
        self._pairs += pairs

    def pair(self, kind: str) -> str:
        """What draws two arguments."""
        first, count = self.ranges[kind]
        return f"(call $pair (i32.const {first}) (i32.const {count}))"

    def _put(self, piece: bytes) -> int:
        at = self._end
        self.bytes[at : at + len(piece)] = piece
        self._end = (at + len(piece) + 7) & ~7
        return at

    def _word(self, number: int) -> int:
        return self._put(struct.pack("<I", number))

    def _text(self, text: bytes) -> int:
        """Its length as a word, then the text."""
        return self._put(struct.pack("<I", len(text)) + text)

    def _vectors(self, rng: random.Random, count: int) -> int:
        """Of which one in five points anywhere."""
        words = []
        for _ in range(count):
            sane = rng.randrange(40_000), rng.choice((0, 1, 8, 100, 1000))
            words += sane if rng.random() < 0.8 else (rng.getrandbits(32), rng.getrandbits(17))
        return self._put(struct.pack(f"<{len(words)}I", *words))

    def _waits(self, rng: random.Random, count: int) -> int:
        """WASI subscriptions: clocks of up to a millisecond, and descriptors."""
        waits = [
            struct.pack("<QB7xI4xQQH6x", rng.getrandbits(64), 0, rng.randrange(2),
                        rng.choice((0, 1, 10**6)), 0, 0)
        ]  # fmt: skip
        waits += [
            struct.pack("<QB7xI28x", rng.getrandbits(64), rng.randrange(1, 3), rng.randrange(5))
            for _ in range(count - 1)
        ]
        return self._put(b"".join(waits))


def _first(row: Row) -> str:
    """What the first argument of a call most often should be."""
    if row.host == "spear" and row.name.startswith(
        ("user_stream_", "spear_", "cchat_", "rtasr_", "task_")
    ):
        return "(call $handle)"
    if row.name.startswith(("fd_", "path_", "sock_")):
        return "(call $fd)"
    return ""


def arguments(rng: random.Random, row: Row, image: Image) -> str:
    """One recipe: what draws each argument, where two that follow each other may be a pair."""
    kinds = ("name", "name", "room") if row.name.startswith("object_") else (
        "text", "text", "room", "vector")  # fmt: skip
    singles = ("any", "any", "aligned", "aligned", "small", "edge", "handle")
    parts, at, first = [], 0, _first(row)
    if first and row.params and rng.random() < 0.9:
        parts, at = [first], 1
    while at < len(row.params):
        if row.params[at : at + 2] == ("i32", "i32") and rng.random() < 0.6:
            parts.append(image.pair(rng.choice(kinds)))
            at += 2
        else:
            wide = row.params[at] == "i64"
            parts.append("(call $wide)" if wide else f"(call ${rng.choice(singles)})")
            at += 1
    return " ".join(parts)


def short_wait(row: Row, image: Image) -> str:
    """Arguments with which a call that waits does so for a millisecond at most."""
    brief = "(call $below (i32.const 2))"
    if row.name == "sleep_ms":
        return brief
    if row.name == "task_wait":
        return f"(call $handle) {brief}"
    if row.name == "poll_oneoff":
        return f"(call $swapped {image.pair('wait')} (call $aligned)) (call $aligned)"
    return f"(call $handle) {image.pair('room')} {brief}"


def sane(row: Row, image: Image) -> str:
    return SANE[row.name].format(**{kind: image.pair(kind) for kind in image.ranges})


def choices(rng: random.Random, rows: list[Row], image: Image) -> list[str]:
    functions: list[str] = []
    for index, row in enumerate(rows):
        one_in = SELDOM.get(row.name, 1)
        for variety in range(VARIETIES):
            if row.name in WAITS and variety > 0:
                given, often = short_wait(row, image), one_in
            elif row.name in SANE and variety % 2:
                given, often = sane(row, image), one_in
            else:
                given = arguments(rng, row, image)
                often = WAITS_WILDLY if row.name in WAITS else one_in
            functions.append(choice(len(functions), index, row, given, often))
    return functions


def choice(number: int, index: int, row: Row, given: str, one_in: int) -> str:
    """The function that makes a call, one time in `one_in`; counts it, and whether it succeeded."""
    half, bit = ("low", 1 << index) if index < 64 else ("high", 1 << index - 64)
    left_out = f"(if (call $below (i32.const {one_in})) (then (return)))" if one_in > 1 else ""
    succeeded = {"": "(i32.const 1)", "i64": "drop (i32.const 1)"}.get(row.result, "i32.eqz")
    if row.result == "i32" and row.host != "wasi_snapshot_preview1":
        succeeded = "(call $seen)" if row.name in OPENS else "(i32.const 0) i32.ge_s"

    def mark(word: str) -> str:
        return f"(global.set ${word} (i64.or (global.get ${word}) (i64.const {bit})))"

    return f"""(func $choice{number} {left_out}
  (global.set $made (i64.add (global.get $made) (i64.const 1)))
  {mark(half)}
  (call $import{index} {given}) {succeeded}
  (if (then {mark("good_" + half)})))"""


def escaped(data: bytes) -> str:
    return "".join(f"\\{byte:02x}" for byte in data)


def tool_index(rows: list[Row]) -> int:
    """Of the tool in the guest's table: calls that Python answers may call it back."""
    return 1 + len(rows) * VARIETIES


def text(rng: random.Random, rows: list[Row], image: Image, *, pages: int, memory: str) -> str:
    """The module, in the text format; function `wild` takes a seed and a number of calls, and
    gives how many it made, in two words of bits each of which imports and which succeeded, and how
    often its memory grew, outside of tools and in them."""
    functions = choices(rng, rows, image)
    numbers = {
        "PAIRS_AT": PAIRS_AT, "RENEWED_EVERY": RENEWED_EVERY, "GROWS_EVERY": GROWS_EVERY,
        "GROWN_PAGES": GROWN_PAGES, "TOO_MANY_PAGES": TOO_MANY_PAGES, "PAGE": PAGE,
        "CHOICES": len(functions),
    }  # fmt: skip
    runtime = RUNTIME
    for name, number in numbers.items():
        runtime = runtime.replace(f" {name})", f" {number})")
    (create,) = [index for index, row in enumerate(rows) if row.name == "cchat_create"]
    imports = [
        f'(import "{row.host}" "{row.name}" (func $import{index} (param {" ".join(row.params)})'
        + (f" (result {row.result})" if row.result else "") + "))"
        for index, row in enumerate(rows)
    ]  # fmt: skip
    table = " ".join(f"$choice{number}" for number in range(len(functions)))
    return "\n".join([
        "(module", "(type $plain (func))", *imports,
        f'(memory (export "{memory}") {pages})',
        f'(table (export "__indirect_function_table") {len(functions) + 2} funcref)',
        f"(elem (i32.const 1) func {table} $tool)",
        f'(data $image "{escaped(bytes(image.bytes))}")',
        f"(func $session (result i32) (call $import{create}))", runtime, *functions, ")",
    ])  # fmt: skip

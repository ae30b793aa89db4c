"""A guest's table answers as the plain one does; the JSON of flags is read as Python reads it."""

from __future__ import annotations

import json
from typing import Any

from guest_runs import executor
from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples
from puppets import EINVAL, GET_FLAGS, GET_KIND, GET_STATUS, ROOM, SET_FLAGS, Puppet

from tests.reference import ssf
from tests.reference.descriptors import ERR, HUP, IN, OUT, Table

NUMBERS = st.integers(999, 1016)
STREAMS = st.integers(1, 3)
STEPS = st.one_of(
    st.tuples(st.just("epoll_create")),
    st.tuples(st.just("open"), STREAMS),
    st.tuples(st.just("open"), STREAMS),
    st.tuples(st.just("close"), NUMBERS),
    st.tuples(st.just("epoll_close"), NUMBERS),
    st.tuples(st.just("epoll_ctl"), NUMBERS, st.sampled_from([1, 1, 1, 2, 3, 4]), NUMBERS,
              st.integers(0, 63)),
    st.tuples(st.just("epoll_ctl"), st.just(1002), st.just(1), NUMBERS, st.just(IN | OUT | HUP)),
    st.tuples(st.just("epoll_wait"), NUMBERS, st.integers(1, 4)),
    st.tuples(st.just("epoll_wait"), st.just(1002), st.just(20)),
    st.tuples(st.just("status"), NUMBERS),
    st.tuples(st.sampled_from(["connect", "send", "fail"]), STREAMS),
)  # fmt: skip


class Both:
    """The guest and the plain table, doing the same."""

    def __init__(self, puppet: Puppet) -> None:
        self.puppet, self.plain = puppet, Table()
        self.streams = {number: puppet.run.stream(number) for number in (1, 2, 3)}
        self.states = dict.fromkeys(self.streams, 0)
        self.stream_of: dict[int, int] = {}
        for kind in ("Epoll", "UserStream"):  # the puppet's own; the second stays unready here
            self.plain.open(kind)
        self.epoll_create()

    def refresh(self) -> None:
        for fd, number in self.stream_of.items():
            found = self.plain.find(fd)
            assert found is not None
            found.ready = self.states[number]

    def epoll_create(self) -> None:
        assert self.puppet("epoll_create") == self.plain.open("Epoll")

    def open(self, number: int) -> None:
        fd = self.puppet("open", number, 3)
        assert fd == self.plain.open("UserStream")
        self.stream_of[fd] = number

    def close(self, fd: int) -> None:
        if fd != 1001:
            assert self.puppet("close", fd) == self.plain.close(fd, "UserStream")
            readers = {
                n for f, n in self.stream_of.items() if not self.plain.known[f - 1000].closed
            }
            for number in self.streams.keys() - readers:
                if fd in self.stream_of and self.stream_of[fd] == number:
                    self.states[number] &= ~IN  # the last reader took the frames with it

    def epoll_close(self, fd: int) -> None:
        if fd != 1000:
            assert self.puppet("epoll_close", fd) == self.plain.close(fd, "Epoll")

    def epoll_ctl(self, epfd: int, op: int, fd: int, events: int) -> None:
        if epfd != 1000 and fd != 1001:
            asked = (epfd, op, fd, events)
            assert self.puppet("epoll_ctl", *asked) == self.plain.control(*asked)

    def epoll_wait(self, epfd: int, count: int) -> None:
        if epfd != 1000:
            self.refresh()
            answer = self.puppet.ask("epoll_wait", epfd, 8 * count, 0)
            found: Any = answer.records if answer.value >= 0 else answer.value
            assert found == self.plain.wait(epfd, count)

    def status(self, fd: int) -> None:
        self.refresh()
        found = self.plain.find(fd)
        if found is None:
            assert self.puppet("fd_ctl", fd, GET_STATUS, ROOM) < 0
        elif fd != 1001:
            names = {IN: "EPOLLIN", OUT: "EPOLLOUT", ERR: "EPOLLERR", HUP: "EPOLLHUP"}
            assert json.loads(self.puppet.told(fd, GET_KIND)) == {"kind": found.kind}
            assert json.loads(self.puppet.told(fd, GET_STATUS)) == {
                "kind": found.kind, "flags": [], "closed": found.closed,
                "poll_mask": [name for bit, name in names.items() if self.plain.mask(fd) & bit],
            }  # fmt: skip

    def connect(self, number: int) -> None:
        self.streams[number].connect()
        if not self.states[number] & ERR:
            self.states[number] |= OUT

    def send(self, number: int) -> None:
        if not self.states[number] & ERR:
            self.streams[number].send_nowait(ssf.frame(number))
            self.states[number] |= IN | OUT

    def fail(self, number: int) -> None:
        self.streams[number].fail()
        self.states[number] = self.states[number] & IN | ERR


def test_the_table_answers_as_the_plain_one():
    with executor(workers=1) as node:

        @settings(max_examples=examples(150), deadline=None)
        @given(steps=st.lists(STEPS, min_size=5, max_size=40))
        def check(steps: list[tuple[Any, ...]]) -> None:
            both = Both(Puppet(node))
            for name, *args in steps:
                getattr(both, name)(*args)
            both.puppet.end()

        check()


def plain_flags(document: bytes) -> tuple[bool, bool] | None:
    """(set, clear) as Python's json reads it; None where it is refused."""

    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    def depth(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max(map(depth, inner), default=0) if isinstance(value, (dict, list)) else 0

    pairs: list[Any] = []

    def keep(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = found  # the outermost object is read last
        return dict(found)

    try:
        text = document.decode("utf-8", "replace")
        whole = json.loads(text, parse_constant=refuse, object_pairs_hook=keep)
    except (ValueError, RecursionError):
        return None
    if not isinstance(whole, dict):
        return None
    for name, value in pairs:
        listed = isinstance(value, list) and all(isinstance(item, str) for item in value)
        if name in ("set", "clear") and not listed:
            return None
    if depth(whole) > 64:
        return None
    return "O_NONBLOCK" in whole.get("set", []), "O_NONBLOCK" in whole.get("clear", [])


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(),
              st.just("O_NONBLOCK")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.text(max_size=5), st.sampled_from(["set", "clear"])), inner,
                        max_size=4),
    ),
    max_leaves=12,
)  # fmt: skip
NAMES = st.lists(st.sampled_from(["O_NONBLOCK", "O_FAST", "", "O_NONBLOC", "O_NONBLOCK\0"]))
FLAGS = st.fixed_dictionaries(
    {}, optional={"set": st.one_of(NAMES, NAMES, JSON), "clear": NAMES, "other": JSON}
)
PIECES = st.sampled_from([
    b'{', b'}', b'[', b']', b',', b':', b'"set"', b'"clear"', b'"O_NONBLOCK"', b' ', b'\n', b'"',
    b'\\u004f', b'\\', b'0', b'-', b'1e5', b'.5', b'true', b'null', b'\xff', b'\x01', b'NaN', b'a',
    b'"\\u004f_NONBLOCK"', b'"\\ud800"', b'{"set":["O_NONBLOCK"]}', b'01', b'1.', b'1E+2',
])  # fmt: skip


def test_flags_are_read_as_python_reads_them():
    with executor(workers=1) as node:
        puppet = Puppet(node, timeout_ns=600 * 10**9)  # one for all cases, also under a sanitizer

        def compare(document: bytes) -> None:
            clear = puppet("fd_ctl", 1000, SET_FLAGS, data=b'{"clear":["O_NONBLOCK"]}')
            assert clear == 0
            expected = plain_flags(document)
            assert puppet("fd_ctl", 1000, SET_FLAGS, data=document) == (
                EINVAL if expected is None else 0
            ), document
            turned_on = expected is not None and expected[0] and not expected[1]
            assert puppet.told(1000, GET_FLAGS) == (
                '{"flags":["O_NONBLOCK"]}' if turned_on else '{"flags":[]}'
            ), document

        @settings(max_examples=examples(300), deadline=None)
        @given(
            value=st.one_of(FLAGS, FLAGS, JSON),
            ascii=st.booleans(),
            indent=st.sampled_from([None, 1]),
        )
        def documents(value: Any, ascii: bool, indent: int | None) -> None:
            text = json.dumps(value, ensure_ascii=ascii, indent=indent)
            compare(text.encode("utf-8", "surrogatepass")[:4096])

        @settings(max_examples=examples(500), deadline=None)
        @given(pieces=st.lists(PIECES, max_size=12))
        def scraps(pieces: list[bytes]) -> None:
            compare(b"".join(pieces))

        for nesting in (61, 62, 63, 64, 200):
            compare(b'{"other":' + b"[" * nesting + b"]" * nesting + b"}")
        documents()
        scraps()
        puppet.end()

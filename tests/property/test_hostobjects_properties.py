"""Object calls of real guests against the plain version, and their JSON against Python's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from guest_runs import executor
from hypothesis import example, given, settings
from hypothesis import strategies as st
from object_runs import (
    ADD_REF,
    DELETE,
    GET,
    LIST,
    PIN,
    PUT,
    REMOVE_REF,
    STAT,
    UNPIN,
    Call,
    ask,
    get,
    listing,
    put,
    stat,
    timeless,
)  # fmt: skip
from property_examples import examples

from spear._core.executor import Executor
from spear._core.objstore import ObjectStore
from spear.errors import SpearError
from tests.reference import objstore as reference
from tests.reference.guestobjects import Guest, is_utf8

TASKS = {"a": (), "b": ("a",), "\u00e9": ("a", "b", "nobody")}
SPACES = (
    b"",
    b"shared/",
    b"/a/",
    b"/b/",
    "/\u00e9/".encode(),
    b"/c/",
    b"/",
    b"//",
    b"shared",
    b"/a",
)
RESTS = (b"", b"x", b"y", b"x/y", b"../b/x", b"/b/x", b"x\0y", b"\xff", b"\xc3", "\u00e9".encode())
CLOCK_MS = 1_111_111_111_111  # as `timeless` writes it

names = st.one_of(
    st.builds(bytes.__add__, st.sampled_from(SPACES), st.sampled_from(RESTS)),
    st.builds(bytes.__add__, st.sampled_from(SPACES), st.text(max_size=3).map(str.encode)),
    st.builds(bytes.__mul__, st.just(b"k"), st.sampled_from((1016, 1017, 1020, 1021, 1022, 1025))),
    st.binary(max_size=6),
)
versions = st.one_of(st.sampled_from((-1, -1, -1, 0, 0, -2, 1 << 40)), st.just("current"))
calls = st.builds(
    dict,
    call=st.sampled_from((PUT, PUT, PUT, GET, GET, STAT, LIST, LIST, DELETE, ADD_REF, REMOVE_REF,
                          PIN, UNPIN)),
    name=names,
    text=st.one_of(names, st.binary(max_size=1500)),
    if_version=versions,
    flags=st.sampled_from((0, 0, 0, 0, 0, 1, 2, -1)),
    number=st.sampled_from((1, 1, 2, 3, 10, 10_000, 0, -1, 10_001, 2**31 - 1)),
    room=st.sampled_from((65536, 65536, 65536, 0, 1, 100, 1500)),
)  # fmt: skip
texts = st.text(max_size=12)
python_puts = st.tuples(
    st.builds(bytes.__add__, st.sampled_from(SPACES[:5]), st.sampled_from(RESTS[1:])),
    st.dictionaries(texts, texts, max_size=3),
)
turns = st.lists(
    st.one_of(st.tuples(st.sampled_from(sorted(TASKS)), st.lists(calls, max_size=12)), python_puts),
    max_size=6,
)


def steps(guest: Guest, parts: dict[str, Any]) -> Iterator[tuple[Call, tuple[Any, ...]]]:
    """A call and what it must give; before it a look, if it asks for the current version."""
    if parts["if_version"] == "current":
        look = get(parts["name"])
        told = guest.call(look)
        yield look, told
        parts = {**parts, "if_version": max(told[2], 0)}
    call = Call(**parts)
    yield call, guest.call(call)


def put_by_python(store: Any, key: bytes, metadata: dict[str, str]) -> type[Exception] | None:
    try:
        store.put(key, b"from Python", metadata=metadata)
    except SpearError as error:
        return type(error)
    return None


def whole(store: Any) -> dict[bytes, tuple[Any, ...]]:
    return {s.key: (s.size, s.version, s.refs, s.pinned, s.metadata) for s in store.list()}


def play(node: Executor, bytes_max: int, turns: list[Any]) -> None:
    store = ObjectStore(bytes_max)
    plain = reference.ObjectStore(bytes_max, clock_ms=lambda: CLOCK_MS)
    for who, what in turns:
        if isinstance(what, dict):
            assert put_by_python(store, who, what) == put_by_python(plain, who, what)
            continue
        guest = Guest(plain, who, TASKS[who])
        expected = [step for parts in what for step in steps(guest, parts)]
        found = ask(node, store, [call for call, _ in expected], task=who, grants=TASKS[who])
        for (call, wanted), answer in zip(expected, found, strict=True):
            out = timeless(answer.out) if call.call in (STAT, LIST) else answer.out
            assert (answer.result, answer.len, answer.version, out) == wanted, call
    assert whole(store) == whole(plain)
    assert store.stats().bytes_used == plain.bytes_used()


@given(bytes_max=st.sampled_from((3000, 6000, 1 << 20)), turns=turns)
@settings(max_examples=examples(300), deadline=None)
def test_guests_get_what_the_plain_version_gives(bytes_max: int, turns: list[Any]) -> None:
    with executor() as node:
        play(node, bytes_max, turns)


@given(
    keys=st.sets(st.text(min_size=1, max_size=20), max_size=6),
    metadata=st.dictionaries(st.text(max_size=20), st.text(max_size=40), max_size=5),
)
@example(keys={'"', "\\", "\0", "\x1f", "\x7f", "\u2028"}, metadata={"\n\r\t\b\f": '"\\/'})
@example(keys={"\U0001f600", "\ud7ff", "\ue000"}, metadata={})
@settings(max_examples=examples(200), deadline=None)
def test_keys_and_metadata_are_the_json_of_python(keys: set[str], metadata: dict[str, str]) -> None:
    store = ObjectStore(1 << 22)
    for key in keys:
        store.put(b"shared/" + key.encode(), b"v", metadata=metadata)
    with executor() as node:
        stats = [stat(b"shared/" + key.encode()) for key in keys]
        *single, together = ask(node, store, [*stats, listing(b"shared/")])
    rows = json.loads(together.out)
    assert [row["key"].encode() for row in rows] == sorted(b"shared/" + k.encode() for k in keys)
    assert all(row["metadata"] == metadata for row in rows)
    for answer in (*single, together):
        again = json.dumps(json.loads(answer.out), ensure_ascii=False, separators=(",", ":"))
        assert again.encode() == answer.out


@given(name=st.one_of(st.binary(min_size=1, max_size=5), st.text(max_size=3).map(str.encode)))
@example(name=b"\xe0\x9f\xbf")
@example(name=b"\xf0\x8f\xbf\xbf")
@example(name=b"\xed\x9f\xbf")
@example(name=b"\xf4\x8f\xbf\xbf")
@example(name=b"\xc1\xbf")
@example(name=b"\xf5\x80\x80\x80")
@example(name=b"\xe2\x82\xac\xe2\x82")
@settings(max_examples=examples(300), deadline=None)
def test_a_name_is_taken_if_and_only_if_python_decodes_it(name: bytes) -> None:
    store = ObjectStore(1 << 20)
    with executor() as node:
        (answer,) = ask(node, store, [put(b"_" + name)])
    assert (answer.result == 0) == is_utf8(name)

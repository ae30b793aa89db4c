"""Whose objects a guest may reach, and under which names: no spelling leads out of a namespace."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from guest_runs import executor
from object_runs import (
    ADD_REF,
    EACCES,
    EINVAL,
    ENOENT,
    PIN,
    REMOVE_REF,
    UNPIN,
    Call,
    ask,
    delete,
    get,
    listing,
    put,
    results,
    stat,
)  # fmt: skip

from spear._core.executor import Executor
from spear._core.objstore import ObjectStore

OTHER = b"/other/secret"


@pytest.fixture(scope="module")
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


@pytest.fixture
def store() -> ObjectStore:
    """What another task has, and what is common."""
    made = ObjectStore(1 << 20)
    made.put(OTHER, b"secret")
    made.put(b"shared/common", b"common")
    return made


def every_call(name: bytes) -> list[Call]:
    return [
        put(name, b"mine"), get(name), stat(name), delete(name), delete(name, flags=1),
        Call(ADD_REF, name), Call(REMOVE_REF, name), Call(PIN, name), Call(UNPIN, name),
        listing(name),
    ]  # fmt: skip


def keys(store: ObjectStore) -> set[bytes]:
    return {found.key for found in store.list()}


@pytest.mark.parametrize("call", range(10))
def test_no_call_reaches_what_is_not_granted(node: Executor, store: ObjectStore, call: int) -> None:
    before = store.list()
    assert results(node, store, [every_call(OTHER)[call]]) == [EACCES]
    assert store.list() == before


@pytest.mark.parametrize("call", range(10))
def test_a_grant_opens_every_call_and_only_that_task(
    node: Executor, store: ObjectStore, call: int
) -> None:
    store.add_ref(OTHER)
    grants = ["else", "other", "more"]
    assert results(node, store, [every_call(OTHER)[call]], grants=grants)[0] not in (EACCES, EINVAL)
    assert results(node, store, [every_call(b"/third/x")[call]], grants=grants) == [EACCES]


ALIASES = {  # spelled like another task's object, or like a way to it: what it really is
    b"../other/secret": b"/me/../other/secret",
    b"./x": b"/me/./x",
    b"shared/../other/secret": b"shared/../other/secret",
    b"shared//other/secret": b"shared//other/secret",
    b"shared/ ": b"shared/ ",
    b"/me/../other/secret": b"/me/../other/secret",
    b"/me//other/secret": b"/me//other/secret",
    b"/me/shared/common": b"/me/shared/common",
    b"other/secret": b"/me/other/secret",
    b"Shared/common": b"/me/Shared/common",
    b"SHARED/common": b"/me/SHARED/common",
    b"shared": b"/me/shared",
    b"shared\0/common": b"/me/shared\0/common",
    b"%2Fother%2Fsecret": b"/me/%2Fother%2Fsecret",
    b"%73hared/common": b"/me/%73hared/common",
    b"\\other\\secret": b"/me/\\other\\secret",
    b"x\0/other/secret": b"/me/x\0/other/secret",
    b"\0": b"/me/\0",
    b" /other/secret": b"/me/ /other/secret",
    "\u2215other\u2215secret".encode(): "/me/\u2215other\u2215secret".encode(),
    "\ufeff/other/secret".encode(): "/me/\ufeff/other/secret".encode(),
    "\uff53hared/common".encode(): "/me/\uff53hared/common".encode(),
    b"me/x": b"/me/me/x",
}
REFUSED = {  # absolute names of nobody, of others, and what is no name
    b"/other/secret": EACCES, b"/other/../me/x": EACCES, b"/other/": EACCES, b"/other//": EACCES,
    b"/Me/x": EACCES, b"/ME/x": EACCES, b"/me /x": EACCES, b"/ me/x": EACCES, b"/m/x": EACCES,
    b"/mee/x": EACCES, b"/me\0/x": EACCES, b"/me\0x/x": EACCES, b"/./me/x": EACCES,
    b"/../me/x": EACCES, b"/%6de/x": EACCES, b"/shared/common": EACCES, b"/me%2Fx/": EACCES,
    "/m\u00e9/x".encode(): EACCES, "/me\u200b/x".encode(): EACCES,
    b"": EINVAL, b"/": EINVAL, b"//": EINVAL, b"//me/x": EINVAL, b"//other/secret": EINVAL,
    b"/me": EINVAL, b"/other": EINVAL, b"/me/": EINVAL, b"shared/": EINVAL,
    b"\xff": EINVAL, b"/me/\xff": EINVAL, b"shared/\xc0\xaf": EINVAL, b"\xc0\xafother": EINVAL,
    b"/\xff/x": EINVAL, b"\xed\xa0\x80": EINVAL, b"\xf4\x90\x80\x80": EINVAL, b"x\xe2\x82": EINVAL,
}  # fmt: skip


@pytest.mark.parametrize("name", ALIASES)
def test_a_name_is_bytes_and_nothing_is_normalised(
    node: Executor, store: ObjectStore, name: bytes
) -> None:
    before = keys(store)
    put_, got, told = ask(node, store, [put(name, b"mine"), get(name), stat(name)])
    assert (put_.result, got.out) == (0, b"mine")
    assert keys(store) - before == {ALIASES[name]}
    assert bytes(store.get(OTHER)) == b"secret"
    assert bytes(store.get(b"shared/common")) == b"common"
    assert json.loads(told.out)["key"].encode() == ALIASES[name]


@pytest.mark.parametrize("name", ALIASES)
def test_the_key_that_is_shown_leads_back_to_the_object(
    node: Executor, store: ObjectStore, name: bytes
) -> None:
    assert results(node, store, [put(name, b"mine")]) == [0]
    assert ask(node, store, [get(ALIASES[name])])[0].out == b"mine"


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_leads_elsewhere_is_refused(
    node: Executor, store: ObjectStore, name: bytes
) -> None:
    before = store.list()
    assert set(results(node, store, every_call(name)[:-1])) == {REFUSED[name]}
    assert store.list() == before


def test_own_and_full_names_are_one_object(node: Executor, store: ObjectStore) -> None:
    found = ask(node, store, [put(b"x", b"v"), get(b"/me/x"), put(b"/me/y", b"w"), get(b"y")])
    assert [found[1].out, found[3].out] == [b"v", b"w"]


def test_a_task_called_shared_has_a_namespace_of_its_own(
    node: Executor, store: ObjectStore
) -> None:
    calls = [put(b"x", b"own"), put(b"/shared/y", b"own"), get(b"shared/common"), get(b"shared/x")]
    found = ask(node, store, calls, task="shared")
    assert [answer.result for answer in found] == [0, 0, 6, ENOENT]
    assert keys(store) >= {b"/shared/x", b"/shared/y", b"shared/common"}


def test_a_name_that_begins_like_a_grant_is_not_granted(node: Executor, store: ObjectStore) -> None:
    names = [b"/others/x", b"/othe/x", b"/oth\0er/x", b"/a/x", b"/bc/x"]
    found = results(node, store, [get(name) for name in names], grants=["other", "ab", "b"])
    assert found == [EACCES] * len(names)


@pytest.mark.parametrize(("task", "longest"), [("me", 1020), ("t" * 255, 767)])
def test_a_key_has_1024_bytes_with_its_namespace(
    node: Executor, store: ObjectStore, task: str, longest: int
) -> None:
    own, long = f"/{task}/".encode(), b"k" * (1024 - len(b"shared/"))
    calls = [put(b"k" * longest), put(b"k" * (longest + 1)), put(b"shared/" + long),
             put(b"shared/k" + long), put(own + b"j" * longest), put(own + b"j" * (longest + 1)),
             put(b"k" * 60_000)]  # fmt: skip
    assert results(node, store, calls, task=task) == [0, EINVAL, 0, EINVAL, 0, EINVAL, EINVAL]


# Lists.


def shown(node: Executor, store: ObjectStore, *calls: Call, **more: list[str]) -> list[list[str]]:
    found = ask(node, store, calls, **more)
    assert all(answer.result > 0 for answer in found)
    return [[row["key"] for row in json.loads(answer.out)] for answer in found]


@pytest.fixture
def full(store: ObjectStore) -> ObjectStore:
    for key in (b"/me/a", b"/me/other", b"/me2/a", b"/m/a", b"/me", b"me/a", b"a", b"sharedx",
                b"/other/z", b"shared/\xff", b"/", b"//"):  # fmt: skip
        store.put(key, b"")
    return store


def test_the_empty_prefix_lists_what_is_the_tasks_own(node: Executor, full: ObjectStore) -> None:
    found = shown(node, full, listing(), listing(b"/me/"), listing(b"o"), listing(b"/me/o"))
    assert found == [["/me/a", "/me/other"]] * 2 + [["/me/other"]] * 2


def test_a_prefix_lists_no_other_task(node: Executor, full: ObjectStore) -> None:
    own = shown(node, full, listing(b"shared"), listing(b"s"), listing(b"other"), listing(b"../"))
    assert own == [[], [], ["/me/other"], []]
    assert shown(node, full, listing(b"shared/"), listing(b"shared/../")) == [["shared/common"], []]


@pytest.mark.parametrize(
    ("prefix", "answer"),
    [
        (b"/", EINVAL), (b"/oth", EINVAL), (b"/other", EINVAL), (b"/m", EINVAL), (b"/me", EINVAL),
        (b"//", EINVAL), (b"\xff", EINVAL), (b"k" * 1025, EINVAL), (b"/me/" + b"k" * 1021, EINVAL),
        (b"/other/", EACCES), (b"/other/s", EACCES), (b"/me2/", EACCES), (b"/ME/", EACCES),
    ],
)  # fmt: skip
def test_a_prefix_that_is_not_within_a_namespace_is_refused(
    node: Executor, full: ObjectStore, prefix: bytes, answer: int
) -> None:
    assert results(node, full, [listing(prefix), listing(b"", prefix)]) == [answer] * 2


def test_a_granted_namespace_is_listed_and_no_more(node: Executor, full: ObjectStore) -> None:
    found = shown(node, full, listing(b"/other/"), listing(b"/other/s"), grants=["other"])
    assert found == [["/other/secret", "/other/z"], ["/other/secret"]]
    assert results(node, full, [listing(b"/other"), listing(b"/")], grants=["other"]) == [
        EINVAL,
        EINVAL,
    ]


def test_a_start_in_another_namespace_shows_nothing_of_it(
    node: Executor, full: ObjectStore
) -> None:
    own = ["/me/a", "/me/other"]
    found = shown(
        node, full, listing(b"", b"shared/"), listing(b"", b"/a/"), listing(b"", b"/z/"),
        listing(b"shared/", b"/a/"), grants=["a", "z"],
    )  # fmt: skip
    assert found == [[], own, [], ["shared/common"]]

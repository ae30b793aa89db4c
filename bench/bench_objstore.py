"""The object store in process, beside a dictionary with a lock, LMDB, memcpy and Ray.

Two dictionaries: one keeps the caller's bytes object (no copy: the harder peer, and unsafe with a
buffer that changes), one copies it as a store must. Keys and values are bytes objects, so a
dictionary also saves the hash, which bytes remember. Ray runs only beside large objects, where its
store in shared memory is at home, and has every processor while ours has one.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from time import perf_counter
from typing import Any

import pytest
from report import interleaved, record

from spear._core.objstore import ObjectStore

KEYS = [b"/task/key-%06d" % at for at in range(1000)]
MANY = [b"/task/key-%06d" % (at * 7919 % 100_003) for at in range(100_000)]
VALUE = os.urandom(1024)
REPEATS = 30
PROCESSORS = os.sched_getaffinity(0)
RAY_STORE = 512 << 20
RAY_NOTE = "Ray warm, on two cores 1-5x slower than in its own release benchmarks"
NO_RAY_NOTE = "Ray or numpy is not installed: not compared"


class LockedDict:
    """What a program has without a store."""

    def __init__(self) -> None:
        self.cells: dict[bytes, tuple[int, bytes]] = {}
        self.lock, self.version = threading.Lock(), 0

    def put(self, key: bytes, value: bytes) -> int:
        with self.lock:
            self.version += 1
            self.cells[key] = (self.version, value)
            return self.version

    def put_copy(self, key: bytes, value: bytes) -> int:
        value = bytes(memoryview(value))
        with self.lock:
            self.version += 1
            self.cells[key] = (self.version, value)
            return self.version

    def get(self, key: bytes) -> tuple[int, bytes]:
        with self.lock:
            return self.cells[key]

    def put_if(self, key: bytes, value: bytes, version: int) -> int:
        with self.lock:
            if self.cells[key][0] != version:
                raise ValueError(key)
            self.version += 1
            self.cells[key] = (self.version, value)
            return self.version


@pytest.fixture
def one_cpu() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray with every page of its store touched; None where Ray or numpy is not installed.

    Of module scope, so that its processes start before `one_cpu` pins this one.
    """
    with pytest.MonkeyPatch.context() as environment, warnings.catch_warnings():
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        warnings.simplefilter("ignore")  # Ray's own, of its import and start
        try:
            import numpy
            import ray
        except ImportError:
            yield None
            return
        ray.init(
            address="local",
            num_cpus=1,
            include_dashboard=False,
            configure_logging=False,
            log_to_driver=False,
            object_store_memory=RAY_STORE,
        )
        try:
            put = ray_put(ray, numpy.ones(64 << 20, dtype="uint8"))
            for _ in range(3 * RAY_STORE // (64 << 20)):
                put()
            del put
            yield ray
        finally:
            ray.shutdown()


def as_array(value: bytes) -> Any:
    """What Ray keeps out of band and reads without a copy."""
    import numpy

    return numpy.frombuffer(value, dtype="uint8")


def ray_put(ray: Any, array: Any) -> Callable[[], None]:
    """A put that gives the object before it back first, so that its memory is used again."""
    held: list[Any] = []

    def put() -> None:
        held.clear()
        held.append(ray.put(array))

    return put


def everywhere(contender: Callable[[], float]) -> Callable[[], float]:
    """A contender on all processors, `one_cpu` or not: Ray copies large arrays with threads."""

    def run() -> float:
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, PROCESSORS)
        try:
            return contender()
        finally:
            os.sched_setaffinity(0, before)

    return run


def timed(work: Callable[[], Any], calls: int) -> float:
    """Microseconds a call."""
    start = perf_counter()
    work()
    return (perf_counter() - start) / calls * 1e6


def each_key(call: Callable[..., Any], *args: Any) -> Callable[[], float]:
    def work() -> None:
        for _ in range(REPEATS):
            for key in KEYS:
                call(key, *args)

    return lambda: timed(work, REPEATS * len(KEYS))


def filled() -> tuple[ObjectStore, LockedDict]:
    store, peer = ObjectStore(1 << 28), LockedDict()
    for key in KEYS:
        store.put(key, VALUE)
        peer.put(key, VALUE)
    return store, peer


@pytest.mark.usefixtures("one_cpu")
def test_put_1_kib(benchmark: Any) -> None:
    store, peer = filled()
    values = interleaved(
        benchmark,
        {
            "spear": each_key(store.put, VALUE),
            "dict + lock": each_key(peer.put, VALUE),
            "dict + lock, copying": each_key(peer.put_copy, VALUE),
        },
    )
    record(
        "object put 1 KiB, 1,000 keys",
        values.pop("spear"),
        "us",
        values,
        {"dict + lock": ("<=", 1.0)},
    )


@pytest.mark.usefixtures("one_cpu")
def test_get_1_kib(benchmark: Any) -> None:
    store, peer = filled()
    values = interleaved(
        benchmark,
        {
            "spear": each_key(store.get),
            "dict + lock": each_key(peer.get),
        },
    )
    record(
        "object get 1 KiB, 1,000 keys",
        values.pop("spear"),
        "us",
        values,
        {"dict + lock": ("<=", 1.0)},
    )


def cas_loop(
    put_if: Callable[[bytes, bytes, int], int], first: dict[bytes, int], repeats: int = REPEATS
) -> Callable[[], float]:
    def work() -> None:
        for _ in range(repeats):
            for key in KEYS:
                first[key] = put_if(key, VALUE, first[key])

    return lambda: timed(work, repeats * len(KEYS))


def own_cas_loop(store: ObjectStore) -> Callable[[], float]:
    first = {key: store.get(key).version for key in KEYS}

    def work() -> None:
        put = store.put
        for _ in range(REPEATS):
            for key in KEYS:
                first[key] = put(key, VALUE, if_version=first[key])

    return lambda: timed(work, REPEATS * len(KEYS))


def lmdb_cas_loop(folder: str, writemap: bool) -> Callable[[], float] | None:
    try:
        import lmdb
    except ImportError:
        return None
    database = lmdb.open(folder, map_size=1 << 28, sync=False, writemap=writemap)

    def put_if(key: bytes, value: bytes, version: int) -> int:
        with database.begin(write=True) as transaction:
            now = transaction.get(key)
            if now is not None and int.from_bytes(now[:8], "little") != version:
                raise ValueError(key)
            transaction.put(key, (version + 1).to_bytes(8, "little") + value)
        return version + 1

    return cas_loop(put_if, dict.fromkeys(KEYS, 0), repeats=1)


@pytest.mark.usefixtures("one_cpu")
def test_cas_1_kib(benchmark: Any) -> None:
    store, peer = filled()
    contenders = {
        "spear": own_cas_loop(store),
        "dict + lock": cas_loop(peer.put_if, {key: peer.get(key)[0] for key in KEYS}),
    }
    goals = {"dict + lock": ("<=", 1.0)}
    with tempfile.TemporaryDirectory() as plain, tempfile.TemporaryDirectory() as mapped:
        lmdb_loops = {
            "LMDB": lmdb_cas_loop(plain, writemap=False),
            "LMDB, writemap": lmdb_cas_loop(mapped, writemap=True),
        }
        contenders |= {name: loop for name, loop in lmdb_loops.items() if loop is not None}
        values = interleaved(benchmark, contenders)
    record(
        "object CAS 1 KiB, 1,000 keys",
        values.pop("spear"),
        "us",
        values,
        goals | ({"LMDB": ("<=", 0.05)} if "LMDB" in values else {}),
        note="LMDB without sync; skipped where it is not installed",
    )


@pytest.mark.usefixtures("one_cpu")
def test_insert_into_100_k_keys(benchmark: Any) -> None:
    def fill(put: Callable[[bytes, bytes], Any]) -> float:
        def work() -> None:
            for key in MANY:
                put(key, VALUE)

        return timed(work, len(MANY))

    values = interleaved(
        benchmark,
        {
            "spear": lambda: fill(ObjectStore(1 << 30).put),
            "dict + lock": lambda: fill(LockedDict().put),
            "dict + lock, copying": lambda: fill(LockedDict().put_copy),
        },
    )
    record(
        "object insert 1 KiB, into 100 k keys",
        values.pop("spear"),
        "us",
        values,
        {},
        note="fresh pages for 100 MB are part of it; the ordered index too, a dict has none",
    )


@pytest.mark.usefixtures("one_cpu")
def test_list_a_page_of_100_k_keys(benchmark: Any) -> None:
    store, cells = ObjectStore(1 << 30), {}
    for key in MANY:
        store.put(key, b"")
        cells[key] = b""

    def dict_page() -> list[bytes]:
        return sorted(key for key in cells if key.startswith(b"/task/key-05"))[:50]

    values = interleaved(
        benchmark,
        {
            "spear": lambda: timed(lambda: store.list(b"/task/key-05", 50), 1),
            "dict, sorted": lambda: timed(dict_page, 1),
        },
    )
    record("object list, 50 of 100 k keys", values.pop("spear"), "us", values, {})


@pytest.mark.usefixtures("one_cpu")
def test_snapshot_of_100_k_keys(benchmark: Any) -> None:
    store, cells = ObjectStore(1 << 30), dict.fromkeys(MANY, (1, b""))
    for key in MANY:
        store.put(key, b"")
    values = interleaved(
        benchmark,
        {
            "spear": lambda: timed(lambda: store.snapshot().close(), 1),
            "dict, copied": lambda: timed(cells.copy, 1),
        },
    )
    record("object snapshot of 100 k keys", values.pop("spear"), "us", values, {})


def memcpy_into(size: int) -> Callable[[bytes], Any]:
    memmove, target = ctypes.memmove, ctypes.create_string_buffer(size)
    return lambda value: memmove(target, value, size)


@pytest.mark.usefixtures("one_cpu")
@pytest.mark.parametrize(
    ("mebibytes", "calls", "of_memcpy", "of_ray"),
    [(1, 300, 3.0, 0.1), (64, 6, 1.3, 1.11)],  # 1.11 of the time: 0.9 of the rate
)
def test_put_large(
    benchmark: Any, ray: Any, mebibytes: int, calls: int, of_memcpy: float, of_ray: float
) -> None:
    value = os.urandom(1 << 20) * mebibytes
    store, copy = ObjectStore(1 << 30), memcpy_into(len(value))

    def repeated(call: Callable[[], Any]) -> Callable[[], float]:
        def work() -> None:
            for _ in range(calls):
                call()

        return lambda: timed(work, calls)

    contenders = {
        "spear": repeated(lambda: store.put(b"k", value)),
        "warm memcpy": repeated(lambda: copy(value)),
    }
    goals = {"warm memcpy": ("<=", of_memcpy)}
    if ray is not None:
        contenders["Ray"] = everywhere(repeated(ray_put(ray, as_array(value))))
        goals["Ray"] = ("<=", of_ray)
    values = interleaved(benchmark, contenders)
    record(
        f"object put {mebibytes} MiB, recycled",
        values.pop("spear"),
        "us",
        values,
        goals,
        note=NO_RAY_NOTE if ray is None else RAY_NOTE,
    )


@pytest.mark.usefixtures("one_cpu")
def test_get_1_mib(benchmark: Any, ray: Any) -> None:
    store = ObjectStore(1 << 28)
    peer = LockedDict()
    value = os.urandom(1 << 20)
    keys = KEYS[:100]
    for key in keys:
        store.put(key, value)
        peer.put(key, value)

    def reads(
        get: Callable[[Any], Any],
        of: Callable[[Any], Any],
        names: Sequence[Hashable] = keys,
        repeats: int = 100,
    ) -> Callable[[], float]:
        def work() -> None:
            for _ in range(repeats):
                for name in names:
                    memoryview(of(get(name)))

        return lambda: timed(work, repeats * len(names))

    contenders = {
        "spear": reads(store.get, lambda view: view),
        "dict + lock": reads(peer.get, lambda cell: cell[1]),
    }
    goals = {}
    if ray is not None:
        array = as_array(value)
        refs = [ray.put(array) for _ in keys]
        assert not ray.get(refs[0]).flags.owndata, "Ray copied: not the peer that was meant"
        contenders["Ray"] = everywhere(reads(ray.get, lambda found: found, refs, repeats=10))
        goals["Ray"] = ("<=", 0.05)
    values = interleaved(benchmark, contenders)
    record(
        "object get 1 MiB, zero copy",
        values.pop("spear"),
        "us",
        values,
        goals,
        note=NO_RAY_NOTE if ray is None else RAY_NOTE,
    )

"""WASI preview 1: what each test guest checks by itself, and the corners that need a host."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

import pytest
import wasm_asm as asm
from guest_runs import MS, assembled, ended, executor, guest, python

from spear._core.executor import Executor
from spear._core.run import Run
from spear.errors import InvalidArgument

BEYOND = 0xFFFFFFF0
EBADF, EFAULT, EINVAL, ENOSYS, ENOTDIR, ENOTSOCK, ENOTSUP, ESPIPE = 8, 21, 28, 52, 54, 57, 58, 70


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


def complete(node: Executor, name: str, *args: str, **more: object) -> Run:
    run = node.start(guest(name), args=(name, *args), **more)
    outcome = ended(run)
    assert outcome.status == "completed", (outcome, run.output)
    return run


@pytest.mark.parametrize("inline", [False, True], ids=["worker", "inline"])
@pytest.mark.parametrize("name", ["bad_pointers", "poll", "pause"])
def test_a_guest_that_checks_by_itself_finds_nothing(node: Executor, name: str, inline: bool):
    assert complete(node, name, inline=inline).output == b""


def test_the_corners_of_descriptors(node: Executor):
    assert complete(node, "descriptors").output == b"two parts\n"


def test_clocks_and_randomness(node: Executor):
    before = int(time.time())
    seen = set()
    for _ in range(5):
        seconds, random = complete(node, "clock_random").output.split()
        assert before <= int(seconds) <= time.time()
        assert len(bytes.fromhex(random.decode())) == 16
        seen.add(random)
    assert len(seen) == 5


INPUTS = {
    "nothing": b"", "a byte": b"x", "a NUL": b"\0", "a page": bytes(range(256)) * 256,
    "uneven": bytes(range(251)) * 1021,
}  # fmt: skip


@pytest.mark.parametrize("read", [1, 7, 65536])
@pytest.mark.parametrize("kind", INPUTS)
def test_input_is_echoed_byte_for_byte(node: Executor, kind: str, read: int):
    data = INPUTS[kind] if read > 1 else INPUTS[kind][:2000]
    run = complete(node, "echo", str(read), stdin=data, log_stdout=False)
    assert run.output == data


# ---- arguments and environment


def listed(node: Executor, args: list[str], env: dict[str, str]) -> tuple[list[str], list[str]]:
    run = node.start(guest("environ"), args=args, env=env)
    assert ended(run).status == "completed"
    lines = run.output.decode("utf-8", "surrogateescape").splitlines()
    return (
        [line[4:] for line in lines if line.startswith("arg ")],
        [line[4:] for line in lines if line.startswith("env ")],
    )


@pytest.mark.parametrize(
    "args",
    [[], ["one"], ["", "", ""], ["a b", "ü", "\udcff", "x" * 5000], [str(n) for n in range(500)]],
    ids=["none", "one", "empty", "odd", "many"],
)
def test_arguments_arrive(node: Executor, args: list[str]):
    assert listed(node, args, {}) == (args, [])


def test_the_environment_arrives_in_its_order_and_is_all_there_is(node: Executor):
    env = {"B": "2", "A": "1", "EMPTY": "", "E": "a=b", "ü": "ö"}
    assert listed(node, ["x"], env) == (["x"], [f"{name}={value}" for name, value in env.items()])
    assert listed(node, ["x"], {}) == (["x"], [])


@pytest.mark.parametrize(
    "more",
    [{"args": ["a\0b"]}, {"env": {"A": "x\0y"}}, {"env": {"A\0": "x"}}],
    ids=["argument", "value", "name"],
)
def test_a_nul_in_the_input_is_refused(node: Executor, more: dict[str, object]):
    with pytest.raises(InvalidArgument, match="NUL"):
        node.start(guest("environ"), **more)


@pytest.mark.parametrize("name", ["", "A=B", "="])
def test_a_variable_needs_a_name_without_an_equals_sign(node: Executor, name: str):
    with pytest.raises(InvalidArgument):
        node.start(guest("environ"), env={name: "x"})


def test_input_of_a_wrong_type_is_refused(node: Executor):
    for more in ({"args": [1]}, {"env": {"A": 1, 2: "x"}}, {"stdin": "text"}, {"stdin": None}):
        with pytest.raises(TypeError):
            node.start(guest("environ"), **more)
            node.start(guest("environ"), args=[b"bytes"])


# ---- single calls: the answer is the exit code


def answer(node: Executor, name: str, params: str, *values: int, **more: object) -> tuple[int, Run]:
    """What one WASI call gives, asked by a guest made for it."""
    rows = [(asm.WASI, name, params, "i"), (asm.WASI, "proc_exit", "i", "")]
    consts = (
        asm.i64_const(value) if letter == "I" else asm.i32_const(value)
        for letter, value in zip(params, values, strict=True)
    )
    body = b"".join(consts) + asm.call(0) + asm.call(1)
    run = node.start(assembled(asm.module(rows, body)), **more)
    outcome = ended(run)
    assert outcome.cause == "exit", outcome
    return outcome.exit_code, run


@pytest.mark.parametrize(
    ("name", "params", "values", "code"),
    [
        ("fd_seek", "iIii", (1, 0, 0, 0), ESPIPE),
        ("fd_tell", "ii", (1, 0), ESPIPE),
        ("fd_tell", "ii", (3, 0), EBADF),
        ("fd_pread", "iiiIi", (0, 0, 0, 0, 0), ESPIPE),
        ("fd_pwrite", "iiiIi", (1, 0, 0, 0, 0), ESPIPE),
        ("fd_sync", "i", (1,), 0),
        ("fd_datasync", "i", (7,), EBADF),
        ("fd_allocate", "iII", (1, 0, 1), EINVAL),
        ("fd_filestat_set_size", "iI", (-1, 0), EBADF),
        ("fd_fdstat_set_flags", "ii", (1, 5), 0),
        ("fd_fdstat_set_flags", "ii", (1, 16), ENOTSUP),
        ("fd_fdstat_set_flags", "ii", (3, 0), EBADF),
        ("fd_filestat_get", "ii", (1, 0), 0),
        ("fd_filestat_get", "ii", (1, 65_473), EFAULT),
        ("fd_filestat_get", "ii", (1, 65_472), 0),
        ("fd_fdstat_get", "ii", (1, 65_512), 0),
        ("fd_fdstat_get", "ii", (1, 65_513), EFAULT),
        ("fd_renumber", "ii", (1, 2), 0),
        ("fd_renumber", "ii", (1, 3), EBADF),
        ("fd_readdir", "iiiIi", (3, 0, 0, 0, 0), EBADF),
        ("path_open", "iiiiiIIii", (3, 0, 0, 0, 0, 0, 0, 0, 0), EBADF),
        ("path_unlink_file", "iii", (0, 0, 0), ENOTDIR),
        ("sock_accept", "iii", (1, 0, 0), ENOTSOCK),
        ("sock_send", "iiiii", (9, 0, 0, 0, 0), EBADF),
        ("proc_raise", "i", (9,), ENOSYS),
        ("random_get", "ii", (0, 65536), 0),
        ("random_get", "ii", (1, 65536), EFAULT),
        ("random_get", "ii", (65536, 0), 0),
        ("random_get", "ii", (65537, 0), EFAULT),
        ("clock_time_get", "iIi", (0, 0, 65_528), 0),
        ("clock_time_get", "iIi", (0, 0, 65_529), EFAULT),
        ("clock_time_get", "iIi", (4, 0, 0), EINVAL),
        ("clock_time_get", "iIi", (-1, 0, 0), EINVAL),
        ("clock_res_get", "ii", (3, 0), 0),
        ("fd_write", "iiii", (1, 0, 1025, 0), EINVAL),
        ("fd_write", "iiii", (1, 0, -1, 0), EINVAL),
        ("fd_write", "iiii", (1, 65_528, 1, 0), 0),
        ("fd_write", "iiii", (1, 65_529, 1, 0), EFAULT),
        ("fd_write", "iiii", (1, 0, 0, 65_533), EFAULT),
        ("fd_read", "iiii", (0, 0, 1025, 0), EINVAL),
        ("poll_oneoff", "iiii", (0, 4096, 0, 8192), EINVAL),
        ("poll_oneoff", "iiii", (0, 4096, 1025, 8192), EINVAL),
        ("poll_oneoff", "iiii", (0, 4096, -1, 8192), EINVAL),
        ("poll_oneoff", "iiii", (65_489, 0, 1, 0), EFAULT),
        ("poll_oneoff", "iiii", (0, 65_505, 1, 0), EFAULT),
        ("poll_oneoff", "iiii", (0, 4096, 1, BEYOND), EFAULT),
        ("args_get", "ii", (BEYOND, 0), EFAULT),
        ("args_sizes_get", "ii", (0, 65_533), EFAULT),
        ("sched_yield", "", (), 0),
    ],
)  # fmt: skip
def test_a_single_call(node: Executor, name: str, params: str, values: tuple[int, ...], code: int):
    assert answer(node, name, params, *values, args=("one", "two"))[0] == code


def subscription(userdata: int, kind: int, what: int, timeout: int = 0, flags: int = 0) -> bytes:
    return struct.pack("<QB7xI4xQQH6x", userdata, kind, what, timeout, 0, flags)


def polled(node: Executor, *subscriptions: bytes, **more: object) -> list[tuple[int, int, int]]:
    """(userdata, error, kind) of each event that one poll gives."""
    count = len(subscriptions)
    rows = [
        (asm.WASI, "poll_oneoff", "iiii", "i"), (asm.WASI, "fd_write", "iiii", "i"),
        (asm.WASI, "proc_exit", "i", ""),
    ]  # fmt: skip
    poll = [0, 4096, count, 8192]
    write = [1, 16384, 2, 12288]
    body = b"".join(map(asm.i32_const, poll)) + asm.call(0) + asm.DROP
    body += b"".join(map(asm.i32_const, write)) + asm.call(1) + asm.call(2)
    vectors = struct.pack("<IIII", 8192, 4, 4096, 32 * count)
    data = [(0, b"".join(subscriptions)), (16384, vectors)]
    run = node.start(assembled(asm.module(rows, body, data=data)), **more)
    assert ended(run).exit_code == 0
    (found,) = struct.unpack_from("<I", run.output)
    events = [struct.unpack_from("<QHB", run.output, 4 + 32 * n) for n in range(found)]
    return [tuple(event) for event in events]


ABSTIME, CLOCK, READ, WRITE = 1, 0, 1, 2


def test_a_poll_gives_all_that_is_ready(node: Executor):
    events = polled(
        node, subscription(1, WRITE, 1), subscription(2, CLOCK, 1, 10**15),
        subscription(3, READ, 0), subscription(4, WRITE, 2), subscription(5, CLOCK, 0, 0),
    )  # fmt: skip
    assert events == [(1, 0, WRITE), (3, 0, READ), (4, 0, WRITE), (5, 0, CLOCK)]


def test_a_poll_gives_errors_as_events(node: Executor):
    events = polled(
        node, subscription(1, READ, 1), subscription(2, WRITE, 0), subscription(3, READ, 99),
        subscription(4, CLOCK, 9, 10**15), subscription(5, 7, 0),
        subscription(6, CLOCK, 1, 2**64 - 1),
    )  # fmt: skip
    assert events == [
        (1, EBADF, READ), (2, EBADF, WRITE), (3, EBADF, READ), (4, EINVAL, CLOCK), (5, EINVAL, 7)
    ]  # fmt: skip


@pytest.mark.parametrize("clock", [0, 1, 2, 3])
def test_each_clock_ends_a_wait(node: Executor, clock: int):
    assert polled(node, subscription(9, CLOCK, clock, 3 * MS)) == [(9, 0, CLOCK)]
    assert polled(node, subscription(9, CLOCK, clock, 3 * MS, ABSTIME)) == [(9, 0, CLOCK)]


def test_clocks_due_together_come_together(node: Executor):
    due = [subscription(n, CLOCK, 1, 5 * MS) for n in range(20)]
    assert polled(node, *due) == [(n, 0, CLOCK) for n in range(20)]


def test_a_wait_without_an_end_is_ended_from_outside(node: Executor):
    rows = [(asm.WASI, "poll_oneoff", "iiii", "i")]
    body = b"".join(map(asm.i32_const, (0, 4096, 1, 8192))) + asm.call(0) + asm.DROP
    wasm = asm.module(rows, body, data=[(0, subscription(1, CLOCK, 1, 2**64 - 1))])
    assert ended(node.start(assembled(wasm), timeout_ns=50 * MS)).cause == "deadline"


@pytest.mark.parametrize("events", [0, 8, 16, 40])
def test_events_may_overwrite_their_subscriptions(node: Executor, events: int):
    """The guest's own loss: it gets some answer or waits, and can still be ended."""
    rows = [(asm.WASI, "poll_oneoff", "iiii", "i")]
    for result in (events, 0, 44):
        body = b"".join(map(asm.i32_const, (0, events, 3, result))) + asm.call(0) + asm.DROP
        due = b"".join(subscription(2**64 - 1, CLOCK, n, 2 * MS) for n in range(3))
        run = node.start(assembled(asm.module(rows, body, data=[(0, due)])), timeout_ns=100 * MS)
        assert ended(run).cause in ("exit", "deadline")


def test_a_read_that_overwrites_its_own_vectors_is_answered():
    """In a process of its own: what goes wrong here is a crash."""
    probe = """
import struct
import wasm_asm as asm
from guest_runs import assembled, ended, executor
with executor(workers=1) as node:
    for second in (0xFFFFFFF0, 65530, 8, 0):
        vectors = struct.pack("<IIII", 8, 8, 100, 8)
        body = b"".join(map(asm.i32_const, (0, 0, 2, 64))) + asm.call(0) + asm.call(1)
        rows = [(asm.WASI, "fd_read", "iiii", "i"), (asm.WASI, "proc_exit", "i", "")]
        module = assembled(asm.module(rows, body, data=[(0, vectors)]))
        run = node.start(module, stdin=struct.pack("<II", second, 4096) + bytes(5000))
        print(ended(run).cause, run.outcome.exit_code in (0, 21))
"""
    done = python(probe)
    assert (done.returncode, done.stdout) == (0, "exit True\n" * 4), done.stderr


def test_a_yield_lets_others_run():
    """Two guests that yield for ever on one worker: a third gets its turn."""
    body = asm.LOOP + asm.call(0) + asm.DROP + asm.BR_0 + asm.END
    wasm = asm.module([(asm.WASI, "sched_yield", "", "i")], body)
    with executor(workers=1) as node:
        endless = [node.start(assembled(wasm)) for _ in range(2)]
        for _ in range(10):
            assert ended(node.start(guest("hello"))).status == "completed"
        for run in endless:
            run.cancel()
            assert ended(run).cause == "cancelled"
        assert ended(node.start(assembled(wasm), timeout_ns=30 * MS)).cause == "deadline"


def test_an_exit_in_a_start_function_ends_the_run(node: Executor):
    row = (asm.WASI, "proc_exit", "i", "")
    wasm = asm.module([row], asm.UNREACHABLE, start=asm.i32_const(7) + asm.call(0))
    assert ended(node.start(assembled(wasm))).exit_code == 7


def test_calls_work_in_a_start_function(node: Executor):
    """Waiting ones too; the memory is known before the instance is."""
    sleep = asm.i32_const(2) + asm.call(1)
    write = b"".join(map(asm.i32_const, (1, 0, 1, 64))) + asm.call(0) + asm.DROP
    rows = [(asm.WASI, "fd_write", "iiii", "i"), ("spear", "sleep_ms", "i", "")]
    data = [(0, struct.pack("<II", 16, 6)), (16, b"early\n")]
    run = node.start(assembled(asm.module(rows, sleep + write, start=sleep + write, data=data)))
    assert ended(run).status == "completed"
    assert run.output == b"early\nearly\n"


def test_a_memory_of_another_name_is_no_memory(node: Executor):
    rows = [(asm.WASI, "random_get", "ii", "i"), (asm.WASI, "proc_exit", "i", "")]
    body = asm.i32_const(0) + asm.i32_const(4) + asm.call(0) + asm.call(1)
    run = node.start(assembled(asm.module(rows, body, memory_name="mem")))
    assert ended(run).exit_code == EFAULT
    assert "exports no 'memory'" in run.read_logs()[0].message

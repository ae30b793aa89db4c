"""Compiling in a child: what comes back, what ends a child, and what it leaves behind (nothing)."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import compile_bombs
import pytest
import wasm_asm as asm
from guest_runs import HANG_S, MS, ROOT, ended, executor, guest_bytes, python
from wasm_bytes import export, section, vector

from spear._core import compiler as compiler_module
from spear._core.compiler import PROGRAM, Compiler, _Child
from spear._core.engine import Engine, library
from spear.errors import (
    EngineUnavailable,
    ModuleInvalid,
    ModuleLimit,
    NodeBusy,
    NodeClosed,
    SpearError,
)

SLOW, LARGE, SMALL = compile_bombs.slow(), compile_bombs.large(), asm.module()
NOT_VALID = asm.module(body=asm.I32_ADD)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No descriptor and no child more than before, whatever a test did."""
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def compiled(wasm: bytes, compiler: Compiler | None = None) -> bytes:
    return (compiler or Compiler()).compile(library()[1], wasm)


def exporting_twice(name: str) -> bytes:
    once = section(7, vector(export("_start", 0, 0), export("memory", 2, 0)))
    twice = section(7, vector(export(name, 0, 0), export(name, 0, 0)))
    assert SMALL.count(once) == 1
    return SMALL.replace(once, twice)


class Compiling(threading.Thread):
    """Compiles `wasm` on a thread of its own; `result` is the code or the error."""

    def __init__(self, compiler: Compiler, wasm: bytes) -> None:
        super().__init__()
        self._compiler, self._wasm = compiler, wasm
        self.result: bytes | Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = compiled(self._wasm, self._compiler)
        except SpearError as error:
            self.result = error

    def ended(self) -> bytes | Exception | None:
        self.join(HANG_S)
        assert not self.is_alive()
        return self.result


def until(holds: Callable[[], bool]) -> None:
    """Looks again and again; a hang is the test's timeout."""
    while not holds():
        os.sched_yield()


def child_of(compiler: Compiler) -> int:
    until(lambda: bool(compiler.running))
    return compiler.running[0]


# ---- what comes back


def test_the_engine_takes_what_the_child_compiled():
    module = Engine(slots=2).load(guest_bytes("hello"))
    assert module.source == "compiled"
    with executor() as node:
        run = node.start(module)
        assert ended(run).status == "completed"
        assert run.output == b"Hello, SPEAR!\n"


def test_the_same_module_gives_the_same_code():
    assert compiled(SMALL) == compiled(SMALL)


def test_code_that_counts_fuel_is_other_code_and_only_such_an_engine_takes_it():
    assert Compiler().compile(library()[1], SMALL, metered=True) != compiled(SMALL)
    for metered in (False, True):
        module = Engine(slots=2, metered=metered).load(guest_bytes("noop"))
        with executor() as node:
            outcome = ended(node.start(module))
            assert (outcome.cause, outcome.fuel is not None) == ("exit", metered)


def test_what_is_not_valid_is_refused_with_the_engines_reason():
    with pytest.raises(ModuleInvalid, match=r"^the module is not valid: ") as caught:
        compiled(NOT_VALID)
    assert "function[0]" in str(caught.value)
    assert "type mismatch" in str(caught.value)


def test_a_reason_of_any_length_comes_in_part():
    """The engine's reason holds the export's name, here of 100,000 bytes."""
    with pytest.raises(ModuleInvalid, match="duplicate export") as caught:
        compiled(exporting_twice("n" * 100_000))
    assert len(str(caught.value)) < 5000


# ---- limits


def test_a_module_that_takes_too_long_is_refused():
    with pytest.raises(ModuleLimit) as caught:
        compiled(SLOW, Compiler(timeout_ns=200 * MS))
    assert str(caught.value).startswith(
        "the module took longer than 200ms to compile (compile.timeout): "
    )
    assert caught.value.key == "compile.timeout"


def test_a_module_that_takes_too_much_memory_is_refused():
    with pytest.raises(ModuleLimit) as caught:
        compiled(LARGE, Compiler(memory_bytes_max=64 << 20))
    assert str(caught.value).startswith(
        "the module takes more than 64MiB of memory to compile (compile.memory): "
    )
    assert caught.value.key == "compile.memory"


def test_the_compiler_goes_on_after_a_bomb():
    compiler = Compiler(timeout_ns=200 * MS, children_max=1)
    for _ in range(2):
        with pytest.raises(ModuleLimit):
            compiled(SLOW, compiler)
    compiler = Compiler(memory_bytes_max=64 << 20, children_max=1)
    for _ in range(2):
        with pytest.raises(ModuleLimit):
            compiled(LARGE, compiler)
        assert compiled(SMALL, compiler)


def test_no_room_for_the_childs_threads_is_busy():
    """What the engine's thread pool says where the system gives it no thread."""
    child = _Child()
    child.signal = signal.SIGABRT
    child.text = (
        b"panicked: ThreadPoolBuildError { kind: IOError(Os { code: 11, kind: WouldBlock }) }"
    )
    with pytest.raises(NodeBusy, match="no room for the compiler's threads"):
        Compiler()._refuse(child, True)


def test_a_child_holds_its_limits_and_nothing_of_its_parent():
    compiler = Compiler(timeout_ns=3600 * 10**9, memory_bytes_max=512 << 20)
    handle = os.open("/", os.O_RDONLY)
    os.set_inheritable(handle, True)
    try:
        compiling = Compiling(compiler, SLOW)
        folder = Path(f"/proc/{child_of(compiler)}")
        until(lambda: "Max open files            0 " in (folder / "limits").read_text())
        limits = (folder / "limits").read_text()
        assert f"Max data size             {512 << 20} " in limits
        assert f"Max file size             {512 << 20} " in limits
        assert "Max core file size        0 " in limits
        assert "Max cpu time              unlimited" not in limits
        assert sorted(os.listdir(folder / "fd")) == ["0", "1", "2"]
        assert (folder / "environ").read_bytes() == b""
        assert "NoNewPrivs:\t1" in (folder / "status").read_text()
        assert (folder / "oom_score_adj").read_text() == "1000\n"
        assert os.getpgid(int(folder.name)) == int(folder.name)
    finally:
        os.close(handle)
        compiler.close()
    assert isinstance(compiling.ended(), NodeClosed)


def run_program(*arguments: str, wasm: bytes = SMALL) -> subprocess.CompletedProcess[bytes]:
    """The program alone, as a filter."""
    module = os.memfd_create("module")
    try:
        os.write(module, wasm)
        return subprocess.run(
            [PROGRAM, *arguments], stdin=module, capture_output=True, timeout=HANG_S, env={}
        )
    finally:
        os.close(module)


def test_the_program_is_a_filter():
    result = run_program(library()[1], "0", str(1 << 28), str(1 << 28), "30", "1")
    assert result.stdout == compiled(SMALL)
    assert result.stderr == b"\0c%d" % len(result.stdout)


def test_the_processors_time_is_limited_too():
    result = run_program(library()[1], "0", str(1 << 30), str(1 << 30), "1", "1", wasm=SLOW)
    assert result.returncode == -signal.SIGXCPU


@pytest.mark.parametrize("wrong", ["", "-1", "1x", " 1", "99999999999999999999999"])
def test_the_program_refuses_numbers_that_are_none(wrong: str):
    result = run_program(library()[1], "0", wrong, "1", "1", "1")
    assert result.stderr == b"\0nnot a number: " + wrong.encode()


def test_the_program_refuses_wrong_arguments_no_module_and_no_library():
    limits = ("0", str(1 << 28), str(1 << 28), "30", "1")
    assert run_program().stderr.startswith(b"\0nwrong arguments: LIBRARY")
    assert run_program(library()[1], *limits, wasm=b"").stderr == b"\0nstdin: there is no module"
    assert run_program("/no/such.so", *limits).stderr.startswith(b"\0nthe engine's library: ")


def test_a_library_that_does_not_load_is_named():
    with pytest.raises(EngineUnavailable, match=r"the compiler cannot work: .*no/such\.so"):
        Compiler().compile("/no/such.so", SMALL)


# ---- what ends a child


def test_a_child_killed_from_outside_is_busy_and_the_next_compiles():
    compiler = Compiler(children_max=1)
    compiling = Compiling(compiler, SLOW)
    os.kill(child_of(compiler), signal.SIGKILL)
    assert isinstance(compiling.ended(), NodeBusy)
    assert "killed from outside" in str(compiling.result)
    assert compiled(SMALL, compiler)


def test_a_crash_of_the_compiler_is_named():
    compiler = Compiler()
    compiling = Compiling(compiler, SLOW)
    pid = child_of(compiler)
    until(lambda: "\nThreads:\t1\n" not in Path(f"/proc/{pid}/status").read_text())
    os.kill(pid, signal.SIGABRT)
    assert isinstance(compiling.ended(), ModuleInvalid)
    assert str(compiling.result) == "the compiler crashed on the module: SIGABRT"


def test_what_the_engine_said_before_it_crashed_is_told_in_short():
    error = compiler_module._crashed(signal.SIGSEGV, "thread 'x'\npanicked at y\n" + "z" * 1000)
    assert str(error).startswith(
        "the compiler crashed on the module: SIGSEGV, thread 'x' panicked at y zz"
    )
    assert len(str(error)) < 400
    assert str(compiler_module._crashed(0, "")).endswith(": it ended without a word")


def test_closing_ends_what_compiles_and_refuses_what_comes():
    compiler = Compiler(children_max=2)
    compiling = [Compiling(compiler, SLOW) for _ in range(4)]
    until(lambda: len(compiler.running) == 2)
    compiler.close()
    assert {type(each.ended()) for each in compiling} == {NodeClosed}
    with pytest.raises(NodeClosed):
        compiled(SMALL, compiler)


def test_who_works_long_makes_way_as_far_as_there_is_room():
    """Two bombs stand aside one after the other; a third has to keep its place."""
    compiler = Compiler(timeout_ns=10**12, children_max=1, long_max=2, brief_ns=50 * MS)
    bombs = [Compiling(compiler, compile_bombs.slow(512 + n)) for n in range(2)]
    until(lambda: len(compiler.running) == 2)
    assert compiled(SMALL, compiler)
    until(lambda: [os.getpriority(os.PRIO_PROCESS, pid) for pid in compiler.running] == [19, 19])
    assert all(bomb.is_alive() for bomb in bombs)
    bombs.append(Compiling(compiler, compile_bombs.slow(514)))
    until(lambda: len(compiler.running) == 3)
    late = Compiling(compiler, SMALL)
    os.kill(compiler.running[0], signal.SIGKILL)  # any of them: a place is free now
    assert isinstance(late.ended(), bytes)
    compiler.close()
    assert {type(bomb.ended()) for bomb in bombs} == {NodeBusy, NodeClosed}


def test_how_many_may_work_long_goes_by_memory():
    assert [compiler_module._long_max(size) for size in (1, 1 << 60)] == [
        compiler_module.LONG_MAX,
        1,
    ]


def test_at_most_so_many_children_live_at_once(monkeypatch: pytest.MonkeyPatch):
    steps: list[str] = []
    start, wait = _Child.start, _Child.wait

    def starting(child: _Child, *given: object) -> None:
        steps.append("start")
        start(child, *given)  # type: ignore[arg-type]

    def waiting(child: _Child) -> None:
        wait(child)
        steps.append("end")

    monkeypatch.setattr(_Child, "start", starting)
    monkeypatch.setattr(_Child, "wait", waiting)
    compiler = Compiler(timeout_ns=100 * MS, children_max=1)  # too short to work long
    compiling = [Compiling(compiler, SLOW) for _ in range(5)]
    assert {type(each.ended()) for each in compiling} == {ModuleLimit}
    assert steps == ["start", "end"] * 5


INTERRUPTED = """
import os, signal, threading
import compile_bombs
from spear._core.compiler import Compiler
from spear._core.engine import library
compiler, pids = Compiler(), []
def interrupt():
    while not compiler.running:
        os.sched_yield()
    pids.extend(compiler.running)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    compiler.compile(library()[1], compile_bombs.slow())
except KeyboardInterrupt:
    print("interrupted")
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child")
try:
    os.kill(pids[0], 0)
except ProcessLookupError:
    print("gone")
"""


def test_an_interrupt_ends_the_child():
    result = python(INTERRUPTED)
    assert (result.stdout, result.stderr) == ("interrupted\nno child\ngone\n", "")


ORPHANED = """
import os, signal, sys, threading
import compile_bombs
from spear._core.compiler import Compiler
from spear._core.engine import library
compiler = Compiler(timeout_ns=3600 * 10**9)
def tell():
    while not compiler.running:
        os.sched_yield()
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
threading.Thread(target=tell).start()
def show():
    while not compiler.running:
        os.sched_yield()
    print(compiler.running[0], flush=True)
threading.Thread(target=show).start()
compiler.compile(library()[1], compile_bombs.slow())
"""


def test_a_child_ends_with_its_parent():
    with subprocess.Popen(
        [sys.executable, "-c", ORPHANED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "tests"), str(ROOT)))},
    ) as parent:  # fmt: skip
        assert parent.stdin is not None
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.stdin.write("die\n")
            parent.stdin.flush()
            assert parent.wait(HANG_S) == -signal.SIGKILL
            ready, _, _ = select.select([child], [], [], HANG_S)
            assert ready == [child], "the child outlived its parent"
        finally:
            os.close(child)


# ---- where it is started


LOADS = "Engine(slots=1).load(asm.module()).source"
SETTING = "import os, signal, wasm_asm as asm\nfrom spear._core.engine import Engine\n"


def test_closed_streams_are_no_trouble():
    code = f"os.close(0); os.close(1); os.write(2, {LOADS}.encode())"
    assert python(SETTING + code).stderr == "compiled"


def test_a_parent_whose_children_are_waited_for_elsewhere_compiles():
    code = f"signal.signal(signal.SIGCHLD, signal.SIG_IGN); print({LOADS})"
    assert python(SETTING + code).stdout == "compiled\n"


def test_blocked_and_ignored_signals_are_not_the_childs():
    """SIGXCPU ends it though the parent ignores and blocks it."""
    code = (
        "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))\n"
        "from spear._core.compiler import _Child; import threading, compile_bombs\n"
        "from spear._core.compiler import Compiler\n"
        "from spear._core.engine import library\n"
        "c = Compiler()\n"
        "def end():\n"
        "    while not c.running: os.sched_yield()\n"
        "    os.kill(c.running[0], signal.SIGXCPU)\n"
        "threading.Thread(target=end).start()\n"
        "try: c.compile(library()[1], compile_bombs.slow())\n"
        "except Exception as error: print(type(error).__name__, error.key)\n"
    )
    assert python(SETTING + code).stdout == "ModuleLimit compile.timeout\n"


def test_a_forked_and_a_daemonised_parent_compiles():
    code = (
        "assert Engine(slots=1).load(asm.module()); pid = os.fork()\n"
        "if pid == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        out = os.dup(1); [os.close(fd) for fd in (0, 1, 2)]; os.chdir('/')\n"
        f"        os.write(out, {LOADS}.encode())\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0)"
    )
    assert python(SETTING + code).stdout == "compiled"


def test_it_works_without_proc():
    code = f"assert not os.path.exists('/proc/self'); print({LOADS})"
    hidden = subprocess.run(
        ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh",
         sys.executable, "-c", SETTING + code],
        capture_output=True, text=True, timeout=HANG_S, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    if "unshare" in hidden.stderr or "mount:" in hidden.stderr:
        pytest.skip(f"no mount namespace here: {hidden.stderr.strip()}")
    assert hidden.stdout == "compiled\n", hidden.stderr


def test_descriptors_used_up_are_busy():
    code = (
        "import resource; engine = Engine(slots=1); engine.load(asm.module())\n"
        "top = os.dup(0); resource.setrlimit(resource.RLIMIT_NOFILE, (top + 2, top + 2))\n"
        "try: engine.load(asm.module(body=asm.UNREACHABLE))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    said = python(SETTING + code).stdout
    assert said == f"NodeBusy no room to start the compiler: {os.strerror(errno.EMFILE)}\n"


def test_a_program_that_is_missing_or_may_not_be_run_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    path = tmp_path / "compilechild"
    monkeypatch.setattr(compiler_module, "PROGRAM", str(path))
    with pytest.raises(EngineUnavailable, match=f"{path} cannot be started: No such file"):
        compiled(SMALL)
    path.write_bytes(b"")
    with pytest.raises(EngineUnavailable, match=f"{path} cannot be started: Permission denied"):
        compiled(SMALL)


# ---- what a child says


@pytest.mark.parametrize(
    ("said", "kind", "text"),
    [
        (b"", "", b""),
        (b"panicked", "", b"panicked"),
        (b"\0", "", b"\0"),
        (b"\0x12", "", b"\0x12"),
        (b"\0c12", "c", b"12"),
        (b"warning\n\0iwhy", "i", b"why"),
        (b"\0c1\0nno", "n", b"no"),
    ],
)
def test_the_last_word_counts(said: bytes, kind: str, text: bytes):
    child = _Child()
    child.text = said
    child._understand()
    assert (child.kind, child.text) == (kind, text)


def test_code_of_another_length_than_said_is_not_taken():
    child = _Child()
    child._code, child.text = os.memfd_create("code"), b"3"
    os.write(child._code, b"abcd")
    with pytest.raises(ModuleInvalid, match=r"crashed .*'3' bytes, there are 4"):
        child.code()


def test_a_name_in_the_module_cannot_speak_for_the_child():
    """The engine's reason holds the name; what looks like a word of the child's is none."""
    for name in ("x\0c0", "\0nno", "\0"):
        with pytest.raises(ModuleInvalid, match="duplicate export"):
            compiled(exporting_twice(name))

"""Compiles modules, each in a child process with limits of its own.

The rule: what a module does to the compiler ends with the child, whose rules are compilechild.c's;
it has no environment and three descriptors: the module, the code, the pipe of its words, whose end
is its end. One that works long does so beside the others, with what they leave of the processors,
as far as the machine has memory for such. Every child that was started is waited for, whatever
interrupts. What comes back is believed as far as a compile in this process would be: it was
compiled by our own program.
"""

from __future__ import annotations

import contextlib
import errno
import os
from _queue import Empty, SimpleQueue
from _signal import SIGKILL, SIGPIPE, SIGXCPU, SIGXFSZ  # type: ignore[import-not-found]
from _thread import allocate_lock

from spear.clock import Clock
from spear.config import format_duration, format_size
from spear.errors import EngineUnavailable, ModuleInvalid, ModuleLimit, NodeBusy, NodeClosed

PROGRAM = os.path.join(os.path.dirname(__file__), "compilechild")
TIMEOUT_NS, MEMORY_BYTES_MAX = 30 * 10**9, 1 << 30
BRIEF_NS = 500 * 10**6  # most modules take a tenth of it
LONG_MAX, _MEMORY_SHARE = 8, 4  # at most so many, in a quarter of the machine's memory
_NICE = 19
_THREADS_MAX = 8  # of one child
_STREAMS = 3  # the descriptors that a child gets
_CRASH_CHARACTERS_MAX = 300  # of what the engine said before a crash
_READ_BYTES = _WORDS_BYTES_MAX = 1 << 16
_NO_ROOM = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_NO_MEMORY = (b"memory allocation of", b"Cannot allocate memory")
_NO_THREAD = b"ThreadPoolBuildError"
_SMALLER = "give it more, or make the module's functions smaller or fewer"


class Compiler:
    """At most `children_max` children at once (0: one a core), and `long_max` beside them (0: by
    the machine's memory) that have worked for `brief_ns`; who comes then waits."""

    def __init__(
        self, *, timeout_ns: int = TIMEOUT_NS, memory_bytes_max: int = MEMORY_BYTES_MAX,
        children_max: int = 0, long_max: int = 0, brief_ns: int = BRIEF_NS,
        clock: Clock | None = None,
    ) -> None:  # fmt: skip
        cores = len(os.sched_getaffinity(0))
        self._timeout_ns, self._memory_bytes_max = timeout_ns, memory_bytes_max
        self._threads = min(cores, _THREADS_MAX)
        self._clock = clock or Clock()
        self._brief_ns = brief_ns
        self._tickets = _tickets(children_max or cores)
        self._long_tickets = _tickets(long_max or _long_max(memory_bytes_max))
        self._running: set[_Child] = set()
        self._lock = allocate_lock()
        self._closed = False

    @property
    def running(self) -> list[int]:
        """Process ids of the children at work."""
        with self._lock:
            return [child.pid for child in self._running]

    def compile(self, library: str, wasm: bytes, *, metered: bool = False) -> bytes:
        """Code for an engine, `metered` or not, of the file `library`. Raises ModuleInvalid (also
        where the compiler crashed on the module), ModuleLimit (time, memory), NodeBusy (no room for
        a child, or it was killed from outside), NodeClosed, EngineUnavailable."""
        held, left_ns = self._tickets, self._timeout_ns
        held.get()
        try:
            child = _Child()
            try:
                self._begin(child, library, wasm, metered)
                while not (in_time := child.listen(self._clock, min(self._brief_ns, left_ns))):
                    left_ns -= self._brief_ns
                    if left_ns <= 0:
                        break
                    if held is self._tickets:
                        held = self._make_way(child)
            finally:
                self._end(child)
            return child.code() if child.kind == "c" else self._refuse(child, in_time)
        except OSError as error:
            raise _not_started(error) from error
        finally:
            held.put(None)

    def _make_way(self, child: _Child) -> SimpleQueue[None]:
        """For who waits: gives the ticket back, if there is one for those that work long. Where
        the one goes that the child has from here on."""
        try:
            self._long_tickets.get_nowait()
        except Empty:
            return self._tickets
        child.step_back()
        self._tickets.put(None)
        return self._long_tickets

    def close(self) -> None:
        """Ends the children at work; their modules, and those that wait, get NodeClosed."""
        with self._lock:
            self._closed = True
            for child in self._running:
                child.kill()

    def _begin(self, child: _Child, library: str, wasm: bytes, metered: bool) -> None:
        memory, seconds = self._memory_bytes_max, -(-self._timeout_ns // 10**9)
        numbers = (int(metered), memory, memory, seconds * self._threads, self._threads)
        with self._lock:
            if self._closed:
                raise NodeClosed("the node is closed and compiles nothing more")
            child.start((PROGRAM, library, *map(str, numbers)), wasm)
            self._running.add(child)

    def _end(self, child: _Child) -> None:
        with self._lock:  # so that `close` kills only what nobody has waited for
            self._running.discard(child)
        child.wait()

    def _refuse(self, child: _Child, in_time: bool) -> bytes:
        """Raises what says why there is no code."""
        text = child.text.decode("utf-8", "replace")
        out_of_memory = any(sign in child.text for sign in _NO_MEMORY)
        if child.kind == "n":
            raise EngineUnavailable(f"the compiler cannot work: {text}")
        if child.kind == "i" and not out_of_memory:
            raise ModuleInvalid(f"the module is not valid: {text}")
        if child.signal == SIGXFSZ or out_of_memory:
            raise ModuleLimit(
                f"the module takes more than {format_size(self._memory_bytes_max)} of memory to "
                f"compile (compile.memory): {_SMALLER}",
                key="compile.memory",
            )
        if child.signal == SIGKILL and self._closed:
            raise NodeClosed("the node was closed while it compiled the module")
        if child.signal == SIGXCPU or (child.signal == SIGKILL and not in_time):
            raise ModuleLimit(
                f"the module took longer than {format_duration(self._timeout_ns)} to compile "
                f"(compile.timeout): {_SMALLER}",
                key="compile.timeout",
            )
        if _NO_THREAD in child.text:
            raise NodeBusy("no room for the compiler's threads: come back later")
        raise _crashed(child.signal, text)


class _Child:
    """One compile: `kind` and `text` are what it said last (see compilechild.c), or "" and all it
    said; `signal` is what ended it, 0 where nothing did or where that cannot be known."""

    def __init__(self) -> None:
        self.pid = self._code = self._words = -1
        self.kind, self.text, self.signal = "", b"", 0

    def start(self, argv: tuple[str, ...], wasm: bytes) -> None:
        module = written = -1
        try:
            module = _above_streams(os.memfd_create("spear-module"))
            self._code = _above_streams(os.memfd_create("spear-code"))
            self._words, written = map(_above_streams, os.pipe())
            _write_all(module, wasm)
            streams = enumerate((module, self._code, written))
            self.pid = os.posix_spawn(
                argv[0], argv, {},
                file_actions=[(os.POSIX_SPAWN_DUP2, handle, own) for own, handle in streams],
                setpgroup=0,  # what a terminal sends to us is not for it
                setsigmask=(),
                setsigdef=(SIGPIPE, SIGXFSZ, SIGXCPU),
            )  # fmt: skip
        finally:
            _close(module)
            _close(written)

    def listen(self, clock: Clock, timeout_ns: int) -> bool:
        """Waits until it has said how it went, or is gone: True; False where time is up."""
        import select  # here and below: a run whose module is cached compiles nothing

        until_ns = clock.monotonic_ns() + timeout_ns
        ready = select.poll()
        ready.register(self._words, select.POLLIN)
        while not self.kind:
            left_ms = -(-(until_ns - clock.monotonic_ns()) // 10**6)
            if left_ms <= 0 or not ready.poll(left_ms):
                return False
            part = os.read(self._words, _READ_BYTES)
            if not part:
                return True
            self.text = (self.text + part)[-_WORDS_BYTES_MAX:]
            self._understand()
        return True

    def _understand(self) -> None:
        _, nul, last = self.text.rpartition(b"\0")
        if nul and last[:1] in (b"c", b"i", b"n"):
            self.kind, self.text = last[:1].decode(), last[1:]

    def code(self) -> bytes:
        """What it compiled, as long as it said, and no descriptor of it any more."""
        with open(self._code, "rb") as file:
            self._code = -1
            file.seek(0)  # the child wrote at the same position
            data = file.read()
        if str(len(data)).encode() != self.text:
            raise ModuleInvalid(
                "the compiler crashed on the module: it said "
                f"{self.text.decode('ascii', 'replace')!r} bytes, there are {len(data)}"
            )
        return data

    def step_back(self) -> None:
        """All its threads: they are a group of processes of their own."""
        with contextlib.suppress(OSError):  # it has ended
            os.setpriority(os.PRIO_PGRP, self.pid, _NICE)

    def kill(self) -> None:
        try:
            os.kill(self.pid, SIGKILL)
        except ProcessLookupError:
            return

    def wait(self) -> None:
        """Ends it if it has not ended, waits for it, and closes all but its code."""
        try:
            if self.pid > 0:
                self._reap()
        finally:
            _close(self._words)
            if self.kind != "c":
                _close(self._code)

    def _reap(self) -> None:
        try:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if not found:
                self.kill()
                _, status = os.waitpid(self.pid, 0)
        except ChildProcessError:  # this process has its children waited for elsewhere
            return
        self.signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def _tickets(count: int) -> SimpleQueue[None]:
    made: SimpleQueue[None] = SimpleQueue()
    for _ in range(count):
        made.put(None)
    return made


def _long_max(bytes_max: int) -> int:
    """How many may work long, if each takes all the memory it may."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(LONG_MAX, memory // _MEMORY_SHARE // bytes_max))


def _not_started(error: OSError) -> NodeBusy | EngineUnavailable:
    if error.errno in _NO_ROOM:
        return NodeBusy(f"no room to start the compiler: {error.strerror}")
    return EngineUnavailable(
        f"the compiler {PROGRAM} cannot be started: {error.strerror}; build it: make demo"
    )


def _crashed(signal: int, text: str) -> NodeBusy | ModuleInvalid:
    if signal == SIGKILL:
        return NodeBusy(
            "the compiler was killed from outside while it worked on the module; if the kernel "
            "did that, the machine is short of memory"
        )
    from signal import Signals

    how = Signals(signal).name if signal else "it ended without a word"
    said = " ".join(text.split())[:_CRASH_CHARACTERS_MAX]
    return ModuleInvalid(f"the compiler crashed on the module: {how}{said and ', ' + said}")


def _above_streams(handle: int) -> int:
    """The same file by a number that is none of a child's streams."""
    if handle >= _STREAMS:
        return handle
    from fcntl import F_DUPFD_CLOEXEC, fcntl

    try:
        return fcntl(handle, F_DUPFD_CLOEXEC, _STREAMS)
    finally:
        os.close(handle)


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _close(handle: int) -> None:
    if handle >= 0:
        os.close(handle)

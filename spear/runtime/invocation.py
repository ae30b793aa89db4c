"""What a runtime is told to run: all values, no policy; defaults are the caller's business."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from spear._core.filetable import Directory


class Invocation:
    """One run of a program. `args` begins with the program's own name; sizes are in bytes.
    `call_args` are those of the function `entry`, which `_start` has none of.

    `log_lines_max` lines are kept for a reader, the newest; with `log_waits` the guest waits where
    so many are unread, so no line is lost to who reads until the end, and each line counts 32 bytes
    more towards `log_bytes_max`. With `log_stdout` each line
    of stdout is a log line too; with `inline` the first slice runs on the calling thread. `fuel`
    limits the work of a metered program (None: no limit); `priority` is 0 (first) to 255. `task`
    is whose objects the program may use, beside those of the tasks in `object_grants`; `dirs` are
    the only part of the host that it can reach, `descriptors_max` bounds what it may have open.
    `execution_id` is what the guest is told its execution is called; `context` is what handlers of
    its calls are given with each of them. `prepared` is what a runtime makes of one that many runs
    are like; it alone reads that.
    """

    __slots__ = (
        "args", "call_args", "context", "descriptors_max", "dirs", "entry", "env", "execution_id",
        "fuel", "inline",
        "log_bytes_max", "log_lines_max", "log_stdout", "log_waits",
        "memory_bytes_max", "object_grants", "output_bytes_max", "prepared", "priority", "stdin",
        "task", "timeout_ns",
    )  # fmt: skip

    prepared: Any

    def __init__(
        self,
        *,
        timeout_ns: int,
        memory_bytes_max: int,
        output_bytes_max: int,
        log_bytes_max: int,
        entry: str = "_start",
        call_args: Sequence[int | float] = (),
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        log_lines_max: int = 2048,
        log_waits: bool = False,
        log_stdout: bool = True,
        dirs: Sequence[Directory] = (),
        descriptors_max: int = 1024,
        fuel: int | None = None,
        priority: int = 128,
        inline: bool = False,
        task: str = "main",
        object_grants: Sequence[str] = (),
        execution_id: str = "",
        context: Any = None,
    ) -> None:
        self.timeout_ns, self.memory_bytes_max = timeout_ns, memory_bytes_max
        self.output_bytes_max, self.log_bytes_max = output_bytes_max, log_bytes_max
        self.log_lines_max, self.log_waits = log_lines_max, log_waits
        self.dirs, self.descriptors_max = dirs, descriptors_max
        self.fuel, self.priority = fuel, priority
        self.task, self.object_grants = task, object_grants
        self.execution_id, self.context = execution_id, context
        self.entry, self.call_args = entry, tuple(call_args)
        self.args, self.env = args, env or {}
        self.stdin, self.log_stdout, self.inline = stdin, log_stdout, inline
        self.prepared = None

    def anew(
        self, *, stdin: bytes, execution_id: str, timeout_ns: int, priority: int, inline: bool
    ) -> Invocation:
        """The same for another run, which has no context yet."""
        made = Invocation.__new__(Invocation)
        made.timeout_ns, made.memory_bytes_max = timeout_ns, self.memory_bytes_max
        made.output_bytes_max, made.log_bytes_max = self.output_bytes_max, self.log_bytes_max
        made.log_lines_max, made.log_waits = self.log_lines_max, self.log_waits
        made.dirs, made.descriptors_max = self.dirs, self.descriptors_max
        made.fuel, made.priority = self.fuel, priority
        made.task, made.object_grants = self.task, self.object_grants
        made.execution_id, made.context = execution_id, None
        made.entry, made.call_args = self.entry, self.call_args
        made.args, made.env = self.args, self.env
        made.stdin, made.log_stdout, made.inline = stdin, self.log_stdout, inline
        made.prepared = None
        return made

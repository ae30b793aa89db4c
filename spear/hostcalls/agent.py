"""Who asks: the execution behind a hostcall, as capabilities see it.

The rule: made once an execution by whoever starts its guest, given to every handler as the call's
`context`; it says who asks, until when, under which policy, and what was used. It decides nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from spear._core.drafts import Room
    from spear.hostcalls.llm.meter import Meter


class Agent:
    """`deadline_ns` is monotonic, of the execution. `config` is the task's own, for capabilities to
    read their policy from; `meter` counts what models were asked for, for the execution and all
    above it in its tree; `room` is what its sessions share, once it has one; `warned`: it was
    told what its task has wrong. `depth` is 0 for one that nobody's agent called."""

    __slots__ = (
        "__weakref__", "config", "deadline_ns", "depth", "execution_id", "meter", "room", "root_id",
        "task", "warned",
    )  # fmt: skip

    def __init__(
        self, *, execution_id: str, task: str, deadline_ns: int, config: Mapping[str, str],
        meter: Meter, root_id: str = "", depth: int = 0,
    ) -> None:  # fmt: skip
        self.execution_id, self.task, self.deadline_ns = execution_id, task, deadline_ns
        self.config, self.meter = config, meter
        self.root_id, self.depth = root_id or execution_id, depth
        self.room: Room | None = None
        self.warned = False

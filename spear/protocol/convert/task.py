"""Tasks and their specs as messages."""

from __future__ import annotations

from spear.protocol.convert.mirror import MAP, STRINGS, TEXTS, Many, Mirror, One
from spear.protocol.pb.spear.v1 import task_pb2 as pb
from spear.records.task import Directory, Limits, Pool, Resources, Retry, Task, TaskSpec

TASK_SPEC = Mirror(
    TaskSpec,
    pb.TaskSpec,
    {
        "args": STRINGS,
        "env": MAP,
        "env_from": MAP,
        "config": MAP,
        "metadata": MAP,
        "limits": One(Mirror(Limits, pb.Limits)),
        "resources": One(Mirror(Resources, pb.Resources)),
        "retry": One(Mirror(Retry, pb.Retry, {"on": TEXTS})),
        "pool": One(Mirror(Pool, pb.Pool)),
        "dirs": Many(Mirror(Directory, pb.Directory)),
        "object_grants": STRINGS,
    },
)
TASK = Mirror(Task, pb.Task, {"spec": One(TASK_SPEC)})

"""The plans of specs that are run without a registered task, as long as they are used.

The rule: a spec that can be run is looked at once; what can change under it (its artifact, who has
its endpoint, a directory) is looked at in each call.
"""

from __future__ import annotations

from spear.spearlet.node import rows
from spear.spearlet.node.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.config import Config
    from spear.records.task import TaskSpec
    from spear.spearlet.node.tasks import Tasks

PLANS_MAX = 256
_SPEC_BYTES_MAX = 65536  # a larger one is planned each time


class Plans:
    """Of one node, on its loop; those used last are kept."""

    def __init__(self, tasks: Tasks, config: Config) -> None:
        self._tasks, self._config = tasks, config
        self._plans: dict[bytes, Plan] = {}

    def of(self, spec: TaskSpec) -> Plan:
        """The plan of a spec whose artifact is there. Raises InvalidArgument, NotFound."""
        if spec.endpoint or spec.dirs:
            return Plan(self._tasks.checked(spec), self._config)
        key = rows.encode(spec)
        plan = self._plans.pop(key, None) or Plan(self._tasks.checked(spec), self._config)
        if len(key) <= _SPEC_BYTES_MAX:
            self._plans[key] = plan
            if len(self._plans) > PLANS_MAX:
                del self._plans[next(iter(self._plans))]
        return plan

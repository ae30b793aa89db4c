"""One call of a task, checked and made into an execution.

The rule: pure but for the ids and the clock; what is wrong is refused before anything is written.
"""

from __future__ import annotations

from msgspec.structs import replace

from spear.errors import InvalidArgument
from spear.records.execution import NOTHING, Execution, Invocation
from spear.records.task import PRIORITIES, Task
from spear.spearlet.arguments import arguments_of, environment_of
from spear.spearlet.webhooks.delivery import check_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from spear.spearlet.node.parts import Parts
    from spear.spearlet.node.plan import Plan

_TEXT_BYTES_MAX = 255
_METADATA_BYTES_MAX = 65536
_ARGS_MAX = 64
_ID_LETTERS = "0123456789abcdefABCDEF-"
_TEXTS = ("idempotency_key", "invocation_id", "session_id", "parent_id", "content_type")


def execution_of(
    parts: Parts, task: Task | None, plan: Plan, invocation: Invocation, input: bytes, mode: str
) -> Execution:
    """The record of a new execution. Raises InvalidArgument."""
    if len(input) > parts.config.input_bytes_max:
        raise InvalidArgument(
            f"the input has {len(input)} bytes, limits.input is {parts.config.text('limits.input')}"
        )
    if invocation is not NOTHING:
        check(invocation)
    execution = replace(plan.blank or _blank_of(parts, task, plan))
    execution.mode, execution.created_ns = mode, (now_ns := parts.clock.now_ns())
    execution.id = execution.root_id = invocation.execution_id or parts.ids.next(now_ns)
    if invocation.timeout_ns or mode != "sync":
        execution.timeout_ns = plan.timeout_for(invocation, mode)
    execution.input_bytes = len(input)
    if invocation is not NOTHING:
        _take(execution, invocation)
    return execution


def _blank_of(parts: Parts, task: Task | None, plan: Plan) -> Execution:
    """What all executions of a plan have in common; made once."""
    spec = plan.spec
    plan.blank = Execution(
        id="",
        task_id=task.id if task else "",
        task_name=spec.name,
        task_version=task.version if task else 0,
        artifact=spec.artifact,
        node_name=parts.node_name,
        priority=spec.priority,
        timeout_ns=plan.timeout_for(NOTHING, "sync"),
    )
    return plan.blank


def _take(execution: Execution, invocation: Invocation) -> None:
    """What the call says of itself."""
    execution.function = invocation.function
    execution.invocation_id, execution.session_id = invocation.invocation_id, invocation.session_id
    execution.idempotency_key = invocation.idempotency_key
    execution.parent_id, execution.metadata = invocation.parent_id, invocation.metadata
    execution.content_type = invocation.content_type
    if invocation.priority:
        execution.priority = invocation.priority


def check(invocation: Invocation) -> None:
    """Raises InvalidArgument."""
    if invocation.priority and invocation.priority not in PRIORITIES:
        raise InvalidArgument(
            f"no priority {invocation.priority!r}: expected one of {', '.join(PRIORITIES)}"
        )
    if invocation.execution_id:
        check_id("execution_id", invocation.execution_id)
    given = (
        invocation.idempotency_key or invocation.invocation_id or invocation.session_id
        or invocation.parent_id or invocation.content_type
    )  # fmt: skip
    if given:
        for name in _TEXTS:
            _check_text(name, getattr(invocation, name))
    if invocation.timeout_ns < 0:
        raise InvalidArgument(f"timeout_ns: expected 0 or more, found {invocation.timeout_ns}")
    if invocation.env or invocation.args:  # beside the task's own they are looked at again
        arguments_of("", invocation.args or (), environment_of(invocation.env))
    if len(invocation.call_args) > _ARGS_MAX:
        raise InvalidArgument(f"a function takes at most {_ARGS_MAX} arguments")
    if invocation.metadata:
        _check_metadata(invocation.metadata)
    if invocation.webhook:
        check_url(invocation.webhook)


def _check_metadata(metadata: Mapping[str, str]) -> None:
    try:
        size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
    except UnicodeEncodeError as error:
        found = error.object[error.start : error.start + 20]
        raise InvalidArgument(f"metadata is UTF-8 texts, found {found!r}") from None
    if size > _METADATA_BYTES_MAX:
        raise InvalidArgument(f"metadata has {size} bytes, the limit is {_METADATA_BYTES_MAX}")


def _check_text(name: str, text: str) -> None:
    if text and (len(text) > _TEXT_BYTES_MAX or "\0" in text):
        raise InvalidArgument(
            f"{name}: expected up to {_TEXT_BYTES_MAX} letters, found {text[:60]!r}"
        )


def check_id(what: str, id: str) -> None:
    """Raises InvalidArgument."""
    if not 8 <= len(id) <= 64 or id.strip(_ID_LETTERS):
        raise InvalidArgument(
            f"{what} {id[:80]!r}: expected a UUID, or 8 to 64 hexadecimal digits and dashes"
        )

"""Finds what a shortened id means.

The rule: a whole id is asked for as it is; a beginning of 8 characters or an end of 6 must fit
exactly one of those that the node has. Ids made close together share their beginning, so tables
show the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from spear.errors import InvalidArgument, NotFound
from spear.records.node import Node
from spear.records.schedule import Schedule

_ID_CHARACTERS = 36
_BEGIN_MIN, _END_MIN = 8, 6
_SCANNED_MAX = 20_000
_PAGE = 1000
_SHOWN_MAX = 5


def looks_like_id(text: str) -> bool:
    return len(text) >= _END_MIN and all(c in "0123456789abcdef-" for c in text.lower())


async def execution_id(node: Node, text: str) -> str:
    """Raises NotFound, InvalidArgument where it is too short or fits several."""
    if len(text) >= _ID_CHARACTERS:
        return text
    ids: list[str] = []
    token = ""
    while len(ids) < _SCANNED_MAX:
        page = await node.executions(limit=_PAGE, page_token=token)
        ids += [execution.id for execution in page.executions]
        token = page.next_page_token
        if not token:
            break
    beyond = f" among the newest {len(ids)}" if token else ""
    return choose(text, ids, f"execution{beyond}")


async def instance_id(node: Node, text: str) -> str:
    if len(text) >= _ID_CHARACTERS:
        return text
    return choose(text, [instance.id for instance in await node.instances()], "instance")


async def schedule_of(node: Node, text: str) -> Schedule:
    """By its name, its id, or a part of the id."""
    found = await node.schedules()
    named = [schedule for schedule in found if schedule.spec.name == text]
    if len(named) == 1:
        return named[0]
    if len(named) > 1:
        raise _ambiguous(text, "schedule", [schedule.id for schedule in named])
    if len(text) >= _ID_CHARACTERS:
        return await node.schedule(text)
    wanted = choose(text, [schedule.id for schedule in found], "schedule")
    return next(schedule for schedule in found if schedule.id == wanted)


def choose(text: str, ids: Sequence[str], kind: str) -> str:
    """The one id that the text means."""
    part = text.lower()
    fitting = [
        id
        for id in ids
        if (len(part) >= _BEGIN_MIN and id.startswith(part))
        or (len(part) >= _END_MIN and id.endswith(part))
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise _ambiguous(text, kind, fitting)
    if not looks_like_id(text):
        raise NotFound(
            f"no {kind} {text!r}: an id is {_ID_CHARACTERS} characters, or its first "
            f"{_BEGIN_MIN} or last {_END_MIN} or more"
        )
    raise NotFound(f"no {kind} whose id begins or ends with {text!r}")


def _ambiguous(text: str, kind: str, fitting: Sequence[str]) -> InvalidArgument:
    named = ", ".join(fitting[:_SHOWN_MAX])
    more = f" and {len(fitting) - _SHOWN_MAX} more" if len(fitting) > _SHOWN_MAX else ""
    return InvalidArgument(f"{text!r} fits {len(fitting)} {kind}s: {named}{more}")

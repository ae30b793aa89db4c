"""Which backends can answer a request, and in what order they are asked.

The rule: pure; candidates in, candidates out, chance is given. What a request needs is checked in
the order of the guest ABI (section 14): operation, features, transport, pinned backend; then comes
who has a say (`Verdict`), then the model. Health never refuses, it only puts behind: a request that
has nobody else is better tried than not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from spear.errors import ModelRefused, NoBackend
from spear.records.models import STUB, BackendSpec

Draw = Callable[[int], int]  # a whole number from 0 to below the given one, all as likely

MODEL_MISSING = "has no model of its own, and none was asked for"
_SHOWN_MAX = 16  # backends that a refusal goes through one by one


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asks of a backend. `transports`: one of them; `allowed`: names or patterns,
    empty for all; `backend` and `model`: as asked for, or empty."""

    operation: str
    features: tuple[str, ...] = ()
    transports: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    backend: str = ""
    model: str = ""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A backend as it stands now. `missing` says why it cannot be asked at all."""

    spec: BackendSpec
    missing: str = ""
    healthy: bool = True


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a filter says of one candidate; None leaves it as configured. A higher score goes first
    among those of one priority."""

    keep: bool = True
    weight: int | None = None
    priority: int | None = None
    score: float = 0.0
    reasons: tuple[str, ...] = ()


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a filter says of a request. Who is not in `decisions` is kept; `backend` is the one
    that has to be taken; `rejected`: the request is refused, with this code and message."""

    decisions: Mapping[str, Decision] = {}
    backend: str = ""
    rejected: bool = False
    code: str = ""
    message: str = ""


EVERYBODY = Verdict()


def eligible(need: Need, candidates: Iterable[Candidate], trouble: str = "") -> list[Candidate]:
    """Those that lack nothing but, maybe, the model. Raises NoBackend, which also says the
    `trouble` that keeps others from being known."""
    candidates = list(candidates)
    lacks = {one.spec.name: lack_of(need, one) for one in candidates}
    kept = [one for one in candidates if not lacks[one.spec.name]]
    if not kept:
        raise _none(need, lacks, [*unknown(need.allowed, lacks), *filter(None, [trouble])])
    return kept


def ranked(
    need: Need, kept: Sequence[Candidate], draw: Draw, verdict: Verdict = EVERYBODY
) -> list[Candidate]:
    """Those of `eligible` that are to be asked, the first one first. Raises as `fitting`."""
    return ordered(fitting(need, kept, verdict), draw, verdict)


def fitting(need: Need, kept: Sequence[Candidate], verdict: Verdict = EVERYBODY) -> list[Candidate]:
    """Those of `eligible` that are to be asked. Raises NoBackend where none is left, ModelRefused
    where the filter rejects the request."""
    if verdict.rejected:
        raise ModelRefused(
            f"the router filter refused the request: {verdict.message or 'no reason given'}",
            code=verdict.code or "filter_rejected",
        )
    lacks = {one.spec.name: _filtered(one, verdict) or _model_lack(need, one) for one in kept}
    left = [one for one in kept if not lacks[one.spec.name]]
    if not left:
        raise _none(need, lacks)
    exact = [one for one in left if need.model and one.spec.model == need.model]
    return exact or left


def ordered(
    candidates: Sequence[Candidate], draw: Draw, verdict: Verdict = EVERYBODY
) -> list[Candidate]:
    """By health, priority, score; by weight and chance among equals."""
    if len(candidates) == 1:
        return list(candidates)
    none, decisions = Decision(), verdict.decisions
    groups: dict[tuple[bool, int, float], list[tuple[int, Candidate]]] = {}
    for one in candidates:
        said = decisions.get(one.spec.name, none)
        priority = one.spec.priority if said.priority is None else said.priority
        weight = one.spec.weight if said.weight is None else said.weight
        groups.setdefault((one.healthy, priority, said.score), []).append((weight, one))
    order = sorted(groups, reverse=True)
    return [one for group in order for one in _shuffled(groups[group], draw)]


def lack_of(need: Need, candidate: Candidate) -> str:
    """What the candidate lacks for this request; empty: nothing, but maybe the model."""
    spec = candidate.spec
    if candidate.missing:
        return f"is not available: {candidate.missing}"
    if need.operation not in spec.ops:
        return f"does not do {need.operation}"
    missing = [feature for feature in need.features if feature not in spec.features]
    if missing:
        return f"does not declare {', '.join(missing)}"
    if need.transports and not set(need.transports) & set(spec.transports):
        return f"is not reached by {' or '.join(need.transports)}"
    if need.allowed and not any(fnmatchcase(spec.name, name) for name in need.allowed):
        return "is not allowed for this task"
    if need.backend and need.backend != spec.name:
        return f"is not {need.backend!r}, which was asked for"
    return ""


def model_of(asked: str, spec: BackendSpec) -> str:
    """The model to ask this backend for, where `asked` is what the request names."""
    return asked or spec.model


def _model_lack(need: Need, candidate: Candidate) -> str:
    spec = candidate.spec
    if spec.kind == STUB and not spec.model:
        return ""
    if need.model and spec.model and spec.model != need.model:
        return f"has the model {spec.model!r}, not {need.model!r}"
    if not need.model and not spec.model:
        return MODEL_MISSING
    return ""


def _filtered(candidate: Candidate, verdict: Verdict) -> str:
    name = candidate.spec.name
    if verdict.backend and verdict.backend != name:
        return f"is not {verdict.backend!r}, which the router filter wants"
    decision = verdict.decisions.get(name)
    if decision is None or decision.keep:
        return ""
    reasons = f" ({', '.join(decision.reasons)})" if decision.reasons else ""
    return f"was dropped by the router filter{reasons}"


def _shuffled(weighted: list[tuple[int, Candidate]], draw: Draw) -> list[Candidate]:
    """Each place goes to one of those left, by their weights; without weight one comes last."""
    left, order = list(weighted), list[Candidate]()
    while left:
        total = sum(weight for weight, _ in left)
        place = _place([weight for weight, _ in left], draw(total)) if total else draw(len(left))
        order.append(left.pop(place)[1])
    return order


def _place(weights: Sequence[int], point: int) -> int:
    """Whose part of the sum of all weights the point is in."""
    for place, weight in enumerate(weights):
        point -= weight
        if point < 0:
            return place
    raise AssertionError("the point is beyond the sum")


def unknown(allowed: Iterable[str], names: Iterable[str]) -> list[str]:
    """What a task's list of backends names and nobody of `names` is called, a sentence each."""
    import difflib

    found, names = list[str](), list(names)
    for wanted in list(allowed)[:_SHOWN_MAX]:
        if not any(fnmatchcase(name, wanted) for name in names):
            nearest = difflib.get_close_matches(wanted, names, 1, cutoff=0.5)
            near = f"the nearest one is {nearest[0]!r}" if nearest else "see `spear model ls`"
            found.append(f"the task's llm.backends names {wanted!r}, which is not there; {near}")
    return found


def _none(need: Need, lacks: Mapping[str, str], more: Sequence[str] = ()) -> NoBackend:
    """Of a backend that was asked for by name, only that one is told; `more` is told too."""
    wanted = f"no backend can answer {need.operation}"
    if need.model:
        wanted += f" by the model {need.model!r}"
    if need.backend and need.backend not in lacks:
        wanted += f": there is none of the name {need.backend!r}"
    elif need.backend:
        lacks = {need.backend: lacks[need.backend]}
    reasons = [f"{name!r} {lack}" for name, lack in list(lacks.items())[:_SHOWN_MAX]]
    if len(lacks) > _SHOWN_MAX:
        reasons.append(f"{len(lacks) - _SHOWN_MAX} more")
    reasons += more
    return NoBackend(f"{wanted}: {'; '.join(reasons) or 'none is configured'}")

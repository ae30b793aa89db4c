"""Routing as one plain sieve after another: what spear/hostcalls/llm/choice/routing.py must choose.

It says who may be asked, and between which of them chance decides; not in what order chance has it.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from spear.hostcalls.llm.choice.routing import Candidate, Need, Verdict


def tiers(need: Need, candidates: list[Candidate], verdict: Verdict) -> list[set[str]]:
    """The names in tiers, the first one asked first; within one, chance decides by weight. Those
    without weight come after all others of their tier. Empty: nobody may be asked."""
    left = [one for one in candidates if one.missing == ""]
    left = [one for one in left if need.operation in one.spec.ops]
    left = [one for one in left if set(need.features) <= set(one.spec.features)]
    if need.transports:
        left = [one for one in left if set(one.spec.transports) & set(need.transports)]
    if need.allowed:
        left = [
            one for one in left if any(fnmatchcase(one.spec.name, name) for name in need.allowed)
        ]
    if need.backend:
        left = [one for one in left if one.spec.name == need.backend]
    if verdict.backend:
        left = [one for one in left if one.spec.name == verdict.backend]
    left = [one for one in left if _kept(verdict, one.spec.name)]
    if need.model:
        exact = [one for one in left if one.spec.model == need.model]
        left = exact or [one for one in left if one.spec.model == ""]
    else:
        left = [one for one in left if one.spec.model or one.spec.kind == "stub"]
    found: dict[tuple[bool, int, float, bool], set[str]] = {}
    for one in left:
        said = verdict.decisions.get(one.spec.name)
        priority, weight, score = one.spec.priority, one.spec.weight, 0.0
        if said is not None:
            priority = priority if said.priority is None else said.priority
            weight = weight if said.weight is None else said.weight
            score = said.score
        found.setdefault((one.healthy, priority, score, weight > 0), set()).add(one.spec.name)
    return [found[key] for key in sorted(found, reverse=True)]


def _kept(verdict: Verdict, name: str) -> bool:
    said = verdict.decisions.get(name)
    return said is None or said.keep

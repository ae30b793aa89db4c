"""Routing against the plain reference; its chances; what a refusal says."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples
from reference import routing as plain

from spear.errors import ModelRefused, NoBackend
from spear.hostcalls.llm.choice.routing import (
    EVERYBODY,
    Candidate,
    Decision,
    Need,
    Verdict,
    eligible,
    ranked,
)
from spear.records.models import BackendSpec

NAMES = ("a", "b", "c", "d", "e")
FEATURES = ("supports_tools", "supports_json_schema")
MODELS = st.sampled_from(["", "m", "n"])


def some(values: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), unique=True).map(tuple)


SPECS = st.builds(
    BackendSpec, name=st.just(""), kind=st.sampled_from(["ollama_chat", "stub"]),
    hosting=st.just("local"), model=MODELS, weight=st.integers(0, 3), priority=st.integers(-1, 1),
    ops=some(("chat_completions", "embeddings")), features=some(FEATURES),
    transports=some(("http", "websocket")),
)  # fmt: skip
CANDIDATES = st.lists(
    st.tuples(SPECS, st.sampled_from(["", "", "no key"]), st.booleans()), max_size=5
).map(
    lambda found: [
        Candidate(spec=BackendSpec(**{**_fields(spec), "name": name}), missing=missing,
                  healthy=healthy)
        for name, (spec, missing, healthy) in zip(NAMES, found, strict=False)
    ]
)  # fmt: skip
NEEDS = st.builds(
    Need, operation=st.sampled_from(["chat_completions", "embeddings"]), features=some(FEATURES),
    transports=some(("http", "websocket")), allowed=some(("a", "b", "[cd]", "*")),
    backend=st.sampled_from(["", "", "a", "zz"]), model=MODELS,
)  # fmt: skip
DECISIONS = st.builds(
    Decision, keep=st.booleans(), weight=st.none() | st.integers(0, 2),
    priority=st.none() | st.integers(-1, 1), score=st.sampled_from([0.0, 1.5]),
)  # fmt: skip
VERDICTS = st.just(EVERYBODY) | st.builds(
    Verdict, decisions=st.dictionaries(st.sampled_from(NAMES), DECISIONS),
    backend=st.sampled_from(["", "", "b", "zz"]),
)  # fmt: skip


def _fields(spec: BackendSpec) -> dict[str, object]:
    return {name: getattr(spec, name) for name in spec.__struct_fields__}


@settings(max_examples=examples(500), deadline=None)
@given(NEEDS, CANDIDATES, VERDICTS, st.integers(0, 1 << 30))
def test_who_is_asked_and_when_is_as_in_the_reference(
    need: Need, candidates: list[Candidate], verdict: Verdict, seed: int
) -> None:
    tiers = plain.tiers(need, candidates, verdict)
    try:
        order = ranked(need, eligible(need, candidates), Random(seed).randrange, verdict)
    except NoBackend as error:
        assert tiers == []
        reasons = str(error)
        asked = [one for one in candidates if one.spec.name == need.backend]
        for one in asked or candidates:  # a refusal goes through all that were left at its step
            assert f"{one.spec.name!r} " in reasons or _dropped_earlier(need, candidates, one)
        return
    names = [one.spec.name for one in order]
    found = []
    for tier in tiers:
        found.append(set(names[: len(tier)]))
        names = names[len(tier) :]
    assert found == tiers
    assert names == []


def _dropped_earlier(need: Need, candidates: list[Candidate], one: Candidate) -> bool:
    return one not in eligible(need, candidates)


@settings(max_examples=examples(5), deadline=None)
@given(st.integers(0, 1 << 30))
def test_the_chance_to_be_first_is_the_part_of_the_weights(seed: int) -> None:
    weights = {"a": 100, "b": 300, "c": 0}
    candidates = [
        Candidate(spec=BackendSpec(name=name, kind="stub", hosting="local", weight=weight))
        for name, weight in weights.items()
    ]
    need, random = Need(operation="chat_completions"), Random(seed)
    firsts = Counter(ranked(need, candidates, random.randrange)[0].spec.name for _ in range(4000))
    assert firsts["c"] == 0
    assert 850 < firsts["a"] < 1150  # 1000 expected, 27 is the deviation


def test_a_refusal_says_what_each_one_lacks() -> None:
    def candidate(name: str, missing: str = "", **fields: object) -> Candidate:
        given = {"kind": "ollama_chat", "hosting": "local", "model": "m", **fields}
        return Candidate(spec=BackendSpec(name=name, **given), missing=missing)  # type: ignore[arg-type]

    need = Need(
        operation="chat_completions", features=("supports_tools",), transports=("http",),
        allowed=("[a-f]",), model="m",
    )  # fmt: skip
    tools = ("supports_tools",)
    candidates = [
        candidate("a", missing="no key"),
        candidate("b", ops=("embeddings",)),
        candidate("c"),
        candidate("d", features=tools, transports=("websocket",)),
        candidate("z", features=tools),
    ]
    with pytest.raises(NoBackend) as caught:
        eligible(need, candidates)
    assert str(caught.value) == (
        "no backend can answer chat_completions by the model 'm': 'a' is not available: no key; "
        "'b' does not do chat_completions; 'c' does not declare supports_tools; 'd' is not reached "
        "by http; 'z' is not allowed for this task"
    )
    kept = [candidate("e", model="n"), candidate("f", model="")]
    verdict = Verdict(decisions={"f": Decision(keep=False, reasons=("too far",))})
    with pytest.raises(NoBackend) as caught:
        ranked(need, kept, Random(1).randrange, verdict)
    assert str(caught.value).endswith(
        "'e' has the model 'n', not 'm'; 'f' was dropped by the router filter (too far)"
    )
    with pytest.raises(NoBackend, match="'c' has no model of its own, and none was asked for"):
        ranked(Need(operation="chat_completions"), [candidate("c", model="")], Random(1).randrange)
    with pytest.raises(NoBackend, match="there is none of the name 'zz': none is configured"):
        eligible(Need(operation="chat_completions", backend="zz"), [])
    many = [candidate(f"n{n}", missing="no key") for n in range(40)]
    with pytest.raises(NoBackend, match="; 24 more"):
        eligible(need, many)
    with pytest.raises(ModelRefused, match="refused the request: not today") as refused:
        ranked(need, kept, Random(1).randrange, Verdict(rejected=True, message="not today"))
    assert refused.value.code == "filter_rejected"


def named(name: str, **fields: Any) -> Candidate:
    return Candidate(spec=BackendSpec(name=name, kind="stub", hosting="local", model="m"), **fields)


def refusal(need: Need, *candidates: Candidate, trouble: str = "") -> str:
    with pytest.raises(NoBackend) as caught:
        eligible(need, candidates, trouble)
    return str(caught.value)


CHAT = "no backend can answer chat_completions"


def test_of_a_backend_asked_for_by_name_only_that_one_is_told() -> None:
    need = Need(operation="chat_completions", backend="b")
    told = refusal(need, named("a"), named("b", missing="no key"), named("c"))
    assert told == f"{CHAT}: 'b' is not available: no key"


def test_a_name_in_a_task_s_list_that_is_nobody_s_is_told_with_the_nearest() -> None:
    need = Need(operation="chat_completions", allowed=("gtp-main", "other*", "gone"))
    told = refusal(need, named("gpt-main"), named("others", missing="no key"))
    assert told == (
        f"{CHAT}: 'gpt-main' is not allowed for this task; 'others' is not available: no key; "
        "the task's llm.backends names 'gtp-main', which is not there; the nearest one is "
        "'gpt-main'; the task's llm.backends names 'gone', which is not there; see "
        "`spear model ls`"
    )


def test_what_keeps_others_from_being_known_is_told() -> None:
    told = refusal(Need(operation="chat_completions"), trouble="the server did not answer")
    assert told == f"{CHAT}: the server did not answer"


def test_a_score_goes_before_another_of_the_same_priority_and_after_a_higher_one() -> None:
    need = Need(operation="chat_completions")
    verdict = Verdict(
        decisions={
            "a": Decision(score=1.0), "b": Decision(score=2.5), "c": Decision(score=-1.0),
            "d": Decision(priority=1, score=-9.0),
        }
    )  # fmt: skip
    found = ranked(need, [named(name) for name in "abcde"], lambda below: 0, verdict)
    assert [one.spec.name for one in found] == ["d", "b", "a", "e", "c"]

from __future__ import annotations

import pytest

from spear.errors import InvalidArgument
from spear.hostcalls.llm.policy import Policy, policy_of
from spear.records.usage import Budget


def test_a_task_without_config_may_all() -> None:
    assert policy_of({}) == policy_of({"other.key": "x"}) == Policy()


@pytest.mark.parametrize("text", ["a, b", " a ,b", '["a", "b"]', ' ["a","b"]', "a,,b"])
def test_backends_are_a_list_with_commas_or_a_json_array(text: str) -> None:
    assert policy_of({"llm.backends": text}).backends == ("a", "b")


@pytest.mark.parametrize("text", ["", " ", ",", "[]", "[1]", '["a"', '[""]', "[" * 99_999])
def test_no_list_of_backends_is_refused_since_empty_would_be_all(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"llm\.backends"):
        policy_of({"llm.backends": text})


def test_a_budget_is_whole_numbers() -> None:
    config = {
        "budget.calls": "10", "budget.tokens": "5000", "budget.time": "1m", "budget.usd": "0.25",
    }  # fmt: skip
    assert policy_of(config).budget == Budget(
        calls=10, tokens=5000, model_ns=60 * 10**9, cost_nano_usd=250_000_000
    )


@pytest.mark.parametrize(
    ("text", "nano"),
    [("1", 10**9), ("0.000000001", 1), (".5", 5 * 10**8), ("2.", 2 * 10**9), ("0.1", 10**8)],
)
def test_money_is_exact(text: str, nano: int) -> None:
    assert policy_of({"budget.usd": text}).budget.cost_nano_usd == nano


@pytest.mark.parametrize("key", ["budget.calls", "budget.tokens", "budget.time", "budget.usd"])
@pytest.mark.parametrize(
    "text", ["", "0", "-1", "x", "1e3", "nan", "inf", "٣", "9" * 31, "0.0000000001", "1_0", "."]
)
def test_no_amount_above_0_is_refused_by_its_key(key: str, text: str) -> None:
    if (key, text) == ("budget.time", "0.0000000001"):
        text = "0.0000000001s"  # less than a nanosecond
    with pytest.raises(InvalidArgument, match=key):
        policy_of({key: text})

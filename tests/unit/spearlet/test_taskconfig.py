"""What a task's config may say."""

from __future__ import annotations

import pytest

from spear.errors import InvalidArgument
from spear.hostcalls.allowed import allows, names_of
from spear.hostcalls.llm import policy
from spear.spearlet.taskconfig import KEPT, READ, check_config, unread


def test_every_known_key_is_accepted_and_other_families_too() -> None:
    check_config(dict.fromkeys(KEPT, "x") | {"own.key": "", "plain": ""})
    assert unread(dict.fromkeys((*READ, *KEPT), "1") | {"own.key": "x"}) == sorted(
        (*KEPT, "own.key")
    )


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("llm.backend", "'llm.backends'"),
        ("budget.token", "'budget.tokens'"),
        ("tasks.allow", "'tasks.allowed'"),
        ("mcp.enable", "'mcp.enabled'"),
        ("llm.zzzzzzzzzzzzzzzzzz", "known are ['llm.backends']"),
    ],
)
def test_an_unknown_key_of_a_known_family_is_refused_with_the_nearest(key: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_config({key: "1"})
    assert words in str(caught.value)


def test_a_config_is_bounded() -> None:
    with pytest.raises(InvalidArgument, match="257 entries"):
        check_config({f"own.{number}": "" for number in range(257)})
    with pytest.raises(InvalidArgument, match="longer than 65536"):
        check_config({"own.key": "x" * 65_537})


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()), (" , ", ()), ("a", ("a",)), ("a, b ,c", ("a", "b", "c")), ("[]", ()),
        (' ["a", "b,c"]', ("a", "b,c")),
    ],
)  # fmt: skip
def test_lists_are_words_between_commas_or_json(text: str, names: tuple[str, ...]) -> None:
    assert names_of("tasks.allowed", text) == names


@pytest.mark.parametrize("text", ["[", "[1]", '["a"] b', "[[]]", '{"a": 1}' * 0 + "[null]"])
def test_a_list_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"tasks\.allowed: expected names"):
        names_of("tasks.allowed", text)


def test_globs_are_of_whole_names_and_see_case() -> None:
    assert allows(("team-*",), "team-a")
    assert allows(("*",), "anything")
    assert not allows(("team-*",), "my-team-a")
    assert not allows(("Team",), "team")
    assert not allows((), "team")


def test_what_models_read_of_a_config_is_among_what_is_known() -> None:
    assert {policy.BACKENDS, policy.CALLS, policy.TOKENS, policy.TIME, policy.USD} <= set(READ)

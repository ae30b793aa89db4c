"""The reading of a verb's arguments."""

from __future__ import annotations

import pytest

from spear.cli.arguments import Option, UsageError, asks_for, parse

OPTIONS = (
    Option("--input", "FILE", ""),
    Option("--env", "K=V", "", repeated=True),
    Option("--output", "KIND", "", choices=("text", "json")),
)


def test_options_stand_before_and_after_the_operand() -> None:
    parsed = parse(["--input", "a", "file", "--output=json"], OPTIONS)
    assert parsed.operands == ["file"]
    assert (parsed.last("input"), parsed.last("output")) == ("a", "json")
    assert parsed.last("env") is None


def test_all_after_the_dashes_is_the_guest_s() -> None:
    parsed = parse(["file", "--", "--input", "-h", "--"], OPTIONS)
    assert parsed.rest == ["--input", "-h", "--"]


def test_a_value_may_begin_with_a_dash_and_hold_an_equals_sign() -> None:
    parsed = parse(["--input", "-5s", "--env=A=B=C", "--env", "D="], OPTIONS)
    assert parsed.last("input") == "-5s"
    assert parsed.values["env"] == ["A=B=C", "D="]


def test_a_lone_dash_is_an_operand() -> None:
    assert parse(["-"], OPTIONS).operands == ["-"]


def test_of_an_option_given_twice_the_last_counts() -> None:
    assert parse(["--input", "a", "--input", "b"], OPTIONS).last("input") == "b"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--imput", "x"], "no option --imput: did you mean --input?"),
        (["-x"], "no option -x: known are --input, --env, --output"),
        (["--bogus", "1"], "no option --bogus: known are --input, --env, --output"),
        (["--later", "1"], "--later is not served by this build: not yet"),
        (["--later=1"], "--later is not served by this build: not yet"),
        (["--input"], "--input needs a value: --input FILE"),
        (["--output", "xml"], "--output is one of text, json, not 'xml'"),
    ],
)
def test_what_is_not_understood_is_said(arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(arguments, OPTIONS, {"--later": "not yet"})
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["--output", "json", "--bogus"], True),
        (["--bogus", "--output=json"], True),
        (["--output=text", "--output", "json"], True),
        (["--output", "json", "--output=text"], False),
        (["--output"], False),
        (["file", "--", "--output", "json"], False),
        ([], False),
    ],
)
def test_an_option_is_found_in_arguments_that_are_not_understood(
    arguments: list[str], asked: bool
) -> None:
    assert asks_for(arguments, "--output", "json") is asked

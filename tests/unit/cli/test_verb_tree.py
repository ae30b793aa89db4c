"""The tree of verbs: each has its file, its help with an example, and its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import click
import pytest

from spear.cli import tree
from spear.cli.visits.dial import Where
from spear.errors import QueueFull

VERBS = [verb for _, verbs in tree.SECTIONS.values() for verb in verbs]
FOLDER = Path(tree.__file__).parent / "verbs"


def leaves(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from leaves(below, (*words, name))
    else:
        yield words


def command_of(verb: str) -> click.Command:
    with click.Context(tree.spear) as context:
        found = tree.spear.get_command(context, verb)
    assert found is not None
    return found


ALL = [words for verb in VERBS for words in leaves(command_of(verb), (verb,))]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_its_file_in_the_folder_of_its_section(verb: str) -> None:
    (folder,) = [name for name, (_, verbs) in tree.SECTIONS.items() if verb in verbs]
    assert (FOLDER / folder / f"{verb}.py").exists()
    assert command_of(verb).help


def test_every_file_of_a_verb_is_in_the_tree() -> None:
    for folder, (_, verbs) in tree.SECTIONS.items():
        files = {path.stem for path in (FOLDER / folder).glob("*.py")} - {"__init__"}
        beside = {name for name in files if name.partition("_")[0] in verbs or name == "finding"}
        assert files - beside - set(verbs) == set()


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_verb_shows_its_help(
    words: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    assert tree.invoke([*words, "--help"]) == 0
    said = capfd.readouterr().out
    assert said.startswith(f"Usage: spear {' '.join(words)}")


@pytest.mark.parametrize(
    "verb", [verb for verb in VERBS if isinstance(command_of(verb), click.Group)]
)
def test_the_list_of_a_group_cuts_no_sentence(verb: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert tree.invoke([verb, "--help"]) == 0
    listed = capfd.readouterr().out.partition("Commands:")[2]
    assert listed
    assert "..." not in listed


@pytest.mark.parametrize("folder", ["work"])
def test_verbs_of_work_have_examples(folder: str) -> None:
    for verb in tree.SECTIONS[folder][1]:
        assert f"spear {verb}" in (command_of(verb).help or ""), verb


def test_a_verb_that_is_not_there_is_wrong_use(capfd: pytest.CaptureFixture[str]) -> None:
    assert tree.invoke(["sbumit"]) == 2
    assert "no verb 'sbumit': did you mean spear submit?" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("invok", "spear invoke"),
        ("lst", "spear ls"),
        ("register", "spear task register"),
        ("drain", "spear node drain"),
        ("put", "spear artifact put or spear object put"),
    ],
)
def test_the_verb_that_was_meant_is_named(
    said: str, meant: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert tree.invoke([said, "word"]) == 2
    assert f"no verb {said!r}: did you mean {meant}?\n" in capfd.readouterr().err


def test_a_word_like_no_verb_gets_the_list(capfd: pytest.CaptureFixture[str]) -> None:
    assert tree.invoke(["zzzz"]) == 2
    assert capfd.readouterr().err == (
        "error: no verb 'zzzz'\nhint: spear --help shows what is accepted\n"
    )


def test_programs_read_when_to_come_back(capfd: pytest.CaptureFixture[str]) -> None:
    def dial(_: Where) -> NoReturn:
        raise QueueFull("full", 250)

    assert tree.invoke(["ls", "--output", "json"], dial=dial) == 6
    error = json.loads(capfd.readouterr().out)["error"]
    assert (error["code"], error["retry_after_ms"]) == ("QUEUE_FULL", 250)


@pytest.mark.parametrize(
    "words", [["wait"], ["object", "rm"], ["config", "show", "--x"], ["zzzz"], ["ls", "none"]]
)
def test_programs_read_of_wrong_use_in_a_document(
    words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert tree.invoke([*words, "--output", "json"]) == 2
    said = capfd.readouterr()
    error = json.loads(said.out)["error"]
    assert (said.err, error["code"]) == ("", "USAGE_ERROR")
    assert error["message"]
    assert "--help" in error["hint"]

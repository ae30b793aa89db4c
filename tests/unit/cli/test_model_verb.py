"""`spear model`: over a node, without one, and into the configuration file."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cli_over_fake import Cli, cli_fixture  # noqa: F401

from spear import config as configuration
from spear.cli import tree
from spear.errors import Unreachable

OPENAI = ("--kind", "openai_chat_completion", "--base-url", "https://api.example.com/v1")
KEY = "sk-canary-92jf02kd"


def test_a_node_s_backends_are_listed_with_the_reason(cli: Cli) -> None:
    said = cli("model", "ls")
    assert said.code == 0
    assert said.rows[0] == ["stub", "stub", "local", "any", "ready", "0"]
    assert said.rows[1][:5] == ["gpt", "openai_chat_completion", "remote", "gpt-4o", "unavailable"]
    assert said.out.rstrip().endswith("the environment variable GPT_KEY is not set")
    found = cli("model", "ls", "--output", "json").json
    assert [(one["name"], one["available"]) for one in found] == [("stub", True), ("gpt", False)]


def test_a_try_shows_answer_time_and_tokens(cli: Cli) -> None:
    said = cli("model", "test", "stub", "--prompt", "hi\nthere")
    assert said == (0, "to hi\\nthere\nstub: 1.5 ms, 6 + 3 tokens\n", "")
    assert cli("model", "test", "stub", "--output", "json").json["answer"] == "to ready"
    named = cli("model", "test", "stub", "--model", "small", "--output", "json")
    assert named.json["model"] == "small"
    failed = cli("model", "test", "gpt")
    assert (failed.code, failed.out) == (1, "")
    assert "GPT_KEY is not set" in failed.err
    failed = cli("model", "test", "gpt", "--output", "json")
    assert (failed.code, failed.json["error"]["code"]) == (1, "NO_BACKEND")
    assert cli("model", "test", "nobody").code == 3
    for wrong in ("soon", "0s"):
        said = cli("model", "test", "stub", "--timeout", wrong)
        assert (said.code, said.err.startswith("error: --timeout: expected ")) == (2, True)


def test_a_backend_that_the_node_has_not_read_yet_is_told_so(cli: Cli) -> None:
    cli("model", "add", "new", *OPENAI, "--model", "m")
    said = cli("model", "test", "new")
    assert said.code == 3
    assert said.err.endswith("since the node was started: spear node drain, then spear up\n")
    assert "drain" not in cli("model", "test", "newer").err
    assert "drain" not in cli("model", "test", "new", "--node", "host:1").err


class Absent:
    def __getattr__(self, name: str) -> Any:
        async def call(*_: object, **__: object) -> None:
            raise Unreachable("none runs here")

        return call


@asynccontextmanager
async def nobody(_: object) -> AsyncIterator[Absent]:
    yield Absent()


@pytest.fixture
def alone(cli: Cli, capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    """The command where no node runs."""

    def call(*words: str) -> tuple[int, str, str]:
        capfdbinary.readouterr()
        code = tree.invoke(list(words), dial=nobody)  # type: ignore[arg-type]
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return call


def test_without_a_node_the_local_configuration_is_used(alone: Any, tmp_path: Path) -> None:
    code, out, err = alone("model", "ls")
    assert (code, out.splitlines()[1].split()[:5]) == (0, ["stub", "stub", "local", "any", "ready"])
    assert "no node runs here" in err
    code, out, err = alone("model", "test", "stub")
    assert (code, out.splitlines()[0]) == (0, "stub chat completion")
    assert alone("model", "test", "nobody")[0] == 3
    assert alone("model", "ls", "--node", "127.0.0.1:1")[0] == 5
    assert alone("model", "add", "gpt", *OPENAI, "--model", "m", "--key-env", "GPT_KEY")[0] == 0
    code, out, _ = alone("model", "ls")
    assert "the environment variable GPT_KEY is not set" in out
    code, _, err = alone("model", "test", "gpt")
    assert (code, err.splitlines()[-1]) == (
        1,
        "error: no backend can answer chat_completions: 'gpt' is not available: the environment "
        "variable GPT_KEY is not set",
    )
    assert alone("model", "add", "any", *OPENAI)[0] == 0
    code, _, err = alone("model", "test", "any")
    assert code == 1
    assert err.endswith(
        "hint: --model NAME asks for a model where the backend has none of its own\n"
    )
    _, out, _ = alone("model", "test", "any", "--output", "json")
    assert json.loads(out)["error"]["hint"].startswith("--model NAME asks")


def test_what_is_added_is_read_and_the_rest_of_the_file_stays(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    text = '# mine\n[spearlet]\nnode_name = "n" # a comment'
    file.write_text(text)
    file.chmod(0o640)
    said = cli(
        "model", "add", "gpt", *OPENAI, "--model", 'm"\\x', "--key-env", "GPT_KEY", "--weight", "7",
        "--priority", "-1", "--concurrency", "2", "--requests-per-minute", "60", "--timeout", "9s",
        "--config", file,
    )  # fmt: skip
    assert said == (
        0, f"gpt is in {file}: spear model test gpt tries it, a node takes it when it is started\n",
        "",
    )  # fmt: skip
    assert cli("model", "add", "more", "--kind", "ollama_chat", "--config", file).code == 0
    assert cli("model", "add", "twin", *OPENAI, "--key-env", "GPT_KEY", "--config", file).code == 0
    assert file.read_text().startswith(text + "\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    config = configuration.load(str(file), environ={})
    assert config.node_name == "n"
    gpt, more, twin = config.llm.backends
    assert (gpt.spec.model, gpt.spec.credential_ref, gpt.spec.hosting) == (
        'm"\\x', "GPT_KEY", "remote",
    )  # fmt: skip
    assert (gpt.spec.weight, gpt.spec.priority) == (7, -1)
    assert (gpt.concurrency, gpt.requests_per_minute, gpt.timeout_ns) == (2, 60, 9 * 10**9)
    assert (more.spec.hosting, more.spec.base_url) == ("local", "http://127.0.0.1:11434")
    assert twin.spec.credential_ref == "GPT_KEY"
    assert len(tomllib.loads(file.read_text())["spearlet"]["llm"]["credentials"]) == 1


def test_a_file_is_made_for_its_owner_alone(cli: Cli, tmp_path: Path) -> None:
    said = cli("model", "add", "s", "--kind", "stub", "--output", "json")
    file = tmp_path / ".spear" / "config.toml"
    assert said.json == {"name": "s", "file": str(file)}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(file.parent) == ["config.toml"]


@pytest.mark.parametrize(
    ("before", "words", "code", "sentence"),
    [
        ("", ("a b", "--kind", "stub"), 2, "added: NAME: expected a name of letters"),
        ("", ("a", "--kind", "openai_chat_completion"), 2, "added: --base-url: is missing"),
        ("", ("a", *OPENAI, "--base-url", "x"), 2, "added: --base-url: expected http://"),
        ("", ("a", *OPENAI, "--weight", "-3"), 2, "added: --weight: expected a whole number"),
        ("", ("a", *OPENAI, "--requests-per-minute", "-3"), 2, "--requests-per-minute: expected"),
        ("[[spearlet.llm.backends]]\nname = 'b'\nkind = 'stub'\nhosting = 'local'\n",
         ("a", "--kind", "stub", "--concurrency", "-1"), 2, "added: --concurrency: expected"),
        ("[[spearlet.llm.backends]]\nname = 'b'\nkind = 'stub'\n",
         ("a", "--kind", "stub"), 2, "own.toml: llm.backends[0].hosting: is missing"),
        ("", ("a", *OPENAI, "--key-env", KEY), 2, "is never written into a file"),
        ("", ("a", "--kind", "stub", "--timeout", "x"), 2, "added: --timeout: expected a duration"),
        ("[spearlet.llm]\nbackends = []\n", ("a", "--kind", "stub"), 2, "cannot add to"),
        ("[spearlet]\nllm = {}\n", ("a", "--kind", "stub"), 2, "cannot add to"),
        ("[spear", ("a", "--kind", "stub"), 2, "cannot add to"),
        ("[[spearlet.llm.backends]]\nname = 'a'\nkind = 'stub'\nhosting = 'local'\n",
         ("a", "--kind", "stub"), 4, "has a backend 'a' already"),
    ],
)  # fmt: skip
def test_what_cannot_be_added_leaves_the_file_as_it_is(
    cli: Cli, tmp_path: Path, before: str, words: tuple[str, ...], code: int, sentence: str
) -> None:
    file = tmp_path / "own.toml"
    file.write_text(before)
    said = cli("model", "add", *words, "--config", file)
    assert (said.code, said.out) == (code, "")
    assert sentence in said.err
    assert KEY not in said.err
    assert file.read_text() == before
    assert os.listdir(tmp_path) == ["own.toml"]

"""What answers posted calls is there for programs that make them, and for no other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import make_config

import spear
from spear import config as configuration
from spear.errors import InvalidArgument
from spear.records.usage import Usage

pytest.importorskip("spear._core.executor")
Guest = Callable[[str], Path]


def imported_by(folder: Path, guest: Path) -> set[str]:
    script = (
        "import sys, spear\n"
        f"with spear.Spearlet.sync({{'cache_dir': {str(folder / 'cache')!r}}}) as node:\n"
        f"    assert node.run({str(guest)!r}).status == 'completed'\n"
        "print(*(name for name in sys.modules if name.startswith('spear.')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_a_guest_that_asks_for_nothing_brings_in_nothing(tmp_path: Path, guest: Guest) -> None:
    found = imported_by(tmp_path, guest("noop"))
    assert not {name for name in found if name.startswith(("spear.hostcalls.", "spear.telemetry"))}


def test_one_that_asks_brings_in_what_answers_but_no_network(tmp_path: Path, guest: Guest) -> None:
    found = imported_by(tmp_path, guest("caller"))
    assert "spear.hostcalls.llm.chat.handlers" in found
    assert "spear.hostcalls.llm.http.client" not in found


def test_a_library_has_no_tasks_to_call(tmp_path: Path, guest: Guest) -> None:
    with spear.Spearlet.sync(config=make_config(tmp_path)) as node:
        execution = node.run(guest("caller"), args=["s|echo|x"], config={"budget.calls": "1"})
        assert execution.output == b"-38\n"
        with pytest.raises(InvalidArgument, match=r"budget\.calls"):
            node.run(guest("caller"), config={"budget.cals": "1"})


def test_the_record_of_a_library_says_what_was_used_of_models(tmp_path: Path, guest: Guest) -> None:
    with spear.Spearlet.sync(config=make_config(tmp_path)) as node:
        silent, chat = node.run(guest("noop")), node.run(guest("hello_chat"), args=["m", "5000"])
        assert silent.usage is silent.tree_usage is None
        assert isinstance(chat.usage, Usage)
        assert chat.tree_usage == chat.usage
        assert (chat.usage.calls, chat.usage.completion_tokens) == (1, 3)
        assert chat.usage.prompt_tokens > 0 < chat.usage.model_ns


def test_a_function_of_who_embeds_it_has_a_say_in_who_answers(tmp_path: Path, guest: Guest) -> None:
    file, asked = tmp_path / "two.toml", list[spear.Question]()
    file.write_text("".join(
        f"[[spearlet.llm.backends]]\nname = '{name}'\nkind = 'stub'\nhosting = 'local'\n"
        for name in ("one", "two")
    ))  # fmt: skip

    async def never_one(question: spear.Question) -> spear.Verdict:
        asked.append(question)
        return spear.Verdict(decisions={"one": spear.Decision(keep=False)})

    config = configuration.load(str(file), environ={"XDG_CACHE_HOME": str(tmp_path / "cache")})
    with spear.Spearlet.sync(config=config, router_filter=never_one) as node:
        for _ in range(8):
            assert b"backend: two" in node.run(guest("hello_chat"), args=["m", "5000"]).output
    assert len(asked) == 8
    assert [one.spec.name for one in asked[0].candidates] == ["one", "two"]

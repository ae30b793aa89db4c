"""The tree of an execution, for people and for programs."""

from __future__ import annotations

from spear.cli.screens import family
from spear.records.execution import Execution
from spear.records.usage import Usage


def one(id: str, parent: str, depth: int, **fields: object) -> Execution:
    return Execution(
        id=id * 8, task_name=f"task-{id}", parent_id=parent * 8, root_id="a" * 8, depth=depth,
        status="completed", created_ns=ord(id), **fields,  # type: ignore[arg-type]
    )  # fmt: skip


ROOT = one("a", "", 0, duration_ns=2_000_000)
USAGE = Usage(calls=2, prompt_tokens=30, completion_tokens=12, cost_nano_usd=1_500_000)
BELOW = [
    one("d", "b", 2), one("c", "a", 1, detached=True), one("b", "a", 1, tree_usage=USAGE),
    one("e", "x", 3),
]  # fmt: skip


def test_a_tree_has_a_line_each_under_who_called_it() -> None:
    assert family.text_of(ROOT, BELOW, "d" * 8) == (
        "aaaaaaaa  task-a  completed  2 ms\n"
        "|- bbbbbbbb  task-b  completed  2 model calls, 42 tokens  $0.001500\n"
        "|  `- dddddddd  task-d  completed  <-\n"
        "|- cccccccc  task-c  completed  detached\n"
        "`- eeeeeeee  task-e  completed\n"
    )


def test_a_name_cannot_repaint_the_tree() -> None:
    assert "\x1b" not in family.text_of(Execution(id="1", task_name="a\x1b[2J"), [], "")


def test_programs_get_it_nested_with_what_an_execution_called_itself() -> None:
    middle = BELOW[2]
    found = family.nested(middle, family.subtree(middle, BELOW))
    assert found["tree_usage"]["calls"] == 2
    assert [child["id"] for child in found["children"]] == ["d" * 8]
    assert found["children"][0]["children"] == []
    assert "created_ms" in found["children"][0]


def test_what_is_below_is_found_through_any_depth() -> None:
    assert [e.id[0] for e in family.subtree(ROOT, BELOW)] == ["c", "b", "d"]


def test_one_call_is_one() -> None:
    once = Execution(id="1", task_name="t", tree_usage=Usage(calls=1, prompt_tokens=2))
    assert "  1 model call, 2 tokens\n" in family.text_of(once, [], "")

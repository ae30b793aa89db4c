"""The JSON document says what the record says."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from spear.cli import document
from spear.errors import ModuleInvalid
from spear.records.execution import Execution as Record
from spear.records.usage import Usage
from spear.runtime.invocation import Invocation
from spear.runtime.stub import StubProgram, StubRun
from spear.spearlet.execution.execution import Execution

INVOCATION = Invocation(
    stdin=b"in", timeout_ns=1_500_000, memory_bytes_max=2, output_bytes_max=3, log_bytes_max=4
)
PROGRAM = StubProgram(b"stub")


def ended(output: bytes = b"out", **outcome: object) -> Execution:
    execution, run = (
        Execution("id", task_name="t", node_name="n", artifact="d", created_ns=2_000_000,
                  invocation=INVOCATION),
        StubRun(INVOCATION),
    )  # fmt: skip
    run.finish(**outcome)  # type: ignore[arg-type]
    execution.advance("running")
    execution.finish(run.outcome, output)
    return execution


def reread(content: dict[str, object]) -> dict[str, object]:
    found: dict[str, object] = json.loads(document.dump(content))
    return found


def test_a_completed_execution_is_told_in_full() -> None:
    line = SimpleNamespace(seq=1, time_ms=5, level=3, stream="log", message="careful")
    found = reread(document.of_execution(ended(), PROGRAM, [line], ["w"]))
    assert (found["status"], found["exit_code"], found["error"]) == ("completed", 0, None)
    assert (found["output"], found["output_encoding"]) == ("out", "utf-8")
    assert found["logs"] == [
        {"seq": 1, "time_ms": 5, "level": "warn", "stream": "log", "message": "careful"}
    ]
    assert found["limits"] == {
        "timeout_ms": 1.5, "memory_bytes": 2, "output_bytes": 3, "log_bytes": 4, "fuel": None,
    }  # fmt: skip
    assert found["warnings"] == ["w"]


def test_output_that_is_no_text_is_marked_base64() -> None:
    found = reread(document.of_execution(ended(b"\xff\0"), PROGRAM, [], []))
    assert (found["output"], found["output_encoding"]) == ("/wA=", "base64")


def test_a_trap_has_its_backtrace() -> None:
    frame = SimpleNamespace(function="divide", index=3, offset=17)
    execution = ended(
        status="failed", cause="trap", trap="divide by zero", message="m", backtrace=[frame]
    )
    found = reread(document.of_execution(execution, PROGRAM, [], []))
    assert found["error"] == {
        "code": "TRAP", "message": "m", "trap": "divide by zero", "hint": "",
    }  # fmt: skip
    assert found["backtrace"] == [{"function": "divide", "index": 3, "offset": 17}]
    assert found["exit_code"] is None


def test_a_refusal_is_no_execution() -> None:
    found = reread(document.of_refusal(document.code_of(ModuleInvalid("no")), "no", "look"))
    assert (found["status"], found["execution_id"]) == ("refused", None)
    assert found["error"] == {"code": "MODULE_INVALID", "message": "no", "trap": "", "hint": "look"}


def test_what_was_used_of_models_is_there_by_the_names_of_the_record() -> None:
    used = Usage(calls=2, prompt_tokens=3, completion_tokens=4, model_ns=5_000_000, cost_nano_usd=6)
    shown = {
        "calls": 2, "prompt_tokens": 3, "completion_tokens": 4, "model_ms": 5.0, "cost_nano_usd": 6,
    }  # fmt: skip
    here, node = ended(), Record(id="1", usage=used, tree_usage=used + used)
    here.usage = used
    found = reread(document.of_execution(here, PROGRAM, [], []))
    assert (found["usage"], found["tree_usage"]) == (shown, shown)
    found = reread(document.of_execution(node, None, [], []))
    assert (found["usage"], found["tree_usage"]) == (shown, {k: 2 * v for k, v in shown.items()})
    nothing = reread(document.of_execution(ended(), PROGRAM, [], []))
    assert nothing["usage"] == nothing["tree_usage"] == dict.fromkeys(shown, 0)


def test_lone_surrogates_do_not_break_the_document() -> None:
    assert reread({"path": "a\udcffb"}) == {"path": "a?b"}


def keys(value: object) -> object:
    """The names within, all the way down; lists count as one."""
    if isinstance(value, dict):
        return {name: keys(part) for name, part in value.items() if name != "error"}
    return None


def test_every_document_has_the_same_keys_in_the_same_order() -> None:
    failed = ended(status="failed", cause="trap", trap="t", message="m", backtrace=[])
    whole = document.of_execution(ended(), PROGRAM, [], [])
    trapped = document.of_execution(failed, PROGRAM, [], [])
    refused = document.of_refusal("NO", "no", "")
    assert keys(whole) == keys(trapped) == keys(refused)
    assert list(whole) == list(trapped) == list(refused)
    assert set(trapped["error"]) == set(refused["error"])


def test_a_key_beside_the_template_is_a_broken_invariant() -> None:
    for wrong in ({"bogus": 1}, {"times": {}}):
        with pytest.raises(RuntimeError):
            document._filled(wrong)

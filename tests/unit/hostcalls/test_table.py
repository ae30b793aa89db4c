"""The list of capabilities: beside the engine's import tables, and beside the frame protocol."""

from __future__ import annotations

import pytest

from spear._core.engine import describe_imports
from spear.hostcalls.table import (
    CAPABILITIES,
    MODULE,
    NATIVE,
    NOT_YET,
    PYTHON,
    Capability,
    by_import,
    by_op,
    served_by,
)

IMPORTS = {name: known for (module, name), known in describe_imports().items() if module == MODULE}

# The protocol's table of operations for agents: a range of codes, and what stands in it, in order.
OPERATIONS = {
    (16, 16): ["log"],
    (17, 27): [
        "object put", "object get", "object stat", "object list", "object delete",
        "object add_ref", "object remove_ref", "object pin", "object unpin", "object snapshot",
        "object transact",
    ],
    (32, 39): ["task invoke", "task result", "task cancel", "task wait"],
    (40, 59): [
        "chat create", "chat write", "chat tool", "chat send", "chat stream", "embeddings", "mcp",
        "http", "chat control",  # the last is ours, in the range of chats
    ],
    (60, 69): ["stream open", "stream write", "stream close", "stream control events"],
}  # fmt: skip


def test_every_import_is_a_capability_and_every_capability_with_an_import_is_one():
    calls = [capability.call for capability in CAPABILITIES if capability.call is not None]
    assert sorted(calls) == sorted(IMPORTS)
    assert len(calls) == len(set(calls)) == 50


@pytest.mark.parametrize("call", sorted(IMPORTS))
def test_signatures_are_those_of_the_engine(call: str):
    assert by_import(call).signature == IMPORTS[call].signature


@pytest.mark.parametrize("call", sorted(IMPORTS))
def test_a_call_that_native_code_lets_wait_is_one_that_blocks(call: str):
    """What Python answers always waits for Python; the ABI says nothing of that."""
    if IMPORTS[call].served_by == NATIVE:
        assert IMPORTS[call].waits == by_import(call).blocks


def test_names_and_codes_are_given_once():
    names = [capability.name for capability in CAPABILITIES]
    codes = [capability.op for capability in CAPABILITIES if capability.op is not None]
    assert len(names) == len(set(names))
    assert len(codes) == len(set(codes))


def test_operations_are_those_of_the_frame_protocol():
    for (first, last), names in OPERATIONS.items():
        found = sorted((c for c in CAPABILITIES if c.op is not None and first <= c.op <= last),
                       key=lambda c: c.op or 0)  # fmt: skip
        assert [c.name for c in found] == names
        assert [c.op for c in found] == list(range(first, first + len(names)))
    told = sum(map(len, OPERATIONS.values()))
    assert sum(c.op is not None for c in CAPABILITIES) == told


def test_codes_are_the_agents_own():
    """Others are the host's (1 to 3) and the clients' (128 and above)."""
    assert all(16 <= c.op <= 69 for c in CAPABILITIES if c.op is not None)


def test_who_serves_is_asked_of_the_engine():
    assert served_by(by_import("log")) == NATIVE
    assert served_by(by_op(26)) == NOT_YET
    assert {served_by(c) for c in CAPABILITIES} <= {NATIVE, PYTHON, NOT_YET}
    for call, known in IMPORTS.items():
        assert served_by(by_import(call)) == known.served_by


def test_a_capability_is_found_by_either_name():
    assert by_op(43) is by_import("cchat_send")
    with pytest.raises(KeyError, match="imported as 'teleport'"):
        by_import("teleport")
    with pytest.raises(KeyError, match="operation code 99"):
        by_op(99)


def test_signatures_are_told_as_the_engine_tells_them():
    assert Capability("x", "x", "iI", "").signature == "(i32, i64) -> ()"
    assert Capability("x", "x").signature == "() -> i32"

"""Module `spear_trial` exists for engines made for tests, and for no others."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasm_asm as asm
from guest_runs import ended, engine, executor, guest_bytes
from trial_runs import OPS, PARAMS, TRIAL, calling, trial_engine

from spear._core.engine import Engine, describe_imports, host_imports
from spear.errors import ModuleInvalid


def test_ordinary_engines_refuse_it():
    wasm = asm.module([(TRIAL, "noop", "", "i")], asm.call(0) + asm.DROP)
    with pytest.raises(ModuleInvalid, match=r"spear_trial\.noop \(func\)"):
        engine().load(wasm)
    assert not any(module == TRIAL for module, _ in host_imports())


def test_engines_for_tests_have_it_beside_all_else():
    extra = {name: known for (module, name), known in describe_imports(trial=True).items()
             if module == TRIAL}  # fmt: skip
    assert extra.keys() == PARAMS.keys()
    assert host_imports(trial=True).items() > host_imports().items()
    assert {name for name, known in extra.items() if known.served_by == "native"} == {
        "noop",
        "relay",
    }
    assert {name for name, known in extra.items() if known.waits} == extra.keys() - {"noop"}
    assert {name for name, known in extra.items() if known.reenters} == {"send"}


@pytest.mark.parametrize("name", PARAMS)
def test_signatures_follow_from_shapes(name: str):
    types = ", ".join("i64" if letter == "I" else "i32" for letter in PARAMS[name])
    assert describe_imports(trial=True)[TRIAL, name].signature == f"({types}) -> i32"


def test_a_wrong_signature_is_told():
    with pytest.raises(ModuleInvalid, match=r"spear_trial\.add as \(i32\) -> i32, here"):
        trial_engine().load(asm.module([(TRIAL, "add", "i", "i")], b""))


def test_what_a_module_posts_is_known():
    assert calling("echo", 0, 0, 0, 0).posted == ("echo",)
    assert calling("noop").posted == ()
    assert calling("noop").waiting == ()
    assert calling("pause").waiting == ("pause",)
    assert calling("pause").unserved == ()


def test_ordinary_modules_run_on_it():
    with executor() as node:
        assert ended(node.start(trial_engine().load(guest_bytes("hello")))).exit_code == 0
    assert trial_engine().trial
    assert not engine().trial


def test_code_of_the_two_kinds_of_engines_is_cached_apart(tmp_path: Path):
    folder, wasm = str(tmp_path / "cache"), guest_bytes("noop")
    for made in (Engine(slots=4), Engine(slots=4, trial=True)):
        assert made.load(wasm, cache_dir=folder).source == "compiled"
        assert made.load(wasm, cache_dir=folder).source == "cache"
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_operation_codes_are_no_agents():
    assert sorted(OPS.values()) == list(range(240, 246))


@pytest.mark.parametrize("workers", [1, 2])
def test_guests_that_relay_park_and_wake_one_another(workers: int):
    guests, times = 50, 20
    once = asm.i32_const(guests) + asm.call(0) + asm.DROP
    leave = asm.i32_const(0) + asm.call(0) + asm.DROP
    relaying = asm.module([(TRIAL, "relay", "i", "i")], once * times + leave)
    with executor(workers=workers) as node:
        batch = node.run_many(trial_engine().load(relaying), guests)
        stats = node.stats()
    assert batch.completed == guests
    # One of them runs, all others are parked; only the last may find itself as who waits longest.
    assert guests * (times - 1) - times <= stats["parks"] <= guests * times
    assert stats["woken"] <= guests * times

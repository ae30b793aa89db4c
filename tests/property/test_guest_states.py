"""The protocol of a guest's state word holds in every order of steps, and each mistake is found."""

from __future__ import annotations

from dataclasses import fields

import pytest

from tests.reference.guest_states import Broken, Faults, Model, explore

WORKERS = ("worker", "worker")
SCENES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "returns": ((), ("starter", *WORKERS)),
    "yields": (("yield", "yield"), ("starter", *WORKERS)),
    "waits for a reply": (("reply", "yield"), ("starter", *WORKERS, "waker")),
    "sleeps": (("sleep", "yield"), ("starter", *WORKERS, "timekeeper")),
    "waits and is killed": (("reply", "yield"), ("starter", *WORKERS, "waker", "doomer")),
    "waits in vain and is killed": (("reply",), ("starter", *WORKERS, "doomer")),
    "sleeps and is killed": (("sleep",), ("starter", "worker", "timekeeper", "doomer")),
    "loops and is killed": (("loop",), ("starter", *WORKERS, "doomer")),
    "yields and is killed twice": (("yield",), ("starter", *WORKERS, "doomer", "doomer")),
    "sleeps, then waits": (("sleep", "reply"), ("starter", "worker", "timekeeper", "waker")),
    "inline, waits": (("reply", "yield"), ("inline", "worker", "waker", "doomer")),
    "inline, loops": (("loop",), ("inline", "worker", "doomer")),
    "inline, sleeps": (("sleep",), ("inline", "worker", "timekeeper", "doomer")),
}


@pytest.mark.parametrize("scene", SCENES)
def test_the_protocol_holds(scene: str):
    script, threads = SCENES[scene]
    assert explore(Model(script, threads, Faults())) > 5


@pytest.mark.parametrize("fault", [field.name for field in fields(Faults)])
def test_each_planted_mistake_is_found(fault: str):
    found = {}
    for scene, (script, threads) in SCENES.items():
        try:
            explore(Model(script, threads, Faults(**{fault: True})))
        except Broken as error:
            found[scene] = str(error)
    assert found
    assert all("\n" in steps for steps in found.values()), "the steps are told"

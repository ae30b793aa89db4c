"""A guest that waits for messages is woken in every order of steps, and each mistake is found."""

from __future__ import annotations

from dataclasses import fields

import pytest

from tests.reference.bell import Faults, Model
from tests.reference.guest_states import Broken, explore

# messages wanted, whether the wait has a time, the threads
SCENES: dict[str, tuple[int, bool, tuple[str, ...]]] = {
    "one message": (1, False, ("worker", "producer")),
    "two messages, two workers": (2, False, ("worker", "worker", "producer", "producer")),
    "two messages, one worker": (2, False, ("worker", "producer", "producer")),
    "more than there are, then the end": (2, False, ("worker", "producer", "closer")),
    "the end": (1, False, ("worker", "worker", "closer")),
    "its time": (1, True, ("worker", "timekeeper")),
    "its time, or a message": (1, True, ("worker", "timekeeper", "producer")),
    "killed while it waits": (1, False, ("worker", "killer")),
    "killed, and a late message": (1, False, ("worker", "worker", "killer", "producer")),
    "killed, and a message of two": (2, False, ("worker", "killer", "producer")),
}


@pytest.mark.parametrize("scene", SCENES)
def test_no_wake_up_is_lost(scene: str):
    wanted, timed, threads = SCENES[scene]
    assert explore(Model(wanted, threads, Faults(), timed)) > 10


@pytest.mark.parametrize("fault", [field.name for field in fields(Faults)])
def test_each_planted_mistake_is_found(fault: str):
    for wanted, timed, threads in SCENES.values():
        try:
            explore(Model(wanted, threads, Faults(**{fault: True}), timed))
        except Broken as error:
            assert "\n" in str(error), "the steps are told"
            return
    pytest.fail("no scene finds it")

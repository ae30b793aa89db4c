"""The life of a posted call holds in every order of steps, and each planted mistake is found."""

from __future__ import annotations

from dataclasses import fields

import pytest

from tests.reference.guest_states import Broken, explore
from tests.reference.post_states import Faults, Model

SCENES: dict[str, tuple[int, tuple[str, ...]]] = {
    "is answered": (0, ()),
    "is killed": (0, ("killer",)),
    "loses its loop": (0, ("closer",)),
    "is killed and loses its loop": (0, ("killer", "closer")),
    "runs a tool": (1, ()),
    "runs two tools and is killed": (2, ("killer",)),
    "runs tools and loses its loop": (2, ("closer",)),
    "runs tools, is killed and loses its loop": (2, ("killer", "closer")),
}


@pytest.mark.parametrize("scene", SCENES)
def test_the_protocol_holds(scene: str):
    assert explore(Model(*SCENES[scene], Faults())) > 8


@pytest.mark.parametrize("fault", [field.name for field in fields(Faults)])
def test_each_planted_mistake_is_found(fault: str):
    found = {}
    for scene, (tools, ends) in SCENES.items():
        try:
            explore(Model(tools, ends, Faults(**{fault: True})))
        except Broken as error:
            found[scene] = str(error)
    assert found
    assert all("\n" in steps for steps in found.values()), "the steps are told"

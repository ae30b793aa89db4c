"""The metadata store after SIGKILL and after a power cut: the first batches, and none that was told
to be safe is missing. That the judge sees faults is shown by planting them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from kv_runs import FAULTS, Trial

ROUNDS = 10  # of each ending
ROUNDS_MAX = 200  # until a planted fault is seen; mostly it is one, seldom ten
ROUNDS_SOAK = 2000
ENDINGS = ("kill", "power")


@pytest.mark.parametrize("seed", [1, 2])
def test_what_was_told_to_be_safe_survives(tmp_path: Path, seed: int) -> None:
    trial = Trial(tmp_path / "kv", seed)
    for _ in range(ROUNDS):
        trial.round("kill")
        trial.round("power")
    assert trial.known > 100


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(tmp_path: Path, fault: str) -> None:
    ending = FAULTS[fault][1]
    trial = Trial(tmp_path / "kv", 3, fault)
    with pytest.raises(AssertionError, match=f"after {ending}"):
        for _ in range(ROUNDS_MAX):
            trial.round(ending)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 14))
def test_what_was_told_to_be_safe_survives_many_times(tmp_path: Path, seed: int) -> None:
    trial = Trial(tmp_path / "kv", seed)
    for _ in range(ROUNDS_SOAK):
        trial.round(trial.dice.choice(ENDINGS))

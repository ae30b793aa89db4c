"""A batch refuses what is beyond its limits, and keeps none of it."""

from __future__ import annotations

import pytest

from spear.errors import InvalidArgument
from spear.kv import batch
from spear.kv.batch import Batch


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "BATCH_BYTES_MAX", 100)
    monkeypatch.setattr(batch, "BATCH_KEYS_MAX", 3)


def test_what_was_refused_takes_no_room() -> None:
    made = Batch()
    with pytest.raises(InvalidArgument, match="a batch holds at most"):
        made.put(b"a", bytes(100))
    made.put(b"a", bytes(99))
    assert made.bytes == 100
    with pytest.raises(InvalidArgument, match="a batch holds at most"):
        made.delete(b"b")


def test_what_was_put_can_be_taken_back_from_a_full_batch() -> None:
    made = Batch()
    for key in (b"a", b"b", b"c"):
        made.put(key, bytes(32))
    with pytest.raises(InvalidArgument, match="a batch holds at most"):
        made.put(b"d", b"")
    made.delete(b"b")
    assert made.changes[b"b"] is None

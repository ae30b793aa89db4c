"""Who waits for a write hears of it, whatever others do with what they hear."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from spear.kv.memory import open_memory
from spear.spearlet.node.journal import Journal


def wrong(_: Exception | None) -> None:
    raise RuntimeError("planted")


@pytest.mark.parametrize("power", [False, True])
async def test_one_that_raises_keeps_nothing_from_the_others(power: bool):
    said: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: said.append(what["exception"]))
    journal = Journal(open_memory())
    journal.put(b"a", b"1")
    journal.then(wrong)
    journal.then(wrong, power=True)
    async with asyncio.timeout(10):
        await journal.kept(power=power)
    await journal.close()
    assert [str(error) for error in said] == ["planted", "planted"]

"""An execution that cannot be begun ends, whatever the reason; others go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from node_runs import DIGEST, HANG_S, answer, bench

from spear.records.task import Pool


async def test_an_artifact_that_cannot_be_read_fails_its_execution(tmp_path: Path):
    async with bench(tmp_path, answer) as node:
        await node.ready()
        await node.stop()
        (file,) = tmp_path.glob(f"artifacts/*/{DIGEST}")
        file.unlink()
        file.mkdir()
        services = await node.start()
        async with asyncio.timeout(HANG_S):
            execution = await services.invoke("work")
        assert execution.error is not None
        assert (execution.status, execution.error.code) == ("failed", "ARTIFACT")


@pytest.mark.parametrize("isolation", ["fresh", "shared"])
async def test_what_nobody_foresaw_fails_one_execution_and_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolation: str
):
    async with bench(tmp_path, answer) as node:
        services = await node.ready(pool=Pool(isolation=isolation))
        failures: list[BaseException] = []
        monkeypatch.setattr(node.said, "failure", lambda _, error, **more: failures.append(error))
        planted = ValueError("planted")
        name = "start" if isolation == "fresh" else "warm"
        begin, faults = getattr(node.runtime, name), [planted]

        def begins(*given: object) -> object:
            if faults:
                raise faults.pop()
            return begin(*given)

        monkeypatch.setattr(node.runtime, name, begins)
        async with asyncio.timeout(HANG_S):
            one, two = await asyncio.gather(services.invoke("work"), services.invoke("work"))
        assert one.status == "failed"
        assert two.error is None or isolation == "shared", two.error
        assert one.error is not None
        assert "planted" not in one.error.message
        assert failures == [planted]
        assert (await services.stats())["admission"]["running"] == 0

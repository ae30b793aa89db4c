"""A list of executions, page by page, has each once: those that run and those that ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from node_runs import bench, until


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
async def test_pages_have_all_live_and_ended_executions_once(tmp_path: Path, limit: int):
    async with bench(tmp_path) as node:
        services = await node.ready()
        ids = [(await services.submit("work")).id for _ in range(6)]
        await node.run(5)
        for at in (0, 3, 4):
            node.runtime.runs[at].finish()
        await until(lambda: len(services._executions.works()) == 3)
        pages, token = [], ""
        while not pages or token:
            page = await services.executions(limit=limit, page_token=token)
            assert len(page.executions) <= limit
            pages += page.executions
            token = page.next_page_token
        assert sorted(one.id for one in pages) == sorted(ids)
        stamps = [(one.created_ns, one.id) for one in pages]
        assert stamps == sorted(stamps, reverse=True)
        assert [one.ended for one in pages].count(True) == 3

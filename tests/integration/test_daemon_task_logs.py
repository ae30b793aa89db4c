"""What a node keeps of one task's logs is as large as it is configured, and who reads is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from real_daemon import real_daemon

from spear.records.execution import Invocation
from spear.records.task import Limits

MIB = 1 << 20


@pytest.mark.parametrize(("size", "kept"), [("8MiB", False), ("32MiB", True)])
async def test_a_task_s_log_is_as_long_as_configured(tmp_path: Path, size: str, kept: bool) -> None:
    async with real_daemon(tmp_path) as daemon:
        await daemon.live(SPEARLET_LOGS_TASK_SIZE=size)
        await daemon.register("log_flood", limits=Limits(log_bytes=32 * MIB))
        call = Invocation(args=("100000", "100"))
        ended = await daemon.client.wait((await daemon.client.submit("log_flood", b"", call)).id)
        assert (ended.log_lines, ended.log_truncated) == (100_000, False)
        lines = [line async for batch in daemon.client.logs(ended.id) for line in batch]
        assert lines[-1].seq == 100_000
        assert (len(lines) == 100_000, lines[0].stream == "log") == (kept, kept)
        if not kept:
            said = f"lines 1 to {lines[0].seq} are gone: removed for logs.task_size, logs.size or "
            assert lines[0].message.startswith(said)
            files = (daemon.data / "logs" / "log_flood").iterdir()
            assert sum(file.stat().st_size for file in files) < 9 * MIB


async def test_that_nothing_is_left_of_a_log_is_told(tmp_path: Path) -> None:
    """As where the limits took all of its files, or the node was restored from a backup."""
    async with real_daemon(tmp_path) as daemon:
        client = await daemon.live()
        await daemon.register("answer")
        logged = await client.invoke("answer", b"", Invocation(args=("Ada",)))
        await daemon.register("noop")
        silent = await client.invoke("noop")
        assert (logged.log_lines > 0, silent.log_lines) == (True, 0)
        await daemon.die()
        shutil.rmtree(daemon.data / "logs")
        client = await daemon.live()
        (mark,) = [line async for batch in client.logs(logged.id) for line in batch]
        assert (mark.stream, mark.seq) == ("system", logged.log_lines)
        assert f"to {logged.log_lines} are gone: " in mark.message
        assert [batch async for batch in client.logs(logged.id, after_seq=mark.seq)] == []
        assert [batch async for batch in client.logs(silent.id)] == []

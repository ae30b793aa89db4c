"""What a node keeps of one task's logs is as large as it is configured, and who reads is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from real_daemon import real_daemon

from spear.records.execution import Invocation
from spear.records.task import Limits

MIB = 1 << 20


@pytest.mark.parametrize(("size", "kept"), [("8MiB", False), ("32MiB", True)])
async def test_a_task_s_log_is_as_long_as_configured(
    tmp_path: Path, size: str, kept: bool
) -> None:
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

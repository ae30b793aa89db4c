"""An artifact is compiled from the bytes that came, not from what was written of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from node_runs import CODE, DIGEST, bench

from spear.spearlet.node.blobs import Blobs


async def cut(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 7):
        yield data[at : at + 7]


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_is_put_is_not_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streamed: bool
):
    async with bench(tmp_path) as node:
        services = await node.start()

        async def read(self: Blobs, digest: str) -> bytes:
            raise AssertionError("it was read back")

        monkeypatch.setattr(Blobs, "read", read)
        artifact = await services.put_artifact(cut(CODE) if streamed else CODE)
        assert (artifact.digest, artifact.size) == (DIGEST, len(CODE))
        monkeypatch.undo()
        found = b"".join([part async for part in services.read_artifact(DIGEST)])
        assert found == CODE

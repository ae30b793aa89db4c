"""A start that is refused has begun nothing: what waits for the node is there for the next one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_child import Child
from real_daemon import real_daemon


@pytest.fixture
def taken() -> Iterator[str]:
    """An address where somebody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield f"127.0.0.1:{sock.getsockname()[1]}"


async def test_what_was_accepted_is_not_begun_by_a_start_that_is_refused(
    tmp_path: Path, taken: str
) -> None:
    async with real_daemon(tmp_path) as daemon:
        await daemon.live()
        await daemon.register("sleeper", args=("60000",), concurrency=1)
        (running, waiting) = [(await daemon.client.submit("sleeper", b"")).id for _ in range(2)]
        await daemon.die()
        code, said = await daemon.refused("--real", "--grpc-addr", taken)
        assert (code, f"cannot listen at {taken}" in said) == (4, True), said
        await daemon.live()
        assert (await daemon.client.wait(running)).cause == "lost"
        found = await daemon.client.execution(waiting)
        assert (found.status, found.cause) in {("pending", ""), ("running", "")}


@pytest.mark.parametrize("key", ["grpc.addr", "frames.addr", "socket", "ports file"])
async def test_nobody_is_told_that_it_answers(tmp_path: Path, taken: str, key: str) -> None:
    child = Child(tmp_path)
    words, environ = [], {}
    if key == "grpc.addr":
        words = ["--grpc-addr", taken]
    elif key == "frames.addr":
        environ = {"SPEARLET_FRAMES_ADDR": taken}
    elif key == "socket":
        words = ["--socket", str(tmp_path / "missing" / "s")]
    else:
        child.ports = tmp_path  # a directory
    try:
        code, said = await child.refused(*words, **environ)
        assert (code in (2, 4), key in said) == (True, True), said
        assert child.process.stdout is not None
        assert await child.process.stdout.read() == b""
        assert sorted(path.name for path in child.data.iterdir()) == ["daemon.lock", "token"]
    finally:
        await child.stop()

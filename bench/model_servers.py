"""The server of model_server.py, started and told what to do, and a node whose model it is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


class ModelServer:
    """In a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.url = self.line()

    def line(self) -> str:
        """The next one that it prints."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def release(self) -> None:
        """Its streams begin to speak."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    @property
    def settings(self) -> dict[str, Any]:
        """Of a node that has it as its only model."""
        backend = {
            "name": "bench", "kind": "openai_chat_completion", "hosting": "local",
            "base_url": self.url, "model": "m", "ops": ["chat_completions"],
        }  # fmt: skip
        return {"llm": {"backends": [backend]}, "limits.timeout": "10m"}


@contextmanager
def model_server(chunks: int, interval_ms: int, streams: int) -> Iterator[ModelServer]:
    command = [sys.executable, HERE / "model_server.py", *map(str, (chunks, interval_ms, streams))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield ModelServer(process)
        finally:
            process.kill()

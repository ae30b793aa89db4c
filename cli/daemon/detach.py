"""Starts a daemon in the background and waits until it answers.

The rule: it is in a session of its own and keeps nothing of the terminal; what it says before it is
ready, and why it could not be, is said here. Until it is ready an interrupt ends it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, NamedTuple

from spear.cli import exits, terminal
from spear.config import Config
from spear.errors import InvalidArgument

LOG_NAME, ERRORS_NAME = "spearlet.log", "spearlet.err"
_READY = "spearlet ready: "
_ALL_READY = f"{_READY}grpc "
_SAID_BYTES_MAX = 1 << 16


class Started(NamedTuple):
    pid: int
    doors: dict[str, str]


def log_path_of(config: Config) -> str:
    """Where one logs that has no stderr."""
    return config.log_path or os.path.join(config.data_dir, LOG_NAME)


def ready_line(door: str, address: str) -> str:
    """As the daemon itself says it."""
    return f"{_READY}{door} {address}\n"


def start(config: Config, words: Sequence[str]) -> Started | int:
    """Runs `spear up WORDS`; gives its pid and where it answers, or its exit code where it could
    not start, which was said then. Raises InvalidArgument where there can be no data directory."""
    if config.log_path is None:
        words = [*words, "--log-file", log_path_of(config)]
    with _draft(config.data_dir) as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "spear.cli.main", "up", "--quiet", *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
        )  # fmt: skip
        assert child.stdout is not None
        try:
            with child.stdout:
                doors = dict(_doors(child.stdout))
        except BaseException:
            child.send_signal(signal.SIGTERM)
            child.wait()
            raise
        if "grpc" in doors:
            child.returncode = 0  # it is not ours to wait for any more
            os.replace(errors.name, os.path.join(config.data_dir, ERRORS_NAME))
            return Started(child.pid, doors)
        code = child.wait()
        _tell(errors)
    return code if code > 0 else exits.FAILED


@contextmanager
def _draft(folder: str) -> Iterator[IO[bytes]]:
    """The file that gets what it cannot log. It has its name once the directory is the new node's:
    until then the file of that name is of the one that runs there."""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        file = tempfile.NamedTemporaryFile(  # noqa: SIM115 (mode 0600)
            prefix=f"{ERRORS_NAME}.", dir=folder, delete=False
        )
    except OSError as error:
        reason = error.strerror
        raise InvalidArgument(f"cannot use the data directory {folder!r}: {reason}") from error
    try:
        with file:
            yield file
    finally:
        with suppress(FileNotFoundError):
            os.unlink(file.name)


def _doors(lines: IO[bytes]) -> Iterator[tuple[str, str]]:
    """Doors and addresses as they open, up to the last; other lines are shown."""
    for line in lines:
        text = line.decode("utf-8", "replace").rstrip("\n")
        if not text.startswith(_READY):
            terminal.say(text + "\n")
            continue
        door, _, address = text.removeprefix(_READY).partition(" ")
        yield door, address
        if text.startswith(_ALL_READY):
            return


def _tell(file: IO[bytes]) -> None:
    """What the daemon said of its failure."""
    said = os.pread(file.fileno(), _SAID_BYTES_MAX, 0).decode("utf-8", "replace")
    terminal.say(said or "error: the node ended before it was ready\n")

"""A file system of a few MiB, for tests of full disks; skipped where it may not be mounted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(path: Path, *options: str, size_mib: int = 32) -> Iterator[Path]:
    """Mounted at `path`, which is made. Needs the right to mount."""
    path.mkdir()
    asked = ",".join((f"size={size_mib}m", "mode=0700", *options))
    words = ["mount", "-t", "tmpfs", "-o", asked, "tmpfs", str(path)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"may not mount a file system: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk: Path, free_bytes: int = 0) -> Path:
    """A file that takes all room but so much; to be removed again."""
    filler, found = disk / "filler", os.statvfs(disk)
    left = found.f_bavail * found.f_frsize - free_bytes
    with filler.open("ab", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size + left)
    return filler

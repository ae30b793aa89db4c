"""Where a daemon's own log goes: stderr, or a file that rotates."""

from __future__ import annotations

import os

from spear.clock import Clock
from spear.config import Config
from spear.errors import InvalidArgument
from spear.telemetry.jsonlog import Descriptor, Log, began_of, open_log
from spear.telemetry.redact import Redactor
from spear.telemetry.rotating import Limits, RotatingFile

_STDERR = 2
_FILE_BYTES_MAX, _FILES_MAX = 16 << 20, 7


def open_system_log(config: Config, clock: Clock, redactor: Redactor) -> Log:
    """By `logging.*`, without what the redactor knows; `auto` is for people on a terminal, and JSON
    everywhere else. Raises InvalidArgument where the file cannot be written."""
    target = _file(config, clock, config.log_path) if config.log_path else Descriptor(_STDERR)
    form = config.log_format
    if form == "auto":
        form = "console" if not config.log_path and os.isatty(_STDERR) else "json"
    return open_log(
        target, clock, redactor, level=config.log_level, form=form, node=config.node_name
    )


def _file(config: Config, clock: Clock, path: str) -> RotatingFile:
    """Opened now: it is there once it was named, and what cannot be logged is no surprise later."""
    limits = Limits(_FILE_BYTES_MAX, _FILES_MAX, config.logs_ns_max)
    file = RotatingFile(path, limits, clock, began_of)
    try:
        file.open()
    except OSError as error:
        raise InvalidArgument(f"logging.file: cannot write {path!r}: {error.strerror}") from error
    return file

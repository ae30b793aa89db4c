"""Serves a node in this process: the composition root of `spear up` and `spearlet`.

The rule: what is needed is made here and handed on; nothing else of the command is imported.
"""

from __future__ import annotations

from spear import config as configuration
from spear.cli import terminal
from spear.clock import Clock
from spear.config import Config
from spear.spearlet import daemon
from spear.spearlet.node.serving import open_served
from spear.telemetry import jsonlog, rotating
from spear.telemetry.redact import Redactor

_LOG_FILE_BYTES, _LOG_FILES = 16 << 20, 8


def serve(config: Config, ports_file: str) -> int:
    """Until it is asked to end; the exit code. Raises SpearError for what is refused at start."""
    log = _log_of(config)
    environ = configuration.environment()
    try:
        start = daemon.Start(environ=environ, clock=Clock(), log=log, ports_file=ports_file)
        return daemon.run(config, start, open_served)
    finally:
        log.close()


def _log_of(config: Config) -> jsonlog.Log:
    target: jsonlog.Target = jsonlog.Descriptor(terminal.STDERR)
    form = config.log_format
    if form == "auto":
        shown = config.log_path is None and terminal.is_terminal(terminal.STDERR)
        form = "console" if shown else "json"
    if config.log_path is not None:
        limits = rotating.Limits(_LOG_FILE_BYTES, _LOG_FILES, config.logs_ns_max)
        target = rotating.RotatingFile(config.log_path, limits, Clock(), jsonlog.began_of)
    return jsonlog.open_log(
        target, Clock(), Redactor(), level=config.log_level, form=form, node=config.node_name
    )

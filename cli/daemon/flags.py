"""The flags with which a daemon is started, of `spear up` and of `spearlet`.

The rule: a flag is a setting by another name; one that this build does not serve is taken and then
refused with the reason, by the same words as in a file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from spear import config as configuration
from spear.clock import Clock
from spear.config import Config

# Flag -> key, metavar, help; without help it is hidden, as it is refused.
FLAGS: dict[str, tuple[str, str, str]] = {
    "--node-name": ("node_name", "NAME", "What the node is called (default: the host's name)."),
    "--socket": ("socket", "PATH", "The Unix socket for callers of this machine."),
    "--grpc-addr": ("grpc.addr", "HOST:PORT", "Where gRPC is served (port 0: any)."),
    "--storage-backend": ("storage.backend", "rocksdb|memory", "Where records are kept."),
    "--storage-path": ("storage.data_dir", "DIR", "Everything that the node keeps."),
    "--auth-loopback": ("auth.loopback", "token|open", "open: loopback callers need no token."),
    "--log-level": ("logging.level", "LEVEL", "trace, debug, info, warn or error."),
    "--log-format": ("logging.format", "FORMAT", "json, console, or auto: as stderr is."),
    "--log-file": ("logging.file", "FILE", "Where the node logs instead of stderr."),
    "--http-addr": ("http.server.addr", "HOST:PORT", ""),
    "--sms-grpc-addr": ("sms_grpc_addr", "HOST:PORT", ""),
    "--sms-http-addr": ("sms_http_addr", "HOST:PORT", ""),
    "--advertise": ("advertise", "HOST", ""),
}  # fmt: skip
_PORTS_FILE = click.option(
    "--ports-file", metavar="FILE", default="",
    help="Gets the node's addresses as JSON once they answer.",
)  # fmt: skip


def daemon_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them to a click command; it gets them by their keys' attributes (`said`)."""
    for flag, (_, metavar, text) in reversed(FLAGS.items()):
        command = click.option(flag, _parameter(flag), metavar=metavar, help=text, hidden=not text)(
            command
        )
    return _PORTS_FILE(command)


def config_of(path: str | None, said: dict[str, str | None]) -> Config:
    """Raises InvalidArgument, NotFound."""
    flags = {
        key: (flag, said[_parameter(flag)])
        for flag, (key, _, _) in FLAGS.items()
        if said[_parameter(flag)] is not None
    }
    return configuration.load(path, flags=flags, defaults={"node_name": Clock().host_name()})


def words_of(path: str | None, said: dict[str, str | None]) -> list[str]:
    """The same flags again, for another process."""
    words = ["--config", path] if path else []
    for flag in FLAGS:
        value = said[_parameter(flag)]
        words += [flag, value] if value is not None else []
    return words


def _parameter(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")

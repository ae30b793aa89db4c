"""`spear up`: starts a node."""

from __future__ import annotations

from collections.abc import Mapping

import click

from spear import __version__
from spear import config as configuration
from spear.cli import exits, spearlet, terminal
from spear.cli.arguments import parse
from spear.cli.daemon.flags import daemon_flags, words_of
from spear.cli.screens import details, words
from spear.cli.visits.options import CONFIG
from spear.config import Config

_STOP = "Ctrl-C lets what runs end, a second one does not"


@click.command()
@CONFIG
@daemon_flags
@click.option("--detach", is_flag=True, help="In the background; returns once it answers.")
@click.option("--quiet", is_flag=True, help="Say only where it answers, one line each.")
@click.pass_context
def command(
    context: click.Context, /, path: str | None, detach: bool, quiet: bool, **said: str | None
) -> None:
    """Start a node: it keeps tasks and runs what they are invoked for, until it is stopped.

    In the foreground Ctrl-C stops it: once lets what runs end, twice does not. In the background
    `spear node drain` does. What was registered and accepted is there again at the next start.

    \b
    spear up
    spear up --detach
    spear up --storage-path ./data --grpc-addr 127.0.0.1:0 --ports-file ports.json
    """
    again = words_of(path, said)
    config = spearlet.config_of(parse(again, spearlet.OPTIONS))
    if detach:
        context.exit(_detached(config, path, again, quiet=quiet))

    def opened(doors: Mapping[str, str]) -> None:
        node = _node_option(config, path)
        terminal.say(screen(config, doors, node, _STOP, config.log_path or "stderr"))

    ports_file = said["ports_file"] or ""
    context.exit(spearlet.serve(config, ports_file=ports_file, opened=None if quiet else opened))


def _detached(config: Config, path: str | None, again: list[str], *, quiet: bool) -> int:
    from spear.cli.daemon import detach

    started = detach.start(config, again)
    if isinstance(started, int):
        return started
    if quiet:
        text = "".join(detach.ready_line(*door) for door in started.doors.items())
    else:
        node = _node_option(config, path)
        stop = f"spear node drain{node} (process {started.pid})"
        text = screen(config, started.doors, node, stop, detach.log_path_of(config))
    terminal.write(terminal.STDOUT, text.encode("utf-8", "backslashreplace"))
    return exits.OK


def _node_option(config: Config, path: str | None) -> str:
    """What a command needs to find this node, where that is not the one of the configuration."""
    own = configuration.load(path, refusals=[]).socket_path == config.socket_path
    return "" if own else f" --node unix:{config.socket_path}"


def screen(config: Config, doors: Mapping[str, str], node: str, stop: str, log: str) -> str:
    """What a person wants to know of a node that answers: where, where its data lies, how it
    stops. `node` is the option that finds it."""
    grpc = doors["grpc"]
    open_to_all = config.auth_loopback == "open"
    wants = "no token on loopback" if open_to_all else f"the token in {config.token_path}"
    kept = "in memory, gone with it" if config.storage_backend == "memory" else config.data_dir
    rows = [
        ("  socket", config.socket_path),
        ("  gRPC", f"{grpc}{', TLS' if config.grpc_tls else ''} ({wants})"),
        ("  data", kept),
        ("  log", log),
        ("  stop", stop),
        ("  try", f"spear task register{node} FILE.wasm, then spear invoke{node} NAME"),
    ]
    shown = [(name, words.one_line(value)) for name, value in rows]
    name = words.one_line(config.node_name)
    return f"SPEAR {__version__}, node {name}\n{details.columns(shown)}"

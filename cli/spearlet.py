"""The `spearlet` command: the node's daemon, in the foreground.

The rule: each flag is a setting of the configuration under a name of its own, so this table and
that of spear.config are all there is to know; without click, as the daemon starts in a moment.
"""

from __future__ import annotations

import sys

from spear import config as configuration
from spear.cli import exits, terminal
from spear.cli.arguments import Option, UsageError, parse
from spear.clock import Clock
from spear.errors import SpearError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from spear.cli.arguments import Parsed
    from spear.config import Config
    from spear.spearlet.daemon import Opened

# Flag, its metavar, the setting that it is.
FLAGS = (
    ("--node-name", "NAME", "node_name"),
    ("--grpc-addr", "HOST:PORT", "grpc.addr"),
    ("--http-addr", "HOST:PORT", "http.server.addr"),
    ("--socket", "PATH", "socket"),
    ("--storage-backend", "rocksdb|memory", "storage.backend"),
    ("--storage-path", "DIRECTORY", "storage.data_dir"),
    ("--sms-grpc-addr", "HOST:PORT", "sms_grpc_addr"),
    ("--sms-http-addr", "HOST:PORT", "sms_http_addr"),
    ("--advertise", "ADDRESS", "advertise"),
    ("--auth-loopback", "token|open", "auth.loopback"),
    ("--log-level", "LEVEL", "logging.level"),
    ("--log-format", "auto|json|console", "logging.format"),
    ("--log-file", "PATH", "logging.file"),
)
OPTIONS = (
    Option("--config", "FILE", "Configuration file instead of ~/.spear/config.toml."),
    Option("--ports-file", "FILE", "Write the addresses that are served there, as JSON."),
    *(Option(flag, metavar, f"Sets {key}.") for flag, metavar, key in FLAGS),
    Option("--version", "", "Say the version."),
    Option("--help", "", "Say this."),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the daemon to its end and gives the exit code."""
    terminal.occupy_closed()
    try:
        parsed = parse(sys.argv[1:] if argv is None else argv, OPTIONS)
        return _main(parsed)
    except UsageError as error:
        terminal.say_error(str(error), "spearlet --help shows what is accepted")
        return exits.WRONG_USE
    except SpearError as error:
        terminal.say_error(str(error))
        return exits.of_error(error)
    except KeyboardInterrupt:  # before there was a loop to hear of it
        return exits.INTERRUPTED


def _main(parsed: Parsed) -> int:
    if "help" in parsed.values:
        terminal.write(terminal.STDOUT, _help().encode())
        return exits.OK
    if "version" in parsed.values:
        from spear import __version__

        terminal.write(terminal.STDOUT, f"spearlet {__version__}\n".encode())
        return exits.OK
    if parsed.operands or parsed.rest:
        raise UsageError(
            f"spearlet takes options only, not {(*parsed.operands, *parsed.rest)[0]!r}"
        )
    return serve(config_of(parsed), ports_file=parsed.last("ports_file") or "")


def serve(config: Config, *, ports_file: str = "", opened: Opened | None = None) -> int:
    """Serves a node of this configuration until it is asked to end; the exit code. `opened` is
    told once it answers. Raises SpearError for what is refused at start."""
    from spear.spearlet.daemon import run

    return run(config, Clock(), configuration.environment(), ports_file=ports_file, opened=opened)


def config_of(parsed: Parsed) -> Config:
    """The configuration with the flags in it. Raises InvalidArgument, NotFound."""
    given = ((key, flag, parsed.last(flag[2:].replace("-", "_"))) for flag, _, key in FLAGS)
    return configuration.load(
        parsed.last("config"),
        flags={key: (flag, value) for key, flag, value in given if value is not None},
        defaults={"node_name": Clock().host_name()},
    )


def _help() -> str:
    names = [f"{option.flag} {option.metavar}".rstrip() for option in OPTIONS]
    width = max(map(len, names))
    lines = [
        f"  {name:{width}}  {option.summary}" for name, option in zip(names, OPTIONS, strict=True)
    ]
    return "\n".join(
        ["usage: spearlet [OPTIONS]", "", "Serves a node until it is asked to end.", "", *lines, ""]
    )


if __name__ == "__main__":
    sys.exit(main())

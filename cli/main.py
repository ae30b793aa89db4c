"""The `spear` command: sends each verb to its file.

The rule: `run` and `--version` are reached without click, which costs more than the rest of a
start; everything else, help and completion included, goes by the click tree. What cannot be
written becomes a sentence and an exit code here, for every verb.
"""

from __future__ import annotations

import sys

from spear.cli import exits, terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and gives the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    runs = arguments[:1] == ["run"]
    terminal.occupy_closed()
    try:
        return _dispatch(arguments)
    except BrokenPipeError:  # nobody reads any more: nobody to tell
        return exits.ENDED if runs else exits.FAILED
    except OSError as error:
        terminal.say_error(f"cannot write: {error.strerror or error}")
        return exits.COULD_NOT if runs else exits.FAILED


def _dispatch(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["run"] and not _asks_help(arguments[1:]):
        from spear.cli import run

        return run.main(arguments[1:])
    if arguments == ["--version"]:
        from spear import __version__

        terminal.write(terminal.STDOUT, f"spear {__version__}\n".encode())
        return exits.OK
    from spear.cli import tree

    return tree.invoke(arguments)


def _asks_help(arguments: Sequence[str]) -> bool:
    """`--help` before `--`, after which all belongs to the guest."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--help" in own or "-h" in own


if __name__ == "__main__":
    sys.exit(main())

"""The `spear` command: sends each verb to its file.

The rule: `run` and `--version` are reached without click, which costs more than the rest of a
start; everything else, help and completion included, goes by the click tree.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and gives the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["run"] and not _asks_help(arguments[1:]):
        from spear.cli import run

        return run.main(arguments[1:])
    if arguments == ["--version"]:
        from spear import __version__

        print(f"spear {__version__}")
        return 0
    from spear.cli import tree

    return tree.invoke(arguments)


def _asks_help(arguments: Sequence[str]) -> bool:
    """`--help` before `--`, after which all belongs to the guest."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--help" in own or "-h" in own


if __name__ == "__main__":
    sys.exit(main())

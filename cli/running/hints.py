"""What to do about a run that could not be: one hint an error, where there is one.

The rule: imported only once a run was refused, so it may look into the module again.
"""

from __future__ import annotations

import os

from spear import config as configuration
from spear.cli.arguments import UsageError
from spear.errors import EngineUnavailable, ModuleInvalid, ModuleLimit, SpearError, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear._core.wasmfile import WasmFile
    from spear.cli.arguments import Parsed


def hint(error: Exception, parsed: Parsed | None) -> str:
    """One sentence, or "" where nothing better than the error can be said."""
    if isinstance(error, UsageError):
        return "spear run --help shows the options"
    if isinstance(error, ModuleLimit) and error.key:
        return f"{error.key} in the configuration allows more"
    if isinstance(error, ModuleLimit) and parsed is not None:
        return _memory_hint(parsed)
    if parsed is not None and parsed.operands and (found := _no_module(parsed.operands[0])):
        return found
    if isinstance(error, ModuleInvalid):
        module = None if parsed is None else _scanned(parsed)
        if module is not None and module.reactor:
            return (
                "it is a reactor, not a command: its functions are called from Python, as "
                "examples/reactor shows; spear doctor FILE.wasm lists them"
            )
        return "spear doctor FILE.wasm shows what the module is and needs"
    if isinstance(error, EngineUnavailable):
        return "spear doctor shows what this machine lacks"
    if isinstance(error, Unreachable):
        return "spear up starts a node; without --node the run needs none"
    return ""


def _no_module(path: str) -> str:
    """Where what was named is another thing than a module."""
    if path.endswith(".toml") or os.path.isdir(path):
        return f"a task file is run by a node: spear submit -f {path} --wait"
    if not os.path.splitext(path)[1] and not os.path.exists(path):
        return f"a registered task is called by spear invoke {path}"
    return ""


def _memory_hint(parsed: Parsed) -> str:
    """The --memory that the module needs, where memory is what it lacks."""
    from spear.cli.run import config_of

    module = _scanned(parsed)
    if module is None or module.memory_min_bytes <= config_of(parsed).memory_bytes_max:
        return ""
    needed = configuration.format_size(module.memory_min_bytes)
    return f"--memory {needed} is enough for it to start"


def _scanned(parsed: Parsed) -> WasmFile | None:
    """What the module says about itself; None where it cannot be read."""
    from spear._core import wasmfile

    try:
        with open(parsed.operands[0], "rb") as file:
            return wasmfile.scan(file.read())
    except (OSError, SpearError):
        return None

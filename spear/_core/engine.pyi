"""Wasmtime through its C API; see engine.pyx for the rules."""

from typing import final

from spear._core.compiler import Compiler

VERSION_FLOOR: tuple[int, int, int]
VERSION_CEILING: tuple[int, int, int]  # first release not tried

def library() -> tuple[str, str]:
    """Version and path of the engine's library. Raises EngineUnavailable with what to install."""

@final
class Import:
    """What the host says of one import."""

    signature: str
    served_by: str  # "native", "python" or "not yet"
    waits: bool  # it may leave the guest waiting
    reenters: bool  # it may call the guest's own tools

def describe_imports(*, trial: bool = False) -> dict[tuple[str, str], Import]:
    """Each import a guest may have, by (module, name); `trial`: those of tests too."""

def host_imports(*, trial: bool = False) -> dict[tuple[str, str], tuple[str, bool]]:
    """What guests may import: {(module, name): (signature, served)}."""

@final
class Module:
    """A compiled and linked module, ready to be instantiated; immutable, safe to share."""

    digest: str  # sha256 of the wasm bytes, hex
    shape: str  # "small" (memory minimum up to 1 MiB) or "large"
    memory_min_bytes: int
    memory_max_bytes: int | None
    exports: tuple[str, ...]  # exported functions
    unserved: tuple[str, ...]  # imports of the ABI that answer -ENOSYS in this build
    waiting: tuple[str, ...]  # imports that may leave the guest waiting
    metered: bool  # its code counts fuel
    uses_objects: bool  # whether it imports a call of the object store
    puts_objects: bool  # whether it imports the put: it may ask that an object be kept
    posted: tuple[str, ...]  # imports that Python answers
    self_contained: bool  # nothing its guests do is seen before they end, but in directories
    source: str  # "compiled" or "cache"
    warning: str  # why the cache was not used although asked for, else ""

@final
class Engine:
    """One engine, made at the first load; `slots` guests may live at once. With `metered` its
    code counts fuel and is deterministic (NaN bits, relaxed SIMD). What is not in the cache is
    compiled by `compiler` (None: one with its defaults). `trial`, for tests and benchmarks only,
    also serves module `spear_trial`, whose calls Python answers."""

    metered: bool
    trial: bool

    def __init__(
        self,
        *,
        slots: int = 1000,
        metered: bool = False,
        compiler: Compiler | None = None,
        trial: bool = False,
    ) -> None: ...
    def load(self, wasm: bytes, *, cache_dir: str | None = None) -> Module:
        """Compiles or loads from the cache. Raises ModuleInvalid (not wasm, truncated, component,
        unknown imports with all names, wrong signatures, more than one memory), ModuleLimit (its
        table; time or memory of the compile), and what else Compiler.compile raises."""

    def stats(self) -> dict[str, int | str]:
        """Memories and stacks of guests: made, idle, resident bytes; how they are cleaned."""

    def trim(self) -> None:
        """Gives the pages of idle guests' memories and stacks back to the system."""

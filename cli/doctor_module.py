"""What one module is and needs: read from its bytes first, so that a broken engine or a module
that cannot run still gets an answer."""

from __future__ import annotations

from spear import config as configuration
from spear._core import wasmfile
from spear._core.wasmfile import WasmFile
from spear.cli.finding import Finding
from spear.clock import Clock
from spear.config import format_size
from spear.errors import InvalidArgument, ModuleInvalid, SpearError

_SMALLER = "with clang or zig cc: -Wl,-z,stack-size=65536; it starts faster and takes less memory"


def module_findings(path: str) -> list[Finding]:
    """Raises InvalidArgument where the file cannot be read."""
    try:
        with open(path, "rb") as file:
            wasm = file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidArgument(f"cannot read {path!r}: {reason}") from error
    try:
        module = wasmfile.scan(wasm)
    except ModuleInvalid as error:
        return [Finding("module", "missing", str(error))]
    return [*_declared(wasm, module), *_engine_says(wasm)]


def _declared(wasm: bytes, module: WasmFile) -> list[Finding]:
    found = [
        Finding("module", "ok", f"core wasm, {len(wasm)} bytes, {module.function_count} functions"),
        _shape(module),
        _memory(module),
        _entry(module),
        Finding("imports", "ok", _imports(module) or "none"),
    ]
    if not module.names:
        advice = "keep the name section, so that a backtrace shows functions by name"
        found.append(Finding("names", "note", "no name section", advice))
    return found


def _shape(module: WasmFile) -> Finding:
    found = f"{module.shape}: begins with {format_size(module.memory_min_bytes)} of memory"
    if module.shape == "small":
        return Finding("shape", "ok", found)
    return Finding("shape", "note", found, _SMALLER)


def _memory(module: WasmFile) -> Finding:
    advice = "hostcalls that pass pointers answer -EFAULT: export it under the name memory"
    if not module.memories:
        return Finding("memory", "note", "none", advice)
    low, high, imported = module.memories[0]
    found = f"{low} to {'any number of' if high is None else high} pages of 64 KiB"
    if len(module.memories) > 1:
        return Finding("memory", "missing", f"{len(module.memories)} memories", "build with one")
    if imported:
        return Finding("memory", "missing", f"imported, {found}", "the module must have its own")
    if ("memory", "memory", None) not in module.exports:
        return Finding("memory", "note", f"not exported, {found}", advice)
    return Finding("memory", "ok", found)


def _entry(module: WasmFile) -> Finding:
    names = [name for name, kind, _ in module.exports if kind == "func"]
    if ("_start", "func", "() -> ()") in module.exports:
        return Finding("entry", "ok", "_start")
    found = f"no _start; exported functions: {', '.join(names) or 'none'}"
    return Finding("entry", "missing", found, "build a command, not a library (reactor)")


def _imports(module: WasmFile) -> str:
    by_module: dict[str, list[str]] = {}
    for wanted in module.imports:
        by_module.setdefault(wanted.module, []).append(wanted.name)
    return "; ".join(f"{name}: {', '.join(sorted(found))}" for name, found in by_module.items())


def _engine_says(wasm: bytes) -> list[Finding]:
    """Compiles it as a run would, without the cache."""
    try:
        from spear._core.engine import Engine

        module = Engine(slots=1).load(wasm)
    except ImportError as error:
        return [Finding("engine", "missing", str(error), "spear doctor")]
    except SpearError as error:
        return [Finding("engine", "missing", str(error))]
    found = [Finding("engine", "ok", "accepts it"), _limit(module.memory_min_bytes)]
    if module.unserved:
        advice = "calls of these answer -ENOSYS"
        found.append(Finding("unserved", "note", ", ".join(module.unserved), advice))
    return found


def _limit(memory_bytes: int) -> Finding:
    limit = configuration.load(defaults={"node_name": Clock().host_name()}).memory_bytes_max
    found = f"{format_size(memory_bytes)} at start, {format_size(limit)} allowed"
    if memory_bytes <= limit:
        return Finding("memory limit", "ok", found)
    return Finding("memory limit", "missing", found, "spear run --memory raises it")

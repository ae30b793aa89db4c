"""What one module is and needs: read from its bytes first, so that a broken engine or a module
that cannot run still gets an answer."""

from __future__ import annotations

from spear._core import wasmfile
from spear._core.wasmfile import WasmFile
from spear.cli.verbs.machine.doctor_machine import load_config
from spear.cli.verbs.machine.finding import Finding
from spear.config import Config, format_size, show_size
from spear.errors import InvalidArgument, ModuleInvalid, NotFound, SpearError

_SMALLER = "with clang or zig cc: -Wl,-z,stack-size=65536; it starts faster and takes less memory"
_REACTOR = (
    "spear run cannot run it, executor.instantiate(module).function(NAME) calls it: see "
    "examples/reactor"
)


def module_findings(path: str, config_path: str | None = None) -> list[Finding]:
    """Raises NotFound where there is no such file, InvalidArgument where it cannot be read."""
    config, refused = load_config(config_path)
    try:
        with open(path, "rb") as file:
            wasm = file.read()
    except FileNotFoundError as error:
        raise NotFound(f"cannot read {path!r}: {error.strerror}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidArgument(f"cannot read {path!r}: {reason}") from error
    try:
        module = wasmfile.scan(wasm)
    except ModuleInvalid as error:
        return [Finding("module", "missing", str(error)), *refused]
    declared = _declared(wasm, module, config.memory_bytes_max)
    return [*declared, *_engine_says(wasm, len(module.imports), config), *refused]


def _declared(wasm: bytes, module: WasmFile, memory_bytes_max: int) -> list[Finding]:
    count = module.function_count
    functions = "1 function" if count == 1 else f"{count} functions"
    found = [
        Finding("module", "ok", f"core wasm, {show_size(len(wasm))}, {functions}"),
        _shape(module),
        _memory(module, memory_bytes_max),
        _entry(module),
        Finding("imports", "ok", _imports(module) or "none"),
    ]
    if not module.names:
        advice = "keep the name section, so that a backtrace shows functions by name"
        found.append(Finding("names", "note", "no name section", advice))
    return found


def _shape(module: WasmFile) -> Finding:
    most = show_size(wasmfile.SMALL_MEMORY_BYTES_MAX)
    if module.shape == "small":
        return Finding("shape", "ok", f"small: begins with at most {most}")
    return Finding("shape", "note", f"large: begins with more than {most}", _SMALLER)


def _memory(module: WasmFile, bytes_max: int) -> Finding:
    advice = "hostcalls that pass pointers answer -EFAULT: export it under the name memory"
    if not module.memories:
        return Finding("memory", "note", "none", advice)
    low, high, imported = module.memories[0]
    found = f"{show_size(low * wasmfile.PAGE_BYTES)} at start, {show_size(bytes_max)} allowed"
    if high is not None:
        found += f", {show_size(high * wasmfile.PAGE_BYTES)} is the most it takes"
    if len(module.memories) > 1:
        return Finding("memory", "missing", f"{len(module.memories)} memories", "build with one")
    if imported:
        return Finding("memory", "missing", f"imported, {found}", "the module must have its own")
    if low * wasmfile.PAGE_BYTES > bytes_max:
        needed = format_size(low * wasmfile.PAGE_BYTES)
        return Finding("memory", "missing", found, f"spear run --memory {needed}")
    if ("memory", "memory", None) not in module.exports:
        return Finding("memory", "note", f"not exported, {found}", advice)
    return Finding("memory", "ok", found)


def _entry(module: WasmFile) -> Finding:
    signatures = {name: said for name, kind, said in module.exports if kind == "func"}
    signature = signatures.get("_start")
    if signature == "() -> ()":
        return Finding("entry", "ok", "_start")
    if signature is not None:
        found = f"function '_start' is {signature}; an entry is () -> ()"
        return Finding("entry", "missing", found, "build a command whose _start takes nothing")
    names = ", ".join(name for name in signatures if name != "_initialize") or "none"
    if module.reactor:
        found = f"no _start, it is a reactor: its functions are called from Python: {names}"
        return Finding("entry", "missing", found, _REACTOR)
    found = f"no _start; exported functions: {names}"
    return Finding("entry", "missing", found, "build a command, whose main becomes _start")


def _imports(module: WasmFile) -> str:
    by_module: dict[str, list[str]] = {}
    for wanted in module.imports:
        by_module.setdefault(wanted.module, []).append(wanted.name)
    return "; ".join(f"{name}: {', '.join(sorted(found))}" for name, found in by_module.items())


def _engine_says(wasm: bytes, import_count: int, config: Config) -> list[Finding]:
    """Compiles it as a run would, without the cache."""
    try:
        from spear._core.compiler import Compiler
        from spear._core.engine import Engine

        limits = Compiler(
            timeout_ns=config.compile_ns_max, memory_bytes_max=config.compile_bytes_max
        )
        module = Engine(slots=1, compiler=limits).load(wasm)
    except ImportError as error:
        return [Finding("engine", "missing", str(error), "spear doctor")]
    except SpearError as error:
        return [Finding("engine", "missing", str(error))]
    found = [Finding("engine", "ok", "accepts it")]
    if module.unserved:
        names = ", ".join(sorted(module.unserved))
        said = f"{len(module.unserved)} of {import_count} imports: {names}"
        found.append(Finding("unserved", "note", said, "calls of these answer -ENOSYS"))
    return found

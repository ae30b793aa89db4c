"""Rebuilds the committed guests (examples and test guests) from their sources.

Rule: the same sources and the same compiler give the same bytes, wherever they are built. C
and Zig go through zig's compiler (package ziglang), WAT through wasmtime's text parser (package
wasmtime), Rust through a rustc with the target wasm32-wasi, AssemblyScript through node. The last
two are needed by few guests: where one is missing that is said, and its guests stay as they are.
Then every custom section but `name` is dropped, so traps keep their function names and no path or
debug data stays, and a section `source` with the source's sha256 is added, by which a test without
a compiler sees a guest that is older than its source.

A C source may begin with lines that say how it is built:

    // build: FLAGS            one guest, named as the source
    // build NAME: FLAGS       one guest of that name; repeatable
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (
    "examples/*/*.c", "tests/guests/*/*.c", "tests/guests/*/*.wat", "tests/guests/*/*.zig",
    "tests/guests/*/*.rs", "tests/guests/*/*.ts",
)  # fmt: skip
COMPILER = "0.17.0"  # the ziglang whose output is committed
FLAGS = (
    "-target", "wasm32-wasi", "-O2", "-Wall", "-Wextra", "-Werror",
    "-I", "sdk/c", "-Wl,-z,stack-size=65536",
)  # fmt: skip
ZIG_FLAGS = ("-target", "wasm32-wasi", "-OReleaseSmall", "-fstrip", "--stack", "65536")
RUST_TARGET = "wasm32-wasi"
RUST_FLAGS = (
    "--target", RUST_TARGET, "-C", "linker=wasm-ld-14", "-C", "linker-flavor=wasm-ld",
    "-C", "opt-level=z", "-C", "lto=fat", "-C", "panic=abort", "-C", "codegen-units=1",
    "-C", "strip=symbols", "-C", "link-arg=-zstack-size=65536",
)  # fmt: skip
RUST_MISSING = (
    f"no rustc with the target {RUST_TARGET}: apt install rustc libstd-rust-dev-wasm32 lld-14"
)
ASSEMBLYSCRIPT = Path("build/assemblyscript")
SHIM = "node_modules/@assemblyscript/wasi-shim/asconfig.json"
ASSEMBLYSCRIPT_FLAGS = ("--config", SHIM, "-Oz", "--noAssert", "--runtime", "stub")
ASSEMBLYSCRIPT_MISSING = (
    "no AssemblyScript: apt install nodejs npm, then npm install --prefix "
    f"{ASSEMBLYSCRIPT} assemblyscript@0.28.20 @assemblyscript/wasi-shim@0.1.0"
)
RECIPE = re.compile(r"// build(?: (\w+))?:(.*)")
PREAMBLE_BYTES = 8
KEPT_SECTION = b"name"
SOURCE_SECTION = b"source"


@dataclass(frozen=True)
class Guest:
    """One guest to build: its source, its own flags, and where the result goes."""

    source: Path
    target: Path
    flags: tuple[str, ...] = ()


def guests(root: Path = ROOT) -> Iterator[Guest]:
    """Every guest there should be, in the order of the sources' names."""
    for source in sorted(path for pattern in SOURCES for path in root.glob(pattern)):
        yield from _guests_of(source)


def _guests_of(source: Path) -> Iterator[Guest]:
    """The guests that one source asks for."""
    recipes = []
    for line in source.read_text().splitlines():
        recipe = RECIPE.fullmatch(line)
        if recipe is None:
            break
        recipes.append(recipe.groups())
    for name, flags in recipes or [(None, "")]:
        target = source.with_name(f"{name or source.stem}.wasm")
        yield Guest(source, target, tuple(flags.split()))


def sections(wasm: bytes) -> Iterator[tuple[int, bytes]]:
    """Each section's id and content."""
    at = PREAMBLE_BYTES
    while at < len(wasm):
        kind = wasm[at]
        size, at = read_leb(wasm, at + 1)
        yield kind, wasm[at : at + size]
        at += size


def read_leb(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number and the offset behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def write_leb(value: int) -> bytes:
    """A number as unsigned LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def custom_name(content: bytes) -> bytes:
    """The name of a custom section, given its content."""
    size, at = read_leb(content, 0)
    return content[at : at + size]


def source_digest(source: Path) -> bytes:
    """What the `source` section of a guest built from this file holds."""
    return hashlib.sha256(source.read_bytes()).digest()


def _finished(wasm: bytes, source: Path) -> bytes:
    """The linker's output with only the custom sections that we want."""
    parts = [wasm[:PREAMBLE_BYTES]]
    kept = [
        (kind, content)
        for kind, content in sections(wasm)
        if kind != 0 or custom_name(content) == KEPT_SECTION
    ]
    mark = write_leb(len(SOURCE_SECTION)) + SOURCE_SECTION + source_digest(source)
    for kind, content in [*kept, (0, mark)]:
        parts += [bytes([kind]), write_leb(len(content)), content]
    return b"".join(parts)


class Missing(Exception):
    """A toolchain is not there; the sentence says how to get it."""


def _run(source: Path, command: list[str], *, cwd: Path = ROOT) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{source}: the compiler failed\n{done.stdout}{done.stderr}")


def _compile(guest: Guest, folder: Path) -> bytes:
    """Runs the compiler from the root, so that no path of this machine is seen by it."""
    out = folder / guest.target.name
    source = guest.source.relative_to(ROOT)
    zig = [sys.executable, "-m", "ziglang"]
    if source.suffix == ".c":
        _run(source, [*zig, "cc", *FLAGS, *guest.flags, "-o", str(out), str(source)])
    elif source.suffix == ".zig":
        _run(source, [*zig, "build-exe", *ZIG_FLAGS, f"-femit-bin={out}", str(source)])
    elif source.suffix == ".rs":
        _run(source, [_rustc(), *RUST_FLAGS, "-o", str(out), str(source)])
    else:
        _compile_assemblyscript(source, out)
    return out.read_bytes()


def _rustc() -> str:
    """The system's before another: the target is a package of the system."""
    for rustc in ("/usr/bin/rustc", shutil.which("rustc")):
        if rustc is None or not Path(rustc).exists():
            continue
        asked = [rustc, "--print", "target-libdir", "--target", RUST_TARGET]
        found = subprocess.run(asked, capture_output=True, text=True)
        if found.returncode == 0 and Path(found.stdout.strip()).exists():
            return rustc
    raise Missing(RUST_MISSING)


def _compile_assemblyscript(source: Path, out: Path) -> None:
    tool = ROOT / ASSEMBLYSCRIPT
    node = shutil.which("node")
    if node is None or not (tool / SHIM).exists():
        raise Missing(ASSEMBLYSCRIPT_MISSING)
    compiler = "node_modules/assemblyscript/bin/asc.js"
    command = [node, compiler, str(ROOT / source), *ASSEMBLYSCRIPT_FLAGS, "--outFile", str(out)]
    _run(source, command, cwd=tool)


def _compile_wat(guest: Guest) -> bytes:
    """Text to binary; the names of functions become the name section."""
    from wasmtime import WasmtimeError, wat2wasm

    try:
        return bytes(wat2wasm(guest.source.read_text()))
    except WasmtimeError as error:
        raise SystemExit(f"{guest.source.relative_to(ROOT)}: {error}") from error


def build(guest: Guest) -> bytes:
    """The bytes of one guest."""
    if guest.source.suffix == ".wat":
        return _finished(_compile_wat(guest), guest.source)
    with tempfile.TemporaryDirectory() as folder:
        return _finished(_compile(guest, Path(folder)), guest.source)


def build_or_skip(guest: Guest) -> bytes | str:
    """The bytes of one guest, or why it is not built."""
    try:
        return build(guest)
    except Missing as missing:
        return str(missing)


def _check_tools() -> None:
    """Says what to install; warns where the compiler is not the one of the committed files."""
    for package in ("ziglang", "wasmtime"):
        try:
            found = version(package)
        except PackageNotFoundError:
            raise SystemExit(
                f"{package} is missing: pip install ziglang=={COMPILER} wasmtime"
            ) from None
        if package == "ziglang" and found != COMPILER:
            print(
                f"note: the committed guests are built by ziglang {COMPILER}, this is {found}: "
                "bytes may differ",
                file=sys.stderr,
            )


def _store(guest: Guest, wasm: bytes, *, check: bool) -> str:
    """Writes one guest, or only compares it; gives what was found: same, changed or new."""
    old = guest.target.read_bytes() if guest.target.exists() else None
    if old == wasm:
        return "same"
    if not check:
        guest.target.write_bytes(wasm)
        guest.target.chmod(0o644)
    return "new" if old is None else "changed"


def main() -> int:
    """0, or 1 if --check found a guest that differs from its source."""
    parser = argparse.ArgumentParser(description="Rebuild the guests from their sources.")
    parser.add_argument("--check", action="store_true", help="compare with the files, write none")
    parser.add_argument("only", nargs="*", help="names of guests (default: all)")
    options = parser.parse_args()
    _check_tools()
    known = list(guests())
    unknown = set(options.only) - {guest.target.stem for guest in known}
    if unknown:
        parser.error(f"no such guest: {', '.join(sorted(unknown))}")
    wanted = [g for g in known if not options.only or g.target.stem in options.only]
    with ThreadPoolExecutor() as pool:
        built = list(pool.map(build_or_skip, wanted))
    differing = 0
    for guest, wasm in zip(wanted, built, strict=True):
        if isinstance(wasm, str):
            print(f"skipped          {guest.target.relative_to(ROOT)}: {wasm}")
            continue
        state = _store(guest, wasm, check=options.check)
        differing += state != "same"
        print(f"{state:8} {len(wasm):7}  {guest.target.relative_to(ROOT)}")
    return int(options.check and differing > 0)


if __name__ == "__main__":
    sys.exit(main())

"""Builds the native modules: every `spear/_core/*.pyx` becomes one extension module, and the
programs beside them; and generates the protobuf modules, `spear/protocol/pb`, from the `.proto`
files.

`SPEAR_BUILD` chooses the build: `release` (default), `debug` (bounds checks and assertions on),
`asan` (AddressSanitizer and UBSan; run with the matching LD_PRELOAD, see scripts/asan.sh), or
`none`: no native module, for scripts/environment.sh, which builds them in place afterwards.
`SPEAR_JOBS` says how many compilers run at once (default: one a processor this may use).
`SPEAR_OPTIMIZE`, 0 to 3 (default), is the release build's level: 0 compiles in a fourth of the
time, without what a debugger reads, for a build that only has to work.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

from setuptools import Command, Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.modified import newer_group

# C files that belong to a module beside its own .pyx.
C_SOURCES = {"engine": ["spear/_core/guestmem.c"]}
# Programs that lie beside the modules, each of one C file.
PROGRAMS = ("compilechild",)

MODE = os.environ.get("SPEAR_BUILD", "release")
JOBS = int(os.environ.get("SPEAR_JOBS") or len(os.sched_getaffinity(0)))
LEVEL = os.environ.get("SPEAR_OPTIMIZE") or "3"
if LEVEL not in ("0", "1", "2", "3"):
    raise SystemExit(f"SPEAR_OPTIMIZE={LEVEL!r}: expected 0 to 3")
ROOT = Path(__file__).parent
PROTO = ROOT / "spear/protocol/proto"
PB, PB_PACKAGE = ROOT / "spear/protocol/pb", "spear.protocol.pb"
OWN_IMPORT = re.compile(r"^from ((?:spearlet|spear\.v1) import )", re.MULTILINE)

COMPILE_ARGS = {
    "release": [
        f"-O{LEVEL}",
        "-g1" if LEVEL != "0" else "-g0",
        "-fno-semantic-interposition",
        "-DCYTHON_CLINE_IN_TRACEBACK=0",
    ],
    "debug": ["-O1", "-g", "-UNDEBUG", "-DSPEAR_DEBUG=1"],
    "asan": [
        "-O1",
        "-g1",  # lines for a report; the rest takes a tenth of the build
        "-fno-omit-frame-pointer",
        "-fsanitize=address,undefined",
        "-fno-sanitize=alignment",
        "-DSPEAR_DEBUG=1",
    ],
}
LINK_ARGS = {"release": [], "debug": [], "asan": ["-fsanitize=address,undefined"]}


# AddressSanitizer reserves more than a program that limits its own memory may have.
PROGRAM_FLAGS = {"asan": ["-fno-sanitize=address"]}


class Proto(Command):
    """Generates PB from the files under PROTO, with imports that are right inside of the package.

    Anew and whole where anything is newer than it; it appears at once or not at all. Services
    have no generated code: doors and clients go by tables (docs/adr/0013-wire.md).
    """

    description = "generate the protobuf modules"
    user_options: ClassVar[list[tuple[str, str | None, str]]] = []  # setuptools wants a list

    def initialize_options(self) -> None:
        pass

    def finalize_options(self) -> None:
        pass

    def run(self) -> None:
        sources = sorted(PROTO.rglob("*.proto"))
        names = [str(path.relative_to(PROTO)) for path in sources]
        mark = PB / "sources.txt"
        listed = "\n".join(names)
        same = mark.exists() and mark.read_text() == listed
        if same and not newer_group([*map(str, sources), __file__], str(mark)):
            return
        with tempfile.TemporaryDirectory(dir=PB.parent, prefix=".pb-") as folder:
            made = Path(folder, "pb")
            generate(names, made)
            (made / mark.name).write_text(listed)
            shutil.rmtree(PB, ignore_errors=True)
            made.rename(PB)


def generate(names: list[str], folder: Path) -> None:
    """The modules and their types for the .proto files of these names."""
    folder.mkdir()
    includes = [f"-I{PROTO}", f"--python_out={folder}", f"--pyi_out={folder}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *includes, *names], check=True)
    for path in folder.rglob("*_pb2.py*"):
        path.write_text(OWN_IMPORT.sub(rf"from {PB_PACKAGE}.\1", path.read_text()))
    for path in [folder, *filter(Path.is_dir, folder.rglob("*"))]:
        (path / "__init__.py").touch()


class Modules(build_py):
    """As setuptools collects Python modules, once the generated ones are there."""

    def run(self) -> None:
        self.run_command("proto")
        super().run()


class Build(build_ext):
    """As setuptools builds extension modules; what PROGRAMS names is linked to be run."""

    def run(self) -> None:
        self.run_command("proto")
        super().run()

    def get_ext_filename(self, name: str) -> str:
        if name.rpartition(".")[2] in PROGRAMS:
            return name.replace(".", "/")
        return super().get_ext_filename(name)

    def build_extension(self, extension: Extension) -> None:
        if extension.name.rpartition(".")[2] not in PROGRAMS:
            super().build_extension(extension)
            return
        target = self.get_ext_fullpath(extension.name)
        if not newer_group([*extension.sources, *extension.depends], target, "newer"):
            return
        objects = self.compiler.compile(
            extension.sources,
            output_dir=self.build_temp,
            include_dirs=extension.include_dirs,
            extra_postargs=extension.extra_compile_args,
            depends=extension.depends,
        )
        self.mkpath(os.path.dirname(target))
        self.compiler.link_executable(objects, target, extra_postargs=extension.extra_link_args)


def settings(name: str) -> dict[str, list[str]]:
    """What all modules and programs are compiled with."""
    flags = PROGRAM_FLAGS.get(MODE, []) if name in PROGRAMS else []
    return {
        "include_dirs": ["spear/_core"],
        "extra_compile_args": [
            "-std=gnu11",
            "-Wall",
            "-Wno-unused-function",
            "-pthread",
            *COMPILE_ARGS[MODE],
            *flags,
        ],
        "extra_link_args": ["-pthread", *LINK_ARGS[MODE], *flags],
        "depends": [str(p.relative_to(ROOT)) for p in sorted((ROOT / "spear/_core").glob("*.h"))],
    }


def programs() -> list[Extension]:
    return [
        Extension(f"spear._core.{name}", [f"spear/_core/{name}.c"], **settings(name))
        for name in PROGRAMS
    ]


def extensions() -> list[Extension]:
    if MODE == "none":
        return []
    if MODE not in COMPILE_ARGS:
        raise SystemExit(f"SPEAR_BUILD={MODE!r}: expected one of {', '.join(COMPILE_ARGS)}, none")
    from Cython.Build import cythonize

    checked = MODE != "release"
    modules = [
        Extension(
            f"spear._core.{path.stem}",
            [str(path.relative_to(ROOT)), *C_SOURCES.get(path.stem, [])],
            **settings(path.stem),
        )
        for path in sorted((ROOT / "spear/_core").glob("*.pyx"))
    ]
    return programs() + cythonize(
        modules,
        build_dir=f"build/cython-{MODE}",
        nthreads=JOBS,
        compiler_directives={
            "language_level": 3,
            "boundscheck": checked,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": checked,
            "embedsignature": True,
        },
    )


def generated_folders() -> None:
    """setuptools wants the folders of all packages before it runs any command."""
    for folder in ("", "spear/v1", "spearlet"):
        (PB / folder).mkdir(parents=True, exist_ok=True)


generated_folders()

setup(
    packages=[
        "spear",
        "spear._core",
        "spear.client",
        "spear.hostcalls",
        "spear.hostcalls.llm",
        "spear.hostcalls.llm.backends",
        "spear.hostcalls.llm.chat",
        "spear.hostcalls.llm.choice",
        "spear.hostcalls.llm.choice.filter",
        "spear.hostcalls.llm.http",
        "spear.kv",
        "spear.protocol",
        "spear.protocol.convert",
        "spear.protocol.pb",
        "spear.protocol.pb.spear",
        "spear.protocol.pb.spear.v1",
        "spear.protocol.pb.spearlet",
        "spear.records",
        "spear.security",
        "spear.telemetry",
        "spear.runtime",
        "spear.runtime.wasm",
        "spear.spearlet",
        "spear.spearlet.execution",
        "spear.spearlet.logs",
        "spear.spearlet.node",
        "spear.spearlet.rpc",
        "spear.spearlet.rpc.v1",
        "spear.spearlet.schedules",
        "spear.spearlet.webhooks",
        "spear.cli",
        "spear.cli.daemon",
        "spear.cli.running",
        "spear.cli.screens",
        "spear.cli.verbs",
        "spear.cli.verbs.kept",
        "spear.cli.verbs.machine",
        "spear.cli.verbs.node",
        "spear.cli.verbs.work",
        "spear.cli.visits",
    ],
    # One folder, no mapping: then an editable install is one line in a .pth file (ADR 0003).
    package_dir={"": "."},
    package_data={
        "spear": ["py.typed"],
        "spear._core": ["*.pyi", "*.pxd", "*.h"],
        "spear.protocol": ["proto/spearlet/*.proto", "proto/spear/v1/*.proto"],
        "spear.protocol.pb": ["*/*.pyi", "*/*/*.pyi"],
    },
    include_package_data=False,
    ext_modules=extensions(),
    cmdclass={"build_ext": Build, "build_py": Modules, "proto": Proto},
    options={"build_ext": {"parallel": JOBS}},
)

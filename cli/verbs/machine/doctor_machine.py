"""What this machine offers to SPEAR: one probe a function, each gives its Findings."""

from __future__ import annotations

import os
import platform
import stat
import sys
from pathlib import Path

from spear import config as configuration
from spear.cli.verbs.machine.doctor_models import models_finding
from spear.cli.verbs.machine.doctor_node import node_findings
from spear.cli.verbs.machine.finding import Finding
from spear.clock import Clock
from spear.config import Config, Refusal
from spear.errors import SpearError

_MAPS_PER_GUEST = 6
_PAGEMAP_SCAN = 0xC0606610  # _IOWR('f', 16, struct pm_scan_arg)
_PM_SCAN_ARG_BYTES = 96
_MACHINES = ("x86_64", "aarch64")


def machine_findings(config_path: str | None = None) -> list[Finding]:
    """All probes, in the order in which they matter."""
    found = [_python(), _system(), _engine(), _executor(), _cores()]
    config, refused = load_config(config_path)
    found += [_maps(config), _pagemap(), _directories()]
    found += refused or [_configuration(config_path)]
    return [*found, _cache(config), models_finding(config), *node_findings(config)]


def load_config(path: str | None) -> tuple[Config, list[Finding]]:
    """The configuration and what of it a run would refuse. Where the file cannot be understood
    the defaults stand in, unless it was asked for. Raises InvalidArgument, NotFound."""
    refusals: list[Refusal] = []
    defaults = {"node_name": Clock().host_name()}
    try:
        config = configuration.load(path, defaults=defaults, refusals=refusals)
    except SpearError as error:
        if path is not None:
            raise
        config = configuration.load(defaults=defaults, environ={}, refusals=refusals)
        return config, [Finding("configuration", "refused", str(error), "correct the file")]
    return config, [
        Finding("configuration", "refused", refusal.reason, _remedy(refusal))
        for refusal in refusals
    ]


def _remedy(refusal: Refusal) -> str:
    kind, _, name = refusal.source.partition(" ")
    return (
        f"unset {name}" if kind == "environment" else f"correct or remove {refusal.key} in {name}"
    )


def _python() -> Finding:
    version = f"{platform.python_implementation()} {platform.python_version()} {sys.executable}"
    if (3, 11) <= sys.version_info[:2] <= (3, 13) and sys.implementation.name == "cpython":
        return Finding("python", "ok", version)
    return Finding("python", "missing", version, "CPython 3.11, 3.12 or 3.13 is needed")


def _system() -> Finding:
    found = f"{platform.system()} {platform.release()} on {platform.machine()}"
    if platform.system() == "Linux" and platform.machine() in _MACHINES:
        return Finding("system", "ok", found)
    return Finding("system", "missing", found, "Linux on x86-64 or aarch64: a container or WSL")


def _engine() -> Finding:
    try:
        from spear._core import engine

        version, path = engine.library()
    except ImportError as error:  # EngineUnavailable is one
        advice = "pip install 'wasmtime>=50.0.1,<51', then build SPEAR with make demo"
        return Finding("engine", "missing", str(error), advice)
    low, high = (".".join(map(str, v)) for v in (engine.VERSION_FLOOR, engine.VERSION_CEILING))
    return Finding("engine", "ok", f"wasmtime {version} (accepted: {low} to below {high}) {path}")


def _executor() -> Finding:
    try:
        from spear._core import executor
    except ImportError as error:
        return Finding("executor", "missing", str(error), "build the native modules: make demo")
    return Finding("executor", "ok", executor.__file__)


def _cores() -> Finding:
    return Finding("cores", "ok", f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} usable")


def _maps(config: Config) -> Finding:
    """A live guest takes up to six mappings; the kernel limits those of a process."""
    try:
        count = int(Path("/proc/sys/vm/max_map_count").read_text())
    except (OSError, ValueError) as error:
        return Finding("vm.max_map_count", "note", f"unknown: {error}")
    room = count // _MAPS_PER_GUEST
    found = f"{count}: room for about {room} live guests; {config.guests_max} are allowed"
    if room >= config.guests_max:
        return Finding("vm.max_map_count", "ok", found)
    wanted = config.guests_max * _MAPS_PER_GUEST * 2
    return Finding("vm.max_map_count", "note", found, f"sysctl -w vm.max_map_count={wanted}")


def _pagemap() -> Finding:
    name = "PAGEMAP_SCAN"
    if _pagemap_scan():
        return Finding(name, "ok", "available")
    advice = "Linux 6.7 or later finds the touched pages of large guests quickly"
    return Finding(name, "note", "not available; large guests work without it", advice)


def _pagemap_scan() -> bool:
    """Asks the kernel to scan an empty range of our own memory."""
    import fcntl

    request = bytearray(_PM_SCAN_ARG_BYTES)
    request[:8] = _PM_SCAN_ARG_BYTES.to_bytes(8, sys.byteorder)
    try:
        with open("/proc/self/pagemap", "rb") as pagemap:
            fcntl.ioctl(pagemap, _PAGEMAP_SCAN, request)
    except OSError:
        return False
    return True


def _directories() -> Finding:
    """Whether the kernel can keep a guest beneath a directory it is granted."""
    try:
        from spear._core.filetable import refusal
    except ImportError as error:
        return Finding("directories", "missing", str(error), "build the native modules: make demo")
    why = refusal()
    if not why:
        return Finding("directories", "ok", "guests can be granted some (openat2)")
    return Finding("directories", "note", f"none can be granted, all else works: {why}",
                   "Linux 5.8 or later; in a container, a filter that allows openat2")  # fmt: skip


def _configuration(config_path: str | None) -> Finding:
    path = configuration.file_path(config_path)
    known = os.path.exists(path)
    missing = f"defaults (no {path or 'home folder'})"
    return Finding("configuration", "ok", path if known else missing)


def _cache(config: Config) -> Finding:
    """Compiled code is believed, so nobody else may write it."""
    name, path = "cache", config.cache_dir
    if path is None:
        return Finding(name, "note", "off", "every start compiles: set cache_dir")
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return _cache_parent(path)
    except OSError as error:
        return Finding(name, "note", f"{path}: {error.strerror}", "set cache_dir to another place")
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        return Finding(name, "note", f"{path} is not a directory of ours", "set cache_dir")
    if stat.S_IMODE(status.st_mode) & 0o077:
        return Finding(name, "note", f"{path} is open to others", f"chmod 700 {path}")
    if not os.access(path, os.W_OK | os.X_OK):
        return Finding(name, "note", f"{path} cannot be written", f"chmod 700 {path}")
    return Finding(name, "ok", f"{path} (private, writable)")


def _cache_parent(path: str) -> Finding:
    parent = Path(path).parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if os.access(parent, os.W_OK | os.X_OK):
        return Finding("cache", "ok", f"{path} (made when first needed)")
    return Finding("cache", "note", f"{path} cannot be made in {parent}", "set cache_dir")

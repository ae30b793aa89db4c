"""Finds Wasmtime's library and resolves the functions of wasmtime_api.h, once per process.

Rule: the package is found, not imported (its own Python binding is slow to import and unused). A
release outside the tested range, or one refused for an advisory, is named in the error together
with what to install. Source: Wasmtime's C API, releases 50.0.1 and later.
"""

import os
import sys
from importlib.machinery import PathFinder

from spear.errors import EngineUnavailable

VERSION_FLOOR = (50, 0, 1)
VERSION_CEILING = (51, 0, 0)  # the first release that was not tried
REFUSED = {
    # releases inside the range with a known fault: {(major, minor, patch): reason}
}
_REMEDY = "install one with: pip install 'wasmtime>=50.0.1,<51'"

cdef wasmtime_functions _table
cdef bint _loaded = False
_found = None


def _package_dir():
    spec = PathFinder.find_spec("wasmtime")
    if spec is None or spec.origin is None:
        raise EngineUnavailable(f"the WASM engine (package wasmtime) is not installed; {_REMEDY}")
    return os.path.dirname(spec.origin)


def _package_version(package_dir):
    """The version in the metadata beside the package; reading the folder's name is enough."""
    site = os.path.dirname(package_dir)
    for name in os.listdir(site):
        if name.startswith("wasmtime-") and name.endswith(".dist-info"):
            return name[len("wasmtime-"):-len(".dist-info")]
    raise EngineUnavailable(f"package wasmtime at {package_dir} has no metadata; {_REMEDY}")


def check_version(version):
    """Raises EngineUnavailable unless `version` ("50.0.1") is one this build accepts."""
    try:
        number = tuple(int(part) for part in version.split("."))
        if len(number) > 3:
            raise ValueError(version)
    except ValueError:
        raise EngineUnavailable(f"wasmtime has version {version!r}, not a release; {_REMEDY}")
    if number in REFUSED:
        raise EngineUnavailable(f"wasmtime {version} is refused: {REFUSED[number]}; {_REMEDY}")
    if not VERSION_FLOOR <= number < VERSION_CEILING:
        floor, ceiling = (".".join(map(str, v)) for v in (VERSION_FLOOR, VERSION_CEILING))
        raise EngineUnavailable(
            f"wasmtime {version} is installed, this build takes {floor} up to, not including, "
            f"{ceiling}; {_REMEDY}")


def _library_path(package_dir):
    machine = os.uname().machine
    path = os.path.join(package_dir, f"{sys.platform}-{machine}", "_libwasmtime.so")
    if not os.path.exists(path):
        raise EngineUnavailable(
            f"package wasmtime has no library for {sys.platform} on {machine} ({path} is missing)")
    return path


def library():
    """(version, path) of the engine's library; raises EngineUnavailable with what to install."""
    global _found
    if _found is None:
        package_dir = _package_dir()
        version = _package_version(package_dir)
        check_version(version)
        _found = version, _library_path(package_dir)
    return _found


cdef const wasmtime_functions *functions() except NULL:
    global _loaded
    cdef const char *symbol = NULL
    cdef const char *reason
    if not _loaded:
        version, path = library()
        reason = wasmtime_functions_load(&_table, os.fsencode(path), &symbol)
        if reason != NULL:
            what = f"has no function {symbol.decode()!r}" if symbol != NULL else reason.decode()
            raise EngineUnavailable(f"the library of wasmtime {version} {what}; {_REMEDY}")
        _loaded = True
    return &_table


cdef int _generation = 0


cdef int generation() noexcept nogil:
    return _generation


def _count_fork():
    global _generation
    _generation += 1


os.register_at_fork(after_in_child=_count_fork)

#!/bin/sh
# Says in one line what this machine lacks to build SPEAR; silent and 0 if it lacks nothing.
#
#   scripts/preflight.sh [PYTHON]
#
# Rule: looks and compiles one empty program; installs nothing, writes only in a temporary folder.
set -u
python=${1:-python3}

lacks() {
    echo "error: $*" >&2
    exit 1
}
ask() { "$python" -c "import sys, sysconfig; $1" 2>/dev/null; }

[ "$(uname -s)" = Linux ] || lacks "SPEAR runs on Linux, this is $(uname -s): use a container or WSL"
case $(uname -m) in
    x86_64 | aarch64) ;;
    *) lacks "SPEAR runs on x86_64 and aarch64, this machine is $(uname -m)" ;;
esac

command -v "$python" >/dev/null 2>&1 ||
    lacks "$python is not found: install python3 (CPython 3.11 to 3.13), or name one: make PYTHON=/path/to/python"
version=$(ask 'print("%s %d.%d" % ((getattr(getattr(sys, "implementation", sys), "name", "python"),)
    + tuple(sys.version_info[:2])))') ||
    lacks "$python does not start: try it, or name another: make PYTHON=/path/to/python"
case $version in
    "cpython 3.11" | "cpython 3.12" | "cpython 3.13") ;;
    *) lacks "$python is $version, SPEAR needs CPython 3.11 to 3.13: name one with make PYTHON=python3.12" ;;
esac
number=${version#cpython }
ask 'import ensurepip, venv' ||
    lacks "$python has no venv module: install python$number-venv (Debian, Ubuntu) or python3 with pip (elsewhere)"
ask 'import os; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
    lacks "the headers of Python $number are missing: install python$number-dev (Debian, Ubuntu) or python3-devel (Fedora)"

compiler=${CC:-$(ask 'print(sysconfig.get_config_var("CC") or "gcc")')}
command -v "${compiler%% *}" >/dev/null 2>&1 ||
    lacks "there is no C compiler (${compiler%% *}): install gcc and libc6-dev (Debian, Ubuntu) or gcc (Fedora), or set CC"
folder=$(mktemp -d) || lacks "no temporary file can be written: is the disk full, or TMPDIR wrong?"
trap 'rm -rf "$folder"' EXIT
printf '#include <stdlib.h>\n#include <pthread.h>\nint main(void) { return EXIT_SUCCESS; }\n' >"$folder/a.c"
# CC may hold options of its own: left unquoted.
$compiler -o "$folder/a" "$folder/a.c" >/dev/null 2>&1 ||
    lacks "the C compiler (${compiler%% *}) cannot build a program: install libc6-dev (Debian, Ubuntu) or glibc-devel (Fedora)"

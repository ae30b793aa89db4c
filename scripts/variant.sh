#!/bin/sh
# Runs a command on another build of the native modules, in a copy of the tree: build/MODE. The
# modules built in place stay as they are.
#
#   scripts/variant.sh debug|asan VENV COMMAND...
#
# Rule: files keep their times, so what did not change is not compiled again.
set -eu
cd "$(dirname "$0")/.."
mode=$1 bin=$(cd "$2" && pwd)/bin
shift 2
tree=$PWD/build/$mode

mkdir -p "$tree"
find "$tree" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
tar cf - --exclude=./build --exclude=./dist --exclude='./.venv*' --exclude=./.git \
    --exclude='*.so' --exclude=compilechild --exclude=__pycache__ --exclude='./.*_cache' . | tar xf - -C "$tree"
cd "$tree"
if ! SPEAR_BUILD=$mode "$bin/python" setup.py build_ext --inplace >build.log 2>&1; then
    cat build.log >&2
    exit 1
fi
# Before the tree that the environment points to; for the commands that tests start, too.
export PYTHONPATH="$tree" PATH="$bin:$PATH"
exec "$@"

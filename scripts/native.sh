#!/bin/sh
# Builds the native modules in place (spear/_core/*.so), only those whose sources changed.
#
#   scripts/native.sh VENV
set -eu
cd "$(dirname "$0")/.."
venv=$1
scripts/preflight.sh "$venv/bin/python"
# A module whose source is gone must not be imported any more.
for built in spear/_core/*.so; do
    name=${built##*/}
    [ -e "spear/_core/${name%%.*}.pyx" ] || rm -f "$built"
done
echo "building the native modules"
if ! "$venv/bin/python" setup.py build_ext --inplace >"$venv/native.log" 2>&1; then
    cat "$venv/native.log" >&2
    exit 1
fi

#!/bin/sh
# Everything about the tree that is judged without running it: all of it, then one verdict.
#
#   scripts/check.sh VENV
set -u
cd "$(dirname "$0")/.."
PATH=$(cd "$1" && pwd)/bin:$PATH  # cython-lint calls pycodestyle by name
failed=

step() {
    name=$1
    shift
    if output=$("$@" 2>&1); then
        printf 'ok      %s\n' "$name"
    else
        printf 'FAILED  %s: %s\n%s\n' "$name" "$*" "$output"
        failed="$failed $name"
    fi
}

step lint ruff check .
step formatting ruff format --check --output-format concise .
step types mypy --strict -p spear # spear.cli is cli/, see ADR 0003
step cython cython-lint spear/_core bench
# The layers, the limits of the style, the guests that are committed, the paths of one machine.
step tree python -m pytest -q tests/unit/test_layers.py tests/unit/test_style.py \
    tests/unit/test_guest_files.py tests/unit/test_tree.py

if [ -n "$failed" ]; then
    echo "check failed:$failed"
    exit 1
fi

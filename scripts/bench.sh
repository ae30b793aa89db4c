#!/bin/sh
# Runs every benchmark of bench/ and makes the table docs/performance.md from their results.
#
#   scripts/bench.sh VENV [ARGUMENT OF PYTEST...]
#
# Rule: one at a time, for figures that share a machine with another benchmark say nothing. The
# table is made also when some benchmark failed; then the exit code is not 0.
set -u
cd "$(dirname "$0")/.."
python=$1/bin/python
shift
results=build/bench/results.jsonl
rm -f "$results"
SPEAR_BENCH_OUT=$PWD/$results "$python" -m pytest bench -q -s -p no:cacheprovider -p no:xdist \
    -o addopts= -o python_files='bench_*.py' -o timeout=1800 "$@"
code=$?
[ -s "$results" ] || exit 1
"$python" bench/table.py "$results" docs/performance.md && exit $code

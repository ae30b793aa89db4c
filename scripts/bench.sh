#!/bin/sh
# Runs every benchmark of bench/ and makes the table docs/performance.md from their results.
#
#   scripts/bench.sh VENV [OPTION OF PYTEST, as -k NAME...]
#
# Rule: one at a time, for figures that share a machine with another benchmark say nothing; each
# file in a process of its own, for a process that others have filled is slower. The table is made
# also when some benchmark failed; then the exit code is not 0.
set -u
trap 'exit 130' INT
cd "$(dirname "$0")/.."
python=$1/bin/python
shift
results=build/bench/results.jsonl
rm -f "$results"
failed=0
for file in bench/bench_*.py; do
    SPEAR_BENCH_OUT=$PWD/$results "$python" -m pytest "$file" -q -s -p no:cacheprovider \
        -p no:xdist -o addopts= -o timeout=1800 "$@"
    code=$?
    [ $code -eq 0 ] || [ $code -eq 5 ] || failed=$code     # 5: the options chose none of it
done
[ -s "$results" ] || exit 1
"$python" bench/table.py "$results" docs/performance.md && exit $failed

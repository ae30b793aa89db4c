#!/bin/sh
# Every fuzzer of tests/fuzz, one after the other, with seeds that count up from a first one.
#
#   scripts/fuzz.sh RUNS [SEED]
#
# Rule: SEED is taken from the clock where none is given, and shown, so that a run can be repeated.
set -eu
cd "$(dirname "$0")/.."
runs=$1 seed=${2:-$(date +%s)}
for fuzzer in tests/fuzz/fuzz_*.py; do
    echo "$fuzzer --runs $runs --seed $seed"
    python "$fuzzer" --runs "$runs" --seed "$seed"
done

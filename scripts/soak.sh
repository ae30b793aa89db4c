#!/bin/sh
# The long forms: fuzzers with many seeds on the checked build, properties with ten times the
# examples, tests marked soak.
#
#   scripts/soak.sh VENV [ARGUMENT OF PYTEST...]      RUNS: of each fuzzer (default 50,000)
#                                                     CALLS: wild hostcalls (default 100,000,000)
set -eu
cd "$(dirname "$0")/.."
venv=$1
shift
scripts/variant.sh debug "$venv" scripts/fuzz.sh "${RUNS:-50000}"
scripts/variant.sh debug "$venv" python tests/fuzz/wild_calls.py --calls "${CALLS:-100000000}" --seed "$(date +%s)"
"$venv/bin/python" -m pytest -n "$(nproc)" --hypothesis-profile=long -o timeout=3600 tests/property
code=0
"$venv/bin/python" -m pytest -m soak -o timeout=3600 "$@" || code=$?
if [ $code -eq 5 ]; then # pytest's word for: no such test
    echo "no test is marked soak"
    code=0
fi
exit $code

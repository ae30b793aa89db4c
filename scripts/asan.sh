#!/bin/sh
# Tests of the native modules under AddressSanitizer and UndefinedBehaviorSanitizer.
#
#   scripts/asan.sh VENV [ARGUMENT OF PYTEST...]      (default: all that touches native code)
#                                                     CALLS: wild hostcalls (default 1,000,000)
#
# Rule: the first report ends the run. Leaks are not looked for: CPython keeps memory on purpose.
set -eu
cd "$(dirname "$0")/.."
venv=$1
shift
# What needs none of our native modules is left out: the metadata store, doors, logs, schedules,
# backends and budgets of models, the models of states; and the wild calls of a property, of which
# many more run below. A property is shown a fourth of its examples: this build is slow.
[ $# -gt 0 ] || set -- tests/unit/_core tests/unit/runtime tests/unit/spearlet/test_*.py \
    tests/unit/protocol tests/property tests/integration --ignore-glob='*/test_kv_*' --ignore-glob='*/test_daemon*' \
    --ignore-glob='*/test_logs_*' --ignore-glob='*/test_schedule*' --ignore-glob='*/test_cron_*' \
    --ignore-glob='*/test_taskfile_*' --ignore-glob='*/test_admission_*' \
    --ignore-glob='*/test_node_contract_*' --ignore-glob='*/test_node_crashes*' \
    --ignore-glob='*/test_model*' --ignore-glob='*/test_credentials_*' --ignore-glob='*_growth*' \
    --ignore-glob='*/test_node_objects*' --ignore-glob='*/test_team_*' \
    --ignore-glob='*/test_chat_faults*' --ignore-glob='*/test_routing_*' \
    --ignore-glob='*/test_meter_*' --ignore-glob='*_loop_properties*' \
    --ignore-glob='*/test_hostcalls_fuzz*' --ignore-glob='*/test_tries_*' --ignore-glob='*/test_own_node*' --ignore-glob='*/test_kv_states*' \
    --ignore-glob='*/test_guest_states*' --ignore-glob='*/test_post_states*' --ignore-glob='*/test_bell*'

preload=
for name in libasan.so libubsan.so; do
    library=$(${CC:-gcc} -print-file-name=$name)
    if [ "$library" = $name ]; then
        echo "error: ${CC:-gcc} has no $name: install libgcc-dev of its version" >&2
        exit 1
    fi
    preload=$preload:$library
done
address=detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=0:abort_on_error=1
# Wasmtime turns SIGSEGV, SIGBUS, SIGILL and SIGFPE of a guest into traps, with stacks of its own.
address=$address:handle_segv=0:handle_sigbus=0:handle_sigill=0:handle_sigfpe=0:use_sigaltstack=0
undefined=print_stacktrace=1:halt_on_error=1:abort_on_error=1

sanitized() {
    scripts/variant.sh asan "$venv" env LD_PRELOAD="${preload#:}" PYTHONMALLOC=malloc \
        ASAN_OPTIONS="$address" UBSAN_OPTIONS="$undefined" "$@"
}
# Of the streams only Python's are captured: a report goes to stderr before the process ends.
sanitized python -m pytest -n "$(nproc)" --capture=sys --hypothesis-profile=short "$@"
sanitized scripts/fuzz.sh 300
sanitized python tests/fuzz/wild_calls.py --calls "${CALLS:-1000000}"

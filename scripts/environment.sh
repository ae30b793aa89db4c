#!/bin/sh
# Makes the environment: a venv with everything SPEAR and its tests need, and `spear` installed in
# place (editable), without its native modules.
#
#   scripts/environment.sh PYTHON VENV [EXTRA...]
#
# Rule: nothing outside VENV is changed, and the only network used is pip's. An environment of
# another Python is not touched.
set -eu
cd "$(dirname "$0")/.."
python=$1 venv=$2
shift 2
extras=dev
for extra in "$@"; do extras=$extras,$extra; done

scripts/preflight.sh "$python"
if [ ! -x "$venv/bin/python" ]; then
    echo "making $venv with $("$python" --version)"
    "$python" -m venv "$venv"
fi
minor() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }
if [ "$(minor "$venv/bin/python")" != "$(minor "$python")" ]; then
    echo "error: $venv is of Python $(minor "$venv/bin/python"), $python is $(minor "$python"):" \
        "add VENV=.venv-$(minor "$python"), or delete $venv" >&2
    exit 1
fi
# A newer pip than most systems bring: its start script of `spear` does not import `re`, which
# is a tenth of a short command's time.
pip() { "$venv/bin/python" -m pip "$@" -qq --disable-pip-version-check; }
pip install --upgrade 'pip>=25.1'
echo "installing what spear[$extras] needs"
SPEAR_BUILD=none pip install --editable ".[$extras]"

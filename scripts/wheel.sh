#!/bin/sh
# Builds a wheel into dist/ and tries it: in a clean environment, away from the tree.
#
#   scripts/wheel.sh PYTHON
set -eu
cd "$(dirname "$0")/.."
root=$PWD python=$(command -v "$1")
scripts/preflight.sh "$python"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
pip() { "$folder/venv/bin/python" -m pip "$@" -qq --disable-pip-version-check; }

"$python" -m venv "$folder/venv"
pip install --upgrade 'pip>=25.1'
# From a copy: setuptools leaves its build folder and metadata where it builds. What Cython made of
# the sources is the same for every Python; it is made anew where it is older than they are.
mkdir "$folder/tree" "$folder/wheel"
made=$(ls -d build/cython-release 2>/dev/null || true)
tar cf - --exclude='*.so' --exclude=compilechild --exclude=__pycache__ --exclude=spear/protocol/pb \
    setup.py pyproject.toml README.md spear cli $made |
    tar xf - -C "$folder/tree"
pip wheel --no-deps --wheel-dir "$folder/wheel" "$folder/tree"
wheel=$(ls "$folder"/wheel/spear-*.whl)
pip install "$wheel"
cd "$folder"
"$folder/venv/bin/python" -I "$root/scripts/smoke.py" "$wheel" "$root/examples"
mkdir -p "$root/dist"
cp "$wheel" "$root/dist/"
echo "dist/${wheel##*/}: $(du -k "$wheel" | cut -f1) KiB"

#!/bin/sh
# Installs the programs that benchmarks run beside ours, where they are missing: etcd and Redis.
#
#   scripts/peers.sh
#
# Rule: what cannot be had is said in a line and is no failure; its rows are then not measured. The
# benchmarks start these programs themselves, on sockets and data of their own.
set -u

missing=
command -v etcd >/dev/null 2>&1 || missing="$missing etcd-server etcd-client"
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
[ -n "$missing" ] || exit 0
without() {
    echo "not installed:$missing ($1): their rows are left out"
    exit 0
}
command -v apt-get >/dev/null 2>&1 || without "this system has no apt-get: install them by hand"
[ "$(id -u)" = 0 ] || without "it takes root: apt-get install$missing"
export DEBIAN_FRONTEND=noninteractive
# The list of names is unquoted on purpose: several words.
install() { apt-get install --yes --no-install-recommends $missing >/dev/null 2>&1; }
install || { apt-get update >/dev/null 2>&1 && install; } || without "apt-get could not get them"
echo "installed:$missing"

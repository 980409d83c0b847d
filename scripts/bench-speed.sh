#!/usr/bin/env bash
# Compares what `culvert speed` measures with transfers without a proxy, in turns
# on five links, and prints a table. Takes a quarter of an hour, as root;
# leave the machine idle.
#
#   ROUNDS=N        rounds of each link, 5 by default
#   ONLY=LINK,...   only these links: loopback, slow, window-local, window-remote, lossy
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p build/bench
go -C scripts/bench build -o ../../build/bench/bench .
scripts/build.sh >/dev/null
command="make bench-speed${ROUNDS:+ ROUNDS=$ROUNDS}${ONLY:+ ONLY=$ONLY}"
exec build/bench/bench speed -rounds "${ROUNDS:-5}" -only "${ONLY:-}" -command "$command"

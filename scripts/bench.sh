#!/usr/bin/env bash
# Compares culvert with OpenSSH, Xray and no proxy, which take turns in one run,
# and writes docs/benchmarks/results.json and the tables and plots of
# docs/benchmarks.md.
# Takes nearly three hours on two cores, no case more than ten minutes.
# Emulated links need root; without it their cases are left out.
#
#   QUICK=1      one round, in 20 minutes, into build/bench-quick/, not docs/
#   ONLY=CASE,…  measure only these cases (such as loopback-*, or loss, cold,
#                rival, memory, status, many), and replace them in the results;
#                build/bench/bench -list lists them
#   CONTROL=NAME the congestion control of all connections whose case names
#                none, into docs/benchmarks/NAME/; needs root
#   ROUNDS=N     rounds of each case
#   RENDER=1     measure nothing: write tables and plots from the results
#
# Arguments go to the program in scripts/bench; -help lists them.
set -euo pipefail
cd "$(dirname "$0")/.."

xray_version=v1.260327.0

docs=docs results=docs/benchmarks/results.json
if [ -n "${CONTROL:-}" ]; then
  docs=docs/benchmarks/$CONTROL results=docs/benchmarks/$CONTROL/results.json
fi
if [ -n "${QUICK:-}" ]; then
  docs=build/bench-quick results=build/bench-quick.json
fi
mkdir -p build/bench "$docs"
go -C scripts/bench build -o ../../build/bench/bench .
if [ -n "${RENDER:-}" ]; then
  exec build/bench/bench -docs "$docs" -render "$results" "$@"
fi

scripts/test-deps.sh
scripts/build.sh
xray=build/bench/xray-$xray_version
if [ ! -x "$xray" ]; then
  echo "bench: building Xray $xray_version"
  # With a version, go install uses the go.mod of Xray, not ours.
  CGO_ENABLED=0 GOBIN=$PWD/build/bench GOFLAGS=-mod=mod \
    go install "github.com/xtls/xray-core/main@$xray_version"
  mv build/bench/main "$xray"
fi

# Each of 20,000 streams takes a descriptor of the target, and one of the remote.
ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"

flags=(-xray "$xray" -results "$results" -docs "$docs")
command='make bench'
if [ -n "${QUICK:-}" ]; then
  flags+=(-quick)
  command+=" QUICK=$QUICK"
fi
start=()
if [ -n "${CONTROL:-}" ]; then
  flags+=(-control "$CONTROL")
  command+=" CONTROL=$CONTROL"
  # The routes of a network namespace of its own give it to what runs on loopback.
  # shellcheck disable=SC2016 # the inner shell expands them
  start=(unshare --net sh -c 'ip link set lo up
    for to in 127.0.0.0/8 127.0.0.1; do
      ip route change local "$to" dev lo proto kernel scope host src 127.0.0.1 table local \
        congctl "$0" || exit
    done
    exec "$@"' "$CONTROL")
fi
if [ -n "${ONLY:-}" ]; then
  flags+=(-only "$ONLY")
  command+=" ONLY='$ONLY'"
fi
if [ -n "${ROUNDS:-}" ]; then
  flags+=(-rounds "$ROUNDS")
  command+=" ROUNDS=$ROUNDS"
fi
exec "${start[@]}" build/bench/bench "${flags[@]}" -command "$command" "$@"

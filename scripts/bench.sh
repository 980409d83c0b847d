#!/usr/bin/env bash
# Measures culvert beside OpenSSH, Xray and no proxy, in turns in one run, and
# writes build/bench.json and the tables and plots of docs/benchmarks.md. Half an
# hour on two cores. Emulated links need root; without it these cases are left out.
#
#   QUICK=1      five minutes: fewer rounds, into build/bench-quick/ and not docs/
#   ONLY=CASE,…  measure these cases alone (loopback-*, say) and put them in place
#                of the old ones in build/bench.json; scripts/bench -list has the names
#   ROUNDS=N     rounds of each case
#   RENDER=1     measure nothing: write tables and plots again from build/bench.json
#
# Arguments go to the program in scripts/bench: -help tells.
set -euo pipefail
cd "$(dirname "$0")/.."

xray_version=v1.260327.0

mkdir -p build/bench
go -C scripts/bench build -o ../../build/bench/bench .
if [ -n "${RENDER:-}" ]; then
  exec build/bench/bench -render build/bench.json "$@"
fi

scripts/test-deps.sh
scripts/build.sh
xray=build/bench/xray-$xray_version
if [ ! -x "$xray" ]; then
  echo "bench: building Xray $xray_version"
  # Outside the module, so that it has the versions that its own go.mod names.
  (cd build/bench && CGO_ENABLED=0 GOBIN=$PWD GOFLAGS=-mod=mod go install "github.com/xtls/xray-core/main@$xray_version")
  mv build/bench/main "$xray"
fi

# Each of 10,000 streams takes a descriptor, or two.
ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"

flags=(-xray "$xray")
command='make bench'
if [ -n "${QUICK:-}" ]; then
  flags+=(-quick -results build/bench-quick.json -docs build/bench-quick)
  command+=" QUICK=$QUICK"
fi
if [ -n "${ONLY:-}" ]; then
  flags+=(-only "$ONLY")
  command+=" ONLY='$ONLY'"
fi
if [ -n "${ROUNDS:-}" ]; then
  flags+=(-rounds "$ROUNDS")
  command+=" ROUNDS=$ROUNDS"
fi
exec build/bench/bench "${flags[@]}" -command "$command" "$@"

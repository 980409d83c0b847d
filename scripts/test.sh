#!/usr/bin/env bash
# Runs go test with the race detector: scripts/test.sh [flags] [packages],
# by default all packages. Fails when a test fails or is skipped.
#
#   TEST_TIMEOUT  limit for one package's tests, 15m by default
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -eq 0 ]; then
  set -- ./...
fi
if [ "$*" = ./... ]; then
  # With the race detector, pools drop a part of what they get. So what is
  # allocated is tested without it.
  go test -count=1 -run Allocations ./protocol ./tunnel/mux
fi
mkdir -p build/tools
go build -o build/tools/testsum ./scripts/testsum
# -count=1: results hang on programs that Go's test cache does not know of
# (Node, sshd, a browser), so an old result shows nothing.
exec build/tools/testsum -- -race -count=1 -timeout "${TEST_TIMEOUT:-15m}" "$@"

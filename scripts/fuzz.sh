#!/usr/bin/env bash
# Runs every fuzz target of the given packages (by default all), one after the
# other. Inputs that fail are left in testdata/fuzz of their package, to be
# committed with the fix.
#
#   FUZZTIME  time for each target, 10s by default
#
# Minimising is kept short: inputs whose coverage varies a little from run to run
# would otherwise take all the time.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -eq 0 ]; then
  set -- ./...
fi
# go test -list prints the names of a package's targets, then "ok", the
# package and the time taken.
list=$(go test -list '^Fuzz' "$@") || { printf '%s\n' "$list"; exit 1; }
targets=$(awk '/^Fuzz/ { name[n++] = $1 }
  $1 == "ok" { for (i = 0; i < n; i++) print $2, name[i]; n = 0 }' <<<"$list")
if [ -z "$targets" ]; then
  echo "fuzz: no fuzz target in $*" >&2
  exit 1
fi
failed=()
while read -r package target; do
  echo "== $package $target"
  go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" -fuzzminimizetime 10x "$package" </dev/null ||
    failed+=("$package $target")
done <<<"$targets"
if [ ${#failed[@]} -gt 0 ]; then
  printf 'fuzz: failed: %s\n' "${failed[@]}" >&2
  exit 1
fi

#!/usr/bin/env bash
# Runs every fuzz target of the given packages (by default those of all
# modules), one after the other. Failing inputs are kept in the package's
# testdata/fuzz, to be committed with the fix.
#
#   FUZZTIME  time for each target, 10s by default
#
# Minimising is kept short: inputs whose coverage varies a little from run to
# run would otherwise take most of the time.
set -euo pipefail
cd "$(dirname "$0")/.."

modules=.
if [ $# -eq 0 ] || [ "$*" = ./... ]; then
  set -- ./...
  modules=$(scripts/modules.sh)
fi
targets=() # a module, a package and a target each
for module in $modules; do
  # go test -list prints the names of a package's targets, then "ok", the
  # package and the time taken.
  list=$(cd "$module" && go test -list '^Fuzz' "$@") || { printf '%s\n' "$list"; exit 1; }
  while read -r target; do targets+=("$target"); done < <(awk -v module="$module" '
    /^Fuzz/ { name[n++] = $1 }
    $1 == "ok" { for (i = 0; i < n; i++) print module, $2, name[i]; n = 0 }' <<<"$list")
done
if [ ${#targets[@]} -eq 0 ]; then
  echo "fuzz: no fuzz target in $*" >&2
  exit 1
fi
failed=()
for target in "${targets[@]}"; do
  read -r module package name <<<"$target"
  echo "== $package $name"
  (cd "$module" && go test -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-10s}" \
    -fuzzminimizetime 10x "$package" </dev/null) || failed+=("$package $name")
done
if [ ${#failed[@]} -gt 0 ]; then
  printf 'fuzz: failed: %s\n' "${failed[@]}" >&2
  exit 1
fi

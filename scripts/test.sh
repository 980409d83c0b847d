#!/usr/bin/env bash
# Runs go test with the race detector: scripts/test.sh [flags] [./packages],
# by default all packages of all modules. Fails when a test fails or is
# skipped, when a package fails or does not end, and when no test ran. A test
# that fails is run again by itself: see retest.sh. The last line of the output
# is
#
#   N passed, N failed, N skipped
#
# in which tests, subtests, examples and fuzz seeds count one each, and so does
# a package that fails without a failed test: it does not build, its TestMain
# fails.
#
#   TEST_TIMEOUT  limit for one package's tests, 20m by default
set -euo pipefail
cd "$(dirname "$0")/.."

gotestsum_version=v1.13.0

# The packages that also run on a 32-bit system, with CGO off.
packages_386=(./protocol ./certs ./socks ./tunnel/...)

# With the race detector, pools drop part of what is put into them, so the
# tests of what is allocated run without it.
packages_allocations=(./protocol ./tunnel/mux)

# go_test LABEL MODULE ARGUMENT... runs go test -json in the folder of a
# module; the label goes before the names of the packages.
# -count=1: results depend on programs that Go's test cache does not know of
# (Node, sshd, a browser), so a cached result proves nothing.
go_test() {
  local label=$1 module=$2
  shift 2
  (cd "$module" && go test -json -count=1 -timeout "${TEST_TIMEOUT:-20m}" "$@") |
    sed -u -E "s/^(\{(\"Time\":\"[^\"]*\",)?\"Action\":\"[a-z-]+\",\"Package\":\")/\1$label/"
}

# modules_of PACKAGE... resolves the packages to modules and patterns within
# them, and prints a line for each pair.
modules_of() {
  local package folder module
  for package; do
    [ "${package#culvert/}" = "$package" ] || package=./${package#culvert/}
    folder=${package%/...}
    if [ ! -d "$folder" ]; then
      echo "test: no such folder: $folder" >&2
      return 1
    fi
    module=$folder
    while [ ! -e "$module/go.mod" ]; do module=$(dirname "$module"); done
    if [ "$folder" = "$package" ]; then
      echo "$module .${package#"$module"}"
      continue
    fi
    # Above other modules there may be no package of this one.
    if [ -n "$(cd "$module" && go list ".${package#"$module"}" 2>/dev/null)" ]; then
      echo "$module .${package#"$module"}"
    fi
    while read -r module; do
      [[ $module != "$folder"/* ]] || echo "$module ./..."
    done < <(scripts/modules.sh)
  done
}

# all runs everything, even after a failure.
all() {
  local flags=() packages=() race patterns status=0 argument module full='' beside=''
  for argument; do
    case $argument in
      ./* | culvert/*) packages+=("$argument") ;;
      *) flags+=("$argument") ;;
    esac
  done
  [ ${#packages[@]} -gt 0 ] || packages=(./...)
  [ "$* ${packages[*]}" != './... ./...' ] || full=yes
  patterns=$(modules_of "${packages[@]}")
  for module in $(cut -d' ' -f1 <<<"$patterns" | uniq); do
    # The tests for a 32-bit system mostly wait, so they run beside the small modules, the long ones
    # for less time. Their output comes after that of the others, whose lines it would cut.
    if [ -n "$full" ] && [ "$module" != . ] && [ -z "$beside" ]; then
      CGO_ENABLED=0 GOARCH=386 go_test '[386] ' . -short -parallel 4 "${packages_386[@]}" \
        >build/test-386.json &
      beside=$!
    fi
    race=(-race)
    # Nothing is concurrent in it, and with -race all of Kubernetes' packages are compiled again.
    [ "$module" != ./scripts/lint/kubernetes ] || race=()
    # shellcheck disable=SC2046 # one word for each pattern
    go_test '' "$module" "${race[@]}" -parallel 3 "${flags[@]}" \
      $(awk -v module="$module" '$1 == module { print $2 }' <<<"$patterns") || status=1
  done
  if [ -n "$full" ]; then
    go_test '[no race detector] ' . -run Allocations "${packages_allocations[@]}" || status=1
    wait "$beside" || status=1
    cat build/test-386.json
  fi
  return $status
}

# totals STATUS prints the last line from the events of go test -json on its
# standard input ("go doc cmd/test2json"), and fails unless every test passed.
totals() {
  scripts/test-events.sh | awk -F '\t' -v status="$1" '
    { action = $1; package = $2; test = $3 }
    test != "" && action == "run" { running[package, test] = package }
    test != "" && action ~ /^(pass|fail|skip)$/ {
      delete running[package, test]
      count[action]++
      if (action == "fail") failures[package]++
    }
    test == "" && action == "start" { open[package] = 1 }
    test == "" && action ~ /^(pass|fail|skip)$/ { end(package, action) }
    # Tests without a result failed: a crash or the time limit ended them.
    function end(package, action,   t) {
      delete open[package]
      for (t in running) if (running[t] == package) {
        delete running[t]
        count["fail"]++
        failures[package]++
      }
      if (action == "fail" && !failures[package]) count["fail"]++
      failures[package] = 0
    }
    END {
      for (package in open) end(package, "fail")
      if (status != 0 && !count["fail"]) count["fail"] = 1
      if (!count["pass"] && !count["fail"] && !count["skip"]) print "FAIL: no test ran"
      printf "%d passed, %d failed, %d skipped\n", count["pass"], count["fail"], count["skip"]
      exit !(count["pass"] && !count["fail"] && !count["skip"])
    }'
}

if [ "${1:-}" = --all ]; then
  shift
  all "$@"
  exit
fi
tools=$PWD/build/tools
events=$PWD/build/test.json
mkdir -p build
GOBIN=$tools go install "gotest.tools/gotestsum@$gotestsum_version"
status=0
"$tools/gotestsum" --format pkgname-and-test-fails --format-hide-empty-pkg --jsonfile "$events" \
  --raw-command -- scripts/test.sh --all "$@" || status=$?
if [ $status -eq 1 ] && scripts/retest.sh "$events"; then
  sed -i 's/"Action":"fail"/"Action":"pass"/' "$events"
  status=0
fi
totals $status <"$events"

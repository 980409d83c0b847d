#!/usr/bin/env bash
# Runs the tests that failed in a run of scripts/test.sh again, each by itself:
# scripts/retest.sh EVENTS, the output of that run's go test -json. Succeeds
# when all of them pass twice, and names them in lines "FLAKY: ...".
#
# Many tests share a machine with all the others, and with whatever else it
# does, so now and then one of a thousand runs out of time. Such a test still is
# a fault, of its own or of the program, to be mended: look at what it printed.
#
# What a second run can't clear is not run again: a data race, a panic, a time
# limit, a package that fails without a test, and more than three tests.
set -euo pipefail
events=$(realpath "$1")
cd "$(dirname "$0")/.."
most=3

# A test prints what it has seen of another process with spaces in front.
if grep -qE '"Output":" *(WARNING: DATA RACE|panic: |fatal error: )' "$events" ||
  grep -qE '"Output":"[^"]*(the race detector found a race| crashed)\\n"' "$events"; then
  exit 1
fi

# failed prints the top-level tests that failed, as PACKAGE TAB TEST.
failed() {
  scripts/test-events.sh <"$events" | awk -F '\t' '
    { action = $1; package = $2; test = $3 }
    test != "" && action == "run" { running[package, test] = 1 }
    test != "" && action ~ /^(pass|fail|skip)$/ { delete running[package, test] }
    action != "fail" { next }
    test == "" { broken[package] = 1 }
    test != "" && test !~ /\// { tests[package]++; print package "\t" test }
    END {
      for (package in broken) if (!tests[package]) exit 1
      for (test in running) exit 1
    }'
}

tests=$(failed) || exit 1
[ -n "$tests" ] && [ "$(wc -l <<<"$tests")" -le $most ] || exit 1
while IFS=$'\t' read -r package test; do
  environment=() flags=(-race)
  case $package in
    '[386] '*) environment=(CGO_ENABLED=0 GOARCH=386) flags=() ;;
    '[no race detector] '*) flags=() ;;
  esac
  name=${package##*] }
  for module in $(scripts/modules.sh); do
    (cd "$module" && go list "$name" >/dev/null 2>&1) && break
  done
  echo "Run again, by itself: $package $test"
  (cd "$module" && env "${environment[@]}" go test -count=2 -timeout "${TEST_TIMEOUT:-20m}" \
    "${flags[@]}" -run "^$test\$" "$name" </dev/null)
  flaky+=("$package $test")
done <<<"$tests"
printf 'FLAKY: %s failed, and passed twice by itself\n' "${flaky[@]}"

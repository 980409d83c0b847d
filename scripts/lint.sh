#!/usr/bin/env bash
# Runs every static check, all of them even when one fails, and fails when one
# did. Tools are built at the versions pinned here, into build/tools/.
#
#   GOVULNCHECK_DB        URL of a vulnerability database in place of the
#                         public one (a mirror, or file:///folder)
#   GOVULNCHECK_REQUIRED  1: fail, too, when that database cannot be read
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

staticcheck_version=v0.8.1 # 2026.2.1
govulncheck_version=v1.9.0

tools=$PWD/build/tools
failed=()

# check NAME COMMAND... runs one check.
check() {
  local name=$1
  shift
  echo "lint: $name"
  "$@" || failed+=("$name")
}

# each COMMAND... runs a command in the folder of every module.
each() {
  local module status=0
  while read -r module; do
    (cd "$module" && "$@") || status=1
  done < <(scripts/modules.sh)
  return $status
}

# tool PACKAGE@VERSION builds a tool; quick once it is built.
tool() {
  GOBIN=$tools go install "$1"
}

formatted() {
  local files
  files=$(gofmt -l .) || return 1
  [ -z "$files" ] && return
  sed 's/$/: not formatted, run gofmt -w on it/' <<<"$files"
  return 1
}

# ST1000 and ST1020 to ST1022 (in "all") ask for the package comment and for
# doc comments in Go's form; the quick fixes (QF) are matters of taste.
staticcheck() {
  tool "honnef.co/go/tools/cmd/staticcheck@$staticcheck_version" &&
    each "$tools/staticcheck" -checks 'all,-QF*' ./...
}

tidy() {
  go mod tidy -diff || {
    echo "go.mod or go.sum of ${PWD##*/} is not what the imports need: run go mod tidy there"
    return 1
  }
}

# A test that skips itself shows nothing. One that sleeps is slow or flaky,
# except on the fake clock of a testing/synctest bubble: after synctest.Test(
# in the same function, or on a line with a comment that says synctest, for
# what a bubble calls.
test_rules() {
  find . \( -name node_modules -o -name build -o -name testdata \) -prune -o -name '*_test.go' -print0 |
    xargs -0 -r awk '
      function report(says) { printf "%s:%d: %s\n", FILENAME, FNR, says; bad = 1 }
      /^func / { bubble = 0 }
      /synctest\.Test\(/ { bubble = 1 }
      /(^|[^A-Za-z0-9_.])(t|b|f|tb)\.Skip(f|Now)?\(/ {
        report("a test must not skip itself: have it fail and say what is missing")
      }
      /(^|[^A-Za-z0-9_.])time\.Sleep\(/ && !bubble && !/\/\/.*synctest/ {
        report("a test must not sleep: wait for an event, poll with a deadline, or use testing/synctest")
      }
      END { exit bad }'
}

# govulncheck exits 3 when the program calls vulnerable code. A query that
# names no code of ours goes first, so that an unreachable database is told
# from every other failure; that alone is let pass, and loudly.
govulncheck() {
  local db=() answer
  [ -n "${GOVULNCHECK_DB:-}" ] && db=(-db "$GOVULNCHECK_DB")
  tool "golang.org/x/vuln/cmd/govulncheck@$govulncheck_version" || return 1
  if ! answer=$("$tools/govulncheck" "${db[@]}" -mode=query -format=json stdlib@v1.26.0 2>&1 >/dev/null); then
    printf '%s\n' "$answer"
    echo 'WARNING: the vulnerability database cannot be read: NOTHING WAS CHECKED for known vulnerabilities'
    [ "${GOVULNCHECK_REQUIRED:-}" != 1 ]
    return
  fi
  each "$tools/govulncheck" "${db[@]}" ./...
}

check gofmt formatted
check 'go vet' each go vet ./...
check "staticcheck $staticcheck_version" staticcheck
check 'go mod tidy' each tidy
check 'test rules' test_rules
check "govulncheck $govulncheck_version" govulncheck

if [ ${#failed[@]} -gt 0 ]; then
  printf 'lint: failed: %s\n' "${failed[@]}"
  exit 1
fi
echo 'lint: ok'

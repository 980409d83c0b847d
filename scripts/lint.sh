#!/usr/bin/env bash
# Runs every static check in every module, even after one has failed, and fails
# if one did. Tools are built at the versions pinned here, into build/tools/.
#
#   GOVULNCHECK_DB        URL of a vulnerability database to use in place of
#                         the public one (a mirror, or file:///folder)
#   GOVULNCHECK_REQUIRED  1: also fail if that database cannot be read
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

staticcheck_version=v0.8.1 # 2026.2.1
govulncheck_version=v1.9.0
golangci_version=v2.15.0

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

# "all" includes ST1000 and ST1020 to ST1022, which want a package comment and
# doc comments in Go's form. The quick fixes (QF) are matters of taste.
staticcheck() {
  tool "honnef.co/go/tools/cmd/staticcheck@$staticcheck_version" &&
    each "$tools/staticcheck" -checks 'all,-QF*' ./...
}

tidy() {
  go mod tidy -diff || {
    echo "go.mod or go.sum of ${PWD##*/} does not match the imports: run go mod tidy there"
    return 1
  }
}

# The rules that no standard linter knows; scripts/lint documents them.
own_rules() {
  (cd scripts/lint && go build -o "$tools/lint" .) && each go vet -vettool="$tools/lint" ./...
}

golangci() {
  tool "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$golangci_version" &&
    each "$tools/golangci-lint" run --show-stats=false
}

# Test data, the output of npm and the build, and what others have written may have longer lines.
lines() {
  find . \( -name node_modules -o -name build -o -name testdata -o -name third_party \
    -o -name .git \) -prune -o -type f \
    \( -name '*.go' -o -name '*.sh' -o -name '*.js' -o -name '*.md' -o -name '*.yml' \
    -o -name Makefile -o -path ./.ci/run \) -print0 | xargs -0 "$tools/lint" lines
}

# govulncheck exits with 3 if the program calls vulnerable code. A query about
# Go itself goes first, to tell an unreachable database from other failures. An
# unreachable database gives a warning, and fails only if it is required.
govulncheck() {
  local db=() answer
  [ -n "${GOVULNCHECK_DB:-}" ] && db=(-db "$GOVULNCHECK_DB")
  tool "golang.org/x/vuln/cmd/govulncheck@$govulncheck_version" || return 1
  if ! answer=$("$tools/govulncheck" "${db[@]}" -mode=query -format=json stdlib@v1.26.0 \
    2>&1 >/dev/null); then
    printf '%s\n' "$answer"
    echo 'WARNING: the vulnerability database cannot be read: NOTHING WAS CHECKED'
    [ "${GOVULNCHECK_REQUIRED:-}" != 1 ]
    return
  fi
  each "$tools/govulncheck" "${db[@]}" ./...
}

check gofmt formatted
check 'go vet' each go vet ./...
check "staticcheck $staticcheck_version" staticcheck
check "golangci-lint $golangci_version" golangci
check 'scripts/lint' own_rules
check 'line length' lines
check 'go mod tidy' each tidy
check 'other platforms' scripts/cross.sh linux/386 darwin/arm64 windows/amd64 freebsd/amd64
check "govulncheck $govulncheck_version" govulncheck

if [ ${#failed[@]} -gt 0 ]; then
  printf 'lint: failed: %s\n' "${failed[@]}"
  exit 1
fi
echo 'lint: ok'

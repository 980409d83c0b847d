#!/bin/sh
# Builds ./build/culvert: one static file, with the same bytes from the same
# commit wherever the checkout is. The version is the commit's tag or, without
# one, its hash; outside a git checkout it stays what main.go gives it, and
# `culvert version` shows no commit.
set -eu
cd "$(dirname "$0")/.."

# The version is set here and not by go, whose own stamp needs a git that trusts
# the checkout.
ldflags='-buildid='
if version=$(scripts/version.sh 2>/dev/null); then
  commit=$(git describe --always --abbrev=40 --exclude='*' --dirty)
  commit_time=$(TZ=UTC0 git show -s --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ HEAD)
  ldflags="$ldflags -X main.version=$version -X culvert/internal/cli.commit=$commit"
  ldflags="$ldflags -X culvert/internal/cli.commitTime=$commit_time"
fi
mkdir -p build
# urfave_cli_no_docs leaves out the generator of man pages, and the two
# libraries that it brings.
CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags urfave_cli_no_docs -ldflags "$ldflags" \
  -o build/culvert .

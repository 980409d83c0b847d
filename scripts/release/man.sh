#!/usr/bin/env bash
# Writes the manual pages to build/man/, or to the folder given, with the version
# and the date of the commit.
set -euo pipefail
out=$(realpath -m "${1:-build/man}")
cd "$(dirname "$0")/../.."
version=$(scripts/version.sh)
date=$(TZ=UTC0 git show -s --format=%cd --date=format-local:%Y-%m-%d HEAD)
rm -rf "$out"
go run ./scripts/release/man -version "$version" -date "$date" -out "$out"

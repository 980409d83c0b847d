#!/usr/bin/env bash
# Prints the folder of each Go module of the repository, the product's first.
set -euo pipefail
cd "$(dirname "$0")/.."
find . \( -name node_modules -o -name build -o -name testdata -o -name .git \) -prune \
  -o -name go.mod -print | sed 's,/go\.mod$,,' | LC_ALL=C sort

#!/usr/bin/env bash
# Builds ./build/culvert. The version is what git says of the checkout; outside
# a checkout the program keeps the version that main.go gives it.
set -euo pipefail
cd "$(dirname "$0")/.."

flags=(-trimpath)
if version=$(git describe --tags --always --dirty 2>/dev/null); then
  flags+=(-ldflags "-X main.version=$version")
fi
mkdir -p build
go build "${flags[@]}" -o build/culvert .

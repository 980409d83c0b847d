#!/usr/bin/env bash
# Builds the product and vets it with its tests for each platform, or for those
# given as GOOS/GOARCH, with CGO off.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

if [ $# -eq 0 ]; then
  set -- linux/{amd64,arm64,arm,386,riscv64,mips64} darwin/{amd64,arm64} \
    {windows,freebsd,netbsd,openbsd}/amd64
fi
failed=()
for platform; do
  echo "cross: $platform"
  export CGO_ENABLED=0 GOOS=${platform%/*} GOARCH=${platform#*/}
  go build -tags urfave_cli_no_docs -o /dev/null . && go vet ./... || failed+=("$platform")
done
if [ ${#failed[@]} -gt 0 ]; then
  printf 'cross: failed: %s\n' "${failed[@]}"
  exit 1
fi
echo 'cross: ok'

#!/usr/bin/env bash
# Makes a release of the commit in build/release/: archives, deb, rpm and apk
# packages, a container image, bills of materials and checksums. With a version's
# tag on the commit it is that version's; without one it is a snapshot. The same
# commit gives the same bytes with the same version of Go. Nothing is downloaded
# but Go modules, and nothing is published.
#
#   TARGETS  only for these systems, as .goreleaser.yaml names them: "linux_amd64 windows_amd64"
set -euo pipefail
cd "$(dirname "$0")/../.."

goreleaser_version=v2.15.1 # which brings nfpm v2.45.2

if [ -n "$(git status --porcelain)" ]; then
  echo 'release: there are changes that are not committed' >&2
  exit 1
fi
export TZ=UTC0 LC_ALL=C
CULVERT_COMMIT=$(git rev-parse HEAD)
SOURCE_DATE_EPOCH=$(git show -s --format=%ct HEAD)
CULVERT_TIME=$(date -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
# Goreleaser's own look at versions wants a remote repository.
arguments=(release --clean --snapshot --skip=publish,announce)
if CULVERT_VERSION=$(git describe --tags --exact-match --match 'v[0-9]*' 2>/dev/null); then
  PACKAGE_VERSION=${CULVERT_VERSION#v}
else
  CULVERT_VERSION=$(git describe --always --abbrev=12 --exclude='*')
  PACKAGE_VERSION=0.0.0-dev.$(date -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).$CULVERT_VERSION
fi
export CULVERT_COMMIT CULVERT_TIME CULVERT_VERSION PACKAGE_VERSION SOURCE_DATE_EPOCH

tools=$PWD/build/tools
GOBIN=$tools go install "github.com/goreleaser/goreleaser/v2@$goreleaser_version"
(cd scripts/release/pack && go build -trimpath -o "$tools/pack" .)

rm -rf build/package build/release
mkdir -p build/package/completions build/release
scripts/release/man.sh build/package/man
for shell in bash fish; do
  cp "internal/cli/flags/completion/culvert.$shell" build/package/completions/
done
cp internal/cli/flags/completion/culvert.zsh build/package/completions/_culvert
cp internal/cli/flags/completion/culvert.powershell build/package/completions/culvert.ps1
"$tools/pack" licences build/package/THIRD-PARTY-LICENSES
# An apk has the scripts with the times of their files.
cp -r scripts/release/packages build/package/scripts
find build/package -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
chmod -R u=rwX,go=rX build/package

config=.goreleaser.yaml
if [ -n "${TARGETS:-}" ]; then
  config=build/goreleaser.yaml
  awk -v targets=" $TARGETS " '$1 != "-" || $2 !~ /^(linux|darwin|windows|freebsd)_/ ||
    index(targets, " " $2 " ")' .goreleaser.yaml >$config
fi
"$tools/goreleaser" "${arguments[@]}" --config $config

image=culvert_${PACKAGE_VERSION}_oci
"$tools/pack" sboms "$PACKAGE_VERSION" build/goreleaser build/release
"$tools/pack" image "$PACKAGE_VERSION" build/goreleaser build/image
tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
  --mode=u=rwX,go=rX -C build/image -cf "build/release/$image.tar" blobs index.json oci-layout
find build/goreleaser -maxdepth 1 -type f -name 'culvert[_-]*' -exec cp -t build/release {} +
(cd build/release && sha256sum -- * >../checksums.txt && mv ../checksums.txt .)
echo "release: $PACKAGE_VERSION is in build/release"

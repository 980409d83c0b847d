#!/usr/bin/env bash
# Checks the release of a commit, as README.md tells. It needs root, debootstrap,
# rpm2cpio, and the mirror of Debian's that apt is set up for. In the end it
# prints "ok".
#
#   TARGETS  as in release.sh; linux_amd64 has to be one
#   QUICK    1: the second build may use what the first one has compiled
set -euo pipefail
cd "$(dirname "$0")/../.."
repository=$PWD
release=$repository/build/release
work=$(mktemp -d)
booted=
trap '[ -z "$booted" ] || kill -KILL "$booted" || true; rm -rf "$work" || true' EXIT

say() { echo "release-check: $*"; }
fail() {
  say "FAILED: $*" >&2
  exit 1
}

two_builds() {
  say 'two builds'
  scripts/release/release.sh
  local elsewhere="$work/another place/culvert"
  mkdir -p "$(dirname "$elsewhere")"
  git clone -q "$repository" "$elsewhere"
  mkdir "$elsewhere/build"
  cp -r build/tools "$elsewhere/build/"
  [ "${QUICK:-}" = 1 ] || export GOCACHE=$work/cache
  (umask 077 && unshare --uts sh -c 'hostname elsewhere && exec "$0"' \
    "$elsewhere/scripts/release/release.sh" >"$work/second.log" 2>&1) ||
    { cat "$work/second.log" >&2 && fail 'the second build'; }
  unset GOCACHE
  diff -r "$release" "$elsewhere/build/release" || fail 'the builds differ'
  say "the $(wc -l <"$release/checksums.txt") files of both builds are identical"
}

# one NAME... prints the only file of the release that matches.
one() {
  local found
  found=$(find "$release" -name "$1")
  [ -f "$found" ] || fail "$1 is $found"
  echo "$found"
}

# in_debian COMMAND runs it in the new Debian, without a network.
in_debian() {
  unshare --net --ipc --mount --pid --fork --kill-child -- sh -c '
    ip link set lo up && mount -t proc proc "$1/proc" && shift && exec "$@"' \
    sh "$work/debian" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
    DEBIAN_FRONTEND=noninteractive chroot "$work/debian" bash -euo pipefail -c "$1"
}

# contents_of_debian lists what is there, without what every package leaves in logs and caches.
contents_of_debian() {
  (cd "$work/debian" && find . -xdev \( -path ./proc -o -path ./run -o -path ./tmp \
    -o -path ./var/cache -o -path ./var/log -o -path ./var/lib/dpkg \) -prune -o -print |
    LC_ALL=C sort)
}

debian() {
  say 'a new Debian 12'
  local mirror
  mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep '/debian/*$' | head -n 1)
  debootstrap --variant=minbase --include=systemd,procps bookworm "$work/debian" "$mirror" \
    >"$work/debootstrap.log" || { tail "$work/debootstrap.log" >&2 && fail debootstrap; }
  deb=$(one 'culvert_*_amd64.deb')
  cp "$deb" "$work/debian/tmp/culvert.deb"
  contents_of_debian >"$work/before"
  in_debian 'dpkg -i /tmp/culvert.deb'
  in_debian '
    cd /usr/lib/systemd/system
    found=$(systemd-analyze verify --man=no culvert-remote.service culvert-remote.socket \
      culvert-local@work.service 2>&1) && [ -z "$found" ] || { echo "$found"; exit 1; }
    for unit in culvert-remote.service culvert-local@.service; do
      systemd-analyze security --offline=true --threshold=19 --no-pager $unit | tail -n 1
    done' || fail 'the units'
  in_debian "$tunnel" || fail 'remote and local'
  in_debian 'dpkg --purge culvert'
  contents_of_debian >"$work/after"
  diff "$work/before" "$work/after" || fail 'what purge leaves'
  say 'the deb installs, runs, and leaves nothing'
}

# services boots the Debian, as a container, and runs the units under its systemd.
services() {
  say 'the services'
  # Not in a network, and in its own control groups.
  unshare --net --ipc --uts --mount --pid --cgroup --fork --kill-child \
    scripts/release/boot.sh "$work/debian" >"$work/boot.log" 2>&1 </dev/null &
  local unshare=$!
  for _ in $(seq 50); do booted=$(pgrep -P $unshare) && break || sleep 0.1; done
  mkdir -p "$work/debian/opt"
  cp "$deb" "$work/debian/opt/culvert.deb"
  cp scripts/release/services.sh "$work/debian/opt/"
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=exit.example.org \
    -keyout "$work/debian/opt/tls.key" -out "$work/debian/opt/tls.pem" 2>"$work/openssl.log" ||
    { cat "$work/openssl.log" >&2 && fail openssl; }
  for _ in $(seq 600); do
    in_booted systemctl is-system-running 2>/dev/null | grep -q running && break || sleep 0.1
  done
  in_booted bash /opt/services.sh || { cat "$work/boot.log" >&2 && fail 'the services'; }
  kill -KILL "$booted"
  wait $unshare || true
  booted=
  say 'the units run, sandboxed, under systemd'
}

# in_booted COMMAND... runs it in the Debian that has been booted.
in_booted() {
  nsenter --target "$booted" --all env -i HOME=/root TERM=dumb DEBIAN_FRONTEND=noninteractive \
    PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

# The remote as its unit starts it, and a local that forwards a port to the remote's own.
tunnel='
  culvert version
  await() {
    for _ in $(seq 100); do grep -q "$1" "$2" && return || sleep 0.1; done
    cat "$2"
    exit 1
  }
  culvert keygen -o /tmp/laptop.json >/tmp/laptop.pub
  echo "$(cat /tmp/laptop.pub) laptop" >>/etc/culvert/authorized_keys
  mkdir /var/lib/culvert /var/lib/culvert-local
  STATE_DIRECTORY=/var/lib/culvert CULVERT_CONFIG=/etc/culvert/remote.toml \
    culvert remote --print-ready >/tmp/remote 2>&1 &
  await \"ready\" /tmp/remote
  key=$(sed -n "s/.*\"public_key\":\"\([^\"]*\)\".*/\1/p" /tmp/remote)
  STATE_DIRECTORY=/var/lib/culvert-local culvert local --wait --key /tmp/laptop.json \
    --remote-key "$key" -L 9000:127.0.0.1:8080 --print-ready ws://127.0.0.1:8080/ \
    >/tmp/local 2>&1 &
  await \"ready\" /tmp/local
  exec 3<>/dev/tcp/127.0.0.1/9000
  printf "GET / HTTP/1.0\r\n\r\n" >&3
  read -r status <&3
  echo "through the tunnel: $status"
  [[ $status == *" 426 "* ]]
  kill %1 %2
  wait
  rm /tmp/remote /tmp/local /tmp/laptop.*

  # The README: what a user starts has nothing to do with what the service is told.
  mkdir /tmp/exit /tmp/laptop
  HOME=/tmp/exit culvert authorize "$(HOME=/tmp/laptop culvert keygen)" laptop
  for admission in "" --allow-anyone; do
    HOME=/tmp/exit culvert remote --listen 127.0.0.1:8080 $admission >/tmp/remote 2>&1 &
    await "remote up" /tmp/remote
    HOME=/tmp/laptop culvert check --accept-new ws://127.0.0.1:8080/
    kill $!
    wait
  done
  rm -r /tmp/remote /tmp/exit /tmp/laptop'

# hashes FOLDER prints the sums of the files in a folder, under the names that the deb gives them.
hashes() {
  (cd "$1" && find . -type f ! -name '.*' -exec sha256sum {} + |
    sed 's,/zsh/site-functions/,/zsh/vendor-completions/,' | LC_ALL=C sort -k 2)
}

# contents checks that there is every file of each target, and in it all that it should have.
contents() {
  say 'what there is'
  (cd "$release" && sha256sum --check --quiet checksums.txt &&
    diff <(find . -type f ! -name checksums.txt -printf '%P\n' | sort) \
      <(cut -c 67- checksums.txt | sort)) || fail 'checksums.txt'
  build/tools/pack contents "$release" .goreleaser.yaml ${TARGETS:-} || fail 'the contents'
  build/tools/pack validate "$release" || fail 'the bills of materials'
}

# links FOLDER checks that the documents in it link files that are there. Some lead to the sources.
links() {
  local document target
  for document in README.md docs/cli.md docs/install.md docs/operation.md docs/deploy/nginx.conf; do
    [ -s "$1/$document" ] || fail "$1 has no $document"
  done
  (cd "$1" && grep -oE '\]\([^)#: ]+[)#]' README.md docs/*.md) | sed 's/:](/ /; s/.$//' \
    >"$work/links"
  while read -r document target; do
    case $target in
    ../scripts/* | ../protocol/*) ;;
    *) [ -e "$1/$(dirname "$document")/$target" ] || fail "$1/$document: there is no $target" ;;
    esac
  done <"$work/links"
}

packages() {
  say 'the packages'
  mkdir "$work"/{deb,rpm,apk}
  dpkg-deb -x "$(one 'culvert_*_amd64.deb')" "$work/deb"
  # Debian's rpm2cpio has the status 1 even when all is well; the sums tell.
  rpm2cpio "$(one 'culvert-*.x86_64.rpm')" >"$work/rpm.cpio" || true
  (cd "$work/rpm" && <"$work/rpm.cpio" cpio -idm --quiet --no-absolute-filenames)
  tar -C "$work/apk" --warning=no-unknown-keyword -xzf "$(one 'culvert_*_x86_64.apk')"
  links "$work/deb/usr/share/doc/culvert"
  hashes "$work/deb" >"$work/deb.sums"
  for kind in rpm apk; do
    hashes "$work/$kind" | diff "$work/deb.sums" - || fail "the $kind differs from the deb"
  done
  local name
  for deb in "$release"/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -t >"$work/names"
    for name in etc/culvert/{config,remote}.toml \
      usr/lib/systemd/system/culvert-remote.{service,socket} \
      usr/lib/systemd/user/culvert-local@.service \
      usr/share/man/man1/culvert-remote.1 usr/share/bash-completion/completions/culvert \
      usr/share/zsh/vendor-completions/_culvert usr/share/fish/vendor_completions.d/culvert.fish \
      usr/share/culvert/culvert.ps1 usr/share/doc/culvert/{copyright,THIRD-PARTY-LICENSES}; do
      grep -q "^\./$name" "$work/names" || fail "$deb has no $name"
    done
    wc -l <"$work/names"
  done >"$work/numbers"
  [ "$(sort -u "$work/numbers" | wc -l)" = 1 ] || fail 'the debs have different numbers of files'
  say "deb, rpm and apk have the same $(wc -l <"$work/deb.sums") files"
}

archives() {
  say 'the archives'
  mkdir "$work/archive" "$work/empty"
  tar -C "$work/archive" --strip-components=1 -xzf "$(one 'culvert_*_linux_amd64.tar.gz')"
  cmp "$work/archive/culvert" "$work/deb/usr/bin/culvert"
  links "$work/archive"
  cp "$work/archive/culvert" "$work/empty/"
  chroot "$work/empty" /culvert version
  chroot "$work/empty" /culvert demo --socks 127.0.0.1:0 --print-ready >"$work/ready" &
  local demo=$!
  for _ in $(seq 100); do grep -q ready "$work/ready" && break || sleep 0.1; done
  grep ready "$work/ready" || fail 'the demo in an empty root'
  kill $demo && wait $demo
  say 'the program runs in an empty root'
}

two_builds
contents
debian
services
packages
archives
say ok

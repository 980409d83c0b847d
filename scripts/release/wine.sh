#!/usr/bin/env bash
# Runs the program for Windows under Wine: wine.sh culvert.exe. It makes keys,
# authorizes one, starts a remote and a local, and loads a page through them, over
# SOCKS5, HTTP and -L. It needs wine64, gcc-mingw-w64-x86-64, curl and python3, and
# binds ports of loopback that the system chooses.
#
# Wine 8.0, which Debian 12 has, lacks bcryptprimitives.dll, without which no
# program of Go starts. Its one function that Go calls is made here, of one that
# Wine has. It lacks unix sockets too, so culvert status and the like aren't tried.
set -euo pipefail
program=$(realpath "$1")
wine=$(command -v wine64 || echo /usr/lib/wine/wine64)
work=$(mktemp -d)
export WINEPREFIX=$work/prefix WINEDEBUG=-all
export WINEDLLOVERRIDES='mscoree,mshtml=;bcryptprimitives=n'
running=()
finish() {
  [ ${#running[@]} = 0 ] || kill "${running[@]}" 2>/dev/null || true
  "${wine}server" -k 2>/dev/null || /usr/lib/wine/wineserver -k || true
  rm -rf "$work"
}
trap finish EXIT

fail() {
  echo "wine: FAILED: $*" >&2
  tail -n 5 "$work"/*.log >&2
  exit 1
}

culvert() { timeout 60 "$wine" "$program" "$@"; }

# ready NAME waits for the line of --print-ready, and prints it.
ready() {
  for _ in $(seq 600); do
    grep -h '"event":"ready"' "$work/$1.out" && return || sleep 0.1
  done
  fail "$1 is not ready"
}

# field NAME prints a field of a line of JSON: a text, or the first of a list.
field() { sed -n "s/.*\"$1\":\\[*\"\\([^\"]*\\)\".*/\\1/p"; }

cd "$work"
x86_64-w64-mingw32-gcc -shared -O2 -o bcryptprimitives.dll -x c - -ladvapi32 <<'EOF'
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE bytes, SIZE_T count) {
  return SystemFunction036(bytes, (ULONG)count);
}
EOF
"$wine" wineboot -i >/dev/null 2>&1
cp bcryptprimitives.dll "$WINEPREFIX/drive_c/windows/system32/"

culvert version
key=$(culvert keygen -o laptop.json 2>keygen.log | tr -d '\r')
[ ${#key} = 43 ] || fail "the key is $key"
[ "$(culvert keygen -o laptop.json 2>>keygen.log | tr -d '\r')" = "$key" ] || fail 'another key'
culvert authorize --authorized-keys authorized_keys "$key" laptop 2>authorize.log
grep -q "^$key laptop" authorized_keys || fail "authorized: $(cat authorized_keys)"
jobs=() others=()
for n in $(seq 8); do
  others+=("$(culvert keygen -o "other-$n.json" 2>>keygen.log | tr -d '\r')")
done
for other in "${others[@]}"; do # all at once
  culvert authorize --authorized-keys authorized_keys "$other" other 2>"authorize-$other.log" &
  jobs+=($!)
done
for job in "${jobs[@]}"; do
  wait "$job" || fail "an edit beside others: $(cat authorize-*.log)"
done
[ "$(grep -c . authorized_keys)" = 9 ] || fail "edits are lost: $(cat authorized_keys)"
culvert keygen -o remote.json >/dev/null 2>>keygen.log
echo 'wine: keygen and authorize'

mkdir site
echo 'a page' >site/index.html
python3 -u -m http.server --bind 127.0.0.1 --directory site 0 >site.log 2>&1 &
running+=($!)
for _ in $(seq 100); do grep -q 'port [0-9]' site.log && break || sleep 0.1; done
page=127.0.0.1:$(sed -n 's/.* port \([0-9]*\) .*/\1/p' site.log)

"$wine" "$program" remote --listen 127.0.0.1:0 --key remote.json \
  --authorized-keys authorized_keys --print-ready >remote.out 2>remote.log &
running+=($!)
remote=$(ready remote)
url="ws://$(field listen <<<"$remote")/#$(field public_key <<<"$remote")"
culvert check --key laptop.json "$url" | tail -n 1 | grep 'the tunnel works' || fail check
"$wine" "$program" local --key laptop.json --socks 127.0.0.1:0 -L "0:$page" --print-ready \
  "$url" >local.out 2>local.log &
running+=($!)
near=$(ready local)
socks=$(field socks <<<"$near")
for through in "--proxy socks5h://$socks" "--proxy http://$socks" ''; do
  to=$page
  [ -n "$through" ] || to=$(field forwards <<<"$near")
  # shellcheck disable=SC2086 # words
  [ "$(curl -sS --noproxy '' $through "http://$to/")" = 'a page' ] || fail "no page: $through"
  echo "wine: a page ${through:-through -L}"
done
echo 'wine: ok'

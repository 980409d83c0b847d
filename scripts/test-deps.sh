#!/usr/bin/env bash
# Installs what the tests need and the machine lacks: Debian packages (as root
# or with sudo) and the Node packages of scripts/interop. Quick if nothing is
# missing. If it cannot install something, it prints what is missing, what it
# tried and how to get it, and fails. It asks no questions and starts no service.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
# Where sshd and ip are, which an ordinary user's PATH lacks.
PATH=$PATH:/usr/sbin:/sbin

policy=/usr/sbin/policy-rc.d
policy_mark='made by scripts/test-deps.sh'
missing=()  # "what: who needs it"
packages=() # Debian's names for them
tried=()
node_modules_old=

say() { echo "test-deps: $*"; }

# need PACKAGE "WHAT: WHO NEEDS IT" TEST... records what is missing.
need() {
  local package=$1 what=$2
  shift 2
  "$@" >/dev/null 2>&1 && return
  missing+=("$what")
  [ -n "$package" ] && packages+=("$package")
}

c_headers() { echo '#include <stdlib.h>' | "${CC:-gcc}" -E -; }

node_modules_current() {
  # npm writes its copy of the lock file last.
  [ scripts/interop/node_modules/.package-lock.json -nt scripts/interop/package-lock.json ]
}

look() {
  missing=() packages=()
  # Go and Node are not installed from Debian, which may have other versions than
  # the project needs.
  need '' 'go: builds everything; install Go, at least the version in go.mod' command -v go
  need '' 'node: the interop tests run the reference; install Node 20 or newer' command -v node
  need '' 'npm: installs the reference implementation; it comes with Node' command -v npm
  need make 'make: runs the checks' command -v make
  need gcc 'gcc: the race detector is linked with it' command -v "${CC:-gcc}"
  need libc6-dev 'C headers (libc6-dev): the race detector is built with them' c_headers
  need ca-certificates 'ca-certificates: TLS to the servers that packages come from' \
    test -s /etc/ssl/certs/ca-certificates.crt
  need curl 'curl: the end-to-end tests load and upload with it' command -v curl
  need git 'git: the end-to-end tests clone with it' command -v git
  need openssh-client 'ssh: the end-to-end tests connect with it' command -v ssh
  need openssh-server 'sshd: the server of those tests' command -v sshd
  need openssl 'openssl: the tutorials and their tests make TLS certificates' command -v openssl
  need tinyproxy 'tinyproxy: the HTTP proxy of the tests' command -v tinyproxy
  need dante-server 'danted: the SOCKS5 proxy of the tests' command -v danted
  need squid 'squid: another HTTP proxy of the tests' command -v squid
  need wget 'wget: loads and uploads through the HTTP proxy in the tests' command -v wget
  need chromium 'chromium: the browser tests drive it' command -v chromium
  need firefox-esr 'firefox: the browser tests drive it too' command -v firefox-esr
  need python3 'python3: a client of UDP ASSOCIATE in the tests' test -x /usr/bin/python3
  # -I: without this folder, whose socks/ would do as the module.
  need python3-socks 'PySocks: another UDP ASSOCIATE client, for /usr/bin/python3' \
    /usr/bin/python3 -Ic 'import socks'
  need python3-requests 'requests: a client of culvert in the tests' \
    /usr/bin/python3 -Ic 'import requests'
  need python3-httpx 'httpx: a client of culvert in the tests' /usr/bin/python3 -Ic 'import httpx'
  need python3-pip 'pip: a client of culvert in the tests' /usr/bin/python3 -m pip --version
  need aria2 'aria2: a client of culvert in the tests' command -v aria2c
  need lynx 'lynx: a client of culvert in the tests' command -v lynx
  need zsh 'zsh: the completion tests type in it' command -v zsh
  need fish 'fish: the completion tests type in it' command -v fish
  need tmux 'tmux: the terminal in which a test watches a node' command -v tmux
  need iperf3 'iperf3: measures through a forwarded port in the tests' command -v iperf3
  need haproxy 'haproxy: in front of the remote in tests and the benchmark' command -v haproxy
  need nginx 'nginx: in front of the remote in the tests' command -v nginx
  need apache2 'apache2: likewise' command -v apache2
  need caddy 'caddy: likewise' command -v caddy
  need prometheus 'prometheus and promtool: scrape both nodes in the tests' command -v promtool
  need iproute2 'ip: sets up the network namespaces of the tests' command -v ip
  need dnsmasq-base 'dnsmasq: the DNS server of the UDP tests' command -v dnsmasq
  need bind9-dnsutils 'dig: queries that server through the tunnel' command -v dig
  need mandoc 'mandoc: checks the manual pages' command -v mandoc
  need systemd 'systemd-analyze: checks the units' command -v systemd-analyze
  need procps 'kill: the units reload with it' test -x /bin/kill
  need util-linux 'unshare: makes those namespaces' command -v unshare
  node_modules_old=
  if ! node_modules_current; then
    node_modules_old=1
    missing+=('scripts/interop/node_modules: the reference, in the versions of package-lock.json')
  fi
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif [ -t 0 ]; then
    sudo "$@"
  else
    sudo -n "$@" # without a terminal nobody can type a password
  fi
}

# Runs apt-get as root, without questions; it waits while another one holds the lock.
# sudo drops the variables by which it would find a proxy.
apt() {
  as_root env DEBIAN_FRONTEND=noninteractive ${http_proxy:+http_proxy="$http_proxy"} \
    ${https_proxy:+https_proxy="$https_proxy"} ${no_proxy:+no_proxy="$no_proxy"} \
    apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 \
    "$@" </dev/null
}

# Installs the packages. Debian starts a service on installation unless
# policy-rc.d forbids it, so this installs a temporary policy unless the machine
# has one. A server that only tests need is not left enabled.
install_packages() {
  if ! command -v apt-get >/dev/null; then
    tried+=('no package was installed: no apt-get, as on Debian and Ubuntu')
    return
  fi
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    tried+=('no package was installed: not root, and no sudo')
    return
  fi
  say "installing ${packages[*]}"
  local service status=0 new_services=()
  # Each unit with its program.
  for service in ssh:sshd tinyproxy:tinyproxy squid:squid danted:danted haproxy:haproxy \
    nginx:nginx apache2:apache2 caddy:caddy prometheus:prometheus; do
    command -v "${service#*:}" >/dev/null || new_services+=("$service")
  done
  if [ ! -e $policy ] || grep -qs "$policy_mark" $policy; then
    trap 'as_root rm -f $policy' EXIT
    printf '#!/bin/sh\n# %s, which removes it when it ends\nexit 101\n' "$policy_mark" |
      as_root tee $policy >/dev/null
    as_root chmod 755 $policy
  fi
  apt update || tried+=("apt-get update: status $?")
  apt install --no-install-recommends "${packages[@]}" || status=$?
  if [ $status != 0 ]; then
    tried+=("apt-get install ${packages[*]}: status $status")
  fi
  hash -r
  command -v systemctl >/dev/null || return
  for service in "${new_services[@]}"; do
    command -v "${service#*:}" >/dev/null || continue
    as_root systemctl --quiet disable "${service%:*}.service" ||
      say "${service#*:} was installed, and could not be disabled at boot"
  done
}

install_node_modules() {
  local status=0
  say 'installing the Node packages of scripts/interop'
  # No package in the lock file needs its install script.
  (cd scripts/interop && npm ci --ignore-scripts --no-audit --no-fund </dev/null) || status=$?
  if [ $status != 0 ]; then
    tried+=("npm ci in scripts/interop: status $status")
    return
  fi
  touch scripts/interop/node_modules/.package-lock.json
}

look
[ ${#missing[@]} = 0 ] && exit
[ ${#packages[@]} -gt 0 ] && install_packages
[ -n "$node_modules_old" ] && command -v npm >/dev/null && install_node_modules

hash -r
look
if [ ${#missing[@]} = 0 ]; then
  say 'complete'
  exit
fi
{
  for what in "${missing[@]}"; do say "missing: $what"; done
  for what in "${tried[@]}"; do say "tried: $what"; done
  if [ ${#packages[@]} -gt 0 ]; then
    say "to get it: as root, on Debian: apt-get update && apt-get install ${packages[*]}"
    say 'to get it: elsewhere: install these programs so that they are on PATH'
  fi
  if [ -n "$node_modules_old" ]; then
    say 'to get it: run npm ci in scripts/interop, with access to a registry of Node packages'
  fi
} >&2
exit 1

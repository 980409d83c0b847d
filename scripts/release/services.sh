#!/usr/bin/env bash
# Installs /opt/culvert.deb in a Debian that runs systemd, and has its services do
# what docs/install.md promises. check.sh runs it there.
set -euo pipefail

fail() {
  echo "services: FAILED: $*" >&2
  journalctl --no-pager -o cat -u 'culvert*' -n 40 >&2
  systemctl status --no-pager 'culvert*' >&2
  exit 1
}

# await COMMAND... waits until it succeeds, for a minute.
await() {
  for _ in $(seq 600); do "$@" >/dev/null 2>&1 && return || sleep 0.1; done
  fail "in a minute not: $*"
}

logged() { journalctl --no-pager -o cat -u "$1" | grep -q "$2"; }
key() {
  journalctl --no-pager -o cat -u "$1" | sed -n 's/.*"key":"\([^"]*\)".*created a key.*/\1/p'
}
active() { [ "$(systemctl is-active "$1")" = active ]; }

# through URL loads it through the tunnel's proxy, and prints the status line.
through() {
  exec 3<>/dev/tcp/127.0.0.1/1080
  printf 'GET %s HTTP/1.0\r\n\r\n' "$1" >&3
  head -n 1 <&3
  exec 3>&-
}

# restarted UNIT FROM reports whether the main process is another one, and ready.
restarted() {
  local pid
  pid=$(systemctl show --property MainPID --value "$1")
  [ "$pid" != "$2" ] && [ "$pid" != 0 ] && active "$1"
}

dpkg -i /opt/culvert.deb >/dev/null
[ "$(systemctl is-enabled culvert-remote culvert-remote.socket | sort -u)" = disabled ] ||
  fail 'the package has enabled something'

echo 'services: a remote, and a local that waits until it is admitted'
systemctl enable --quiet --now culvert-remote
cat >>/etc/culvert/config.toml <<EOF
socks = "127.0.0.1:1080"

[hosts.work]
url = "ws://127.0.0.1:8080/#$(key culvert-remote)"
EOF
systemctl enable --quiet culvert-local@work
systemctl start --no-block culvert-local@work
await logged culvert-local@work 'not admitted'
culvert authorize --authorized-keys /etc/culvert/authorized_keys "$(key culvert-local@work)" work
await active culvert-local@work
[[ $(through http://127.0.0.1:8080/) == *' 426 '* ]] || fail 'no stream through the tunnel'

echo 'services: locals whose instances are a host with a hyphen, and a URL'
printf '[hosts.home-office]\nurl = "ws://127.0.0.1:8080/"\n' >>/etc/culvert/config.toml
for name in home-office ws://127.0.0.1:8080/; do
  instance=$(systemd-escape $name)
  [ $name = home-office ] && secrets=$name || secrets=$instance
  printf 'CULVERT_REMOTE_KEY=%s\nCULVERT_SOCKS=127.0.0.1:1081\n' "$(key culvert-remote)" \
    >"/etc/culvert/local-$secrets.env"
  systemctl start --no-block "culvert-local@$instance"
  await logged "culvert-local@$instance" 'not admitted'
  culvert authorize --authorized-keys /etc/culvert/authorized_keys \
    "$(key "culvert-local@$instance")" $name
  await active "culvert-local@$instance"
  [ -e "/var/lib/private/culvert-local/$instance/identity.json" ] || fail 'the key is elsewhere'
  RUNTIME_DIRECTORY=/run/culvert-local/$instance culvert status | grep -q -- -1 ||
    fail "no node in /run/culvert-local/$instance"
  systemctl stop "culvert-local@$instance"
done

echo 'services: as users of their own, without privileges'
for unit in culvert-remote culvert-local@work; do
  pid=$(systemctl show --property MainPID --value $unit)
  [ "$(stat -c %u "/proc/$pid")" -ge 61184 ] || fail "$unit runs as a user that is not dynamic"
  grep -q '^CapEff:\s0000000000000000$' "/proc/$pid/status" || fail "$unit has capabilities"
  grep -q '^Seccomp:\s2$' "/proc/$pid/status" || fail "$unit may use all system calls"
  for file in sys/net/ipv4/tcp_wmem sys/net/core/somaxconn stat; do
    cat "/proc/$pid/root/proc/$file" >/dev/null || fail "$unit can't read /proc/$file"
  done
done
[ "$(stat -c %a /var/lib/private/culvert/identity.json)" = 600 ] || fail 'the key is readable'

echo 'services: status'
for folder in culvert-remote culvert-local/work; do
  RUNTIME_DIRECTORY=/run/$folder culvert status | grep -q -- -1 || fail "no node in /run/$folder"
done

echo 'services: warnings in the journal'
journalctl -u culvert-remote -p warning -o cat | grep -q '^{.*nobody is admitted' ||
  fail 'no warning has its priority'

echo 'services: reload'
systemctl reload culvert-remote culvert-local@work
await logged culvert-remote '"message":"reloaded"'
active culvert-local@work || fail 'the reload has ended the local'

# loading COMMAND... runs it again and again, until unloaded, which fails if it ever has.
loading() {
  touch /tmp/loading
  while [ -e /tmp/loading ]; do "$@" || exit 1; done &
}
unloaded() {
  rm /tmp/loading
  wait "$!"
}
loads() { [[ $(through http://127.0.0.1:8080/) == *' 426 '* ]]; }
connects() { (exec 4<>/dev/tcp/127.0.0.1/8080) 2>/dev/null; }

echo 'services: another process in place of the remote, while it is used'
pid=$(systemctl show --property MainPID --value culvert-remote)
loading loads
RUNTIME_DIRECTORY=/run/culvert-remote culvert restart remote-1 || fail 'no other process'
restarted culvert-remote "$pid" || fail 'systemd takes the old process for the main one'
unloaded || fail 'a stream was refused meanwhile'
await logged culvert-remote 'taken over'

echo 'services: the new process is killed while the old one drains'
exec 5<>/dev/tcp/127.0.0.1/1080
printf 'CONNECT 127.0.0.1:8080 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n' >&5
[[ $(head -n 1 <&5) == *' 200 '* ]] || fail 'no stream to hold open'
RUNTIME_DIRECTORY=/run/culvert-remote culvert restart remote-1 || fail 'no other process'
pid=$(systemctl show --property MainPID --value culvert-remote)
kill -KILL "$pid"
began=$SECONDS
await restarted culvert-remote "$pid"
((SECONDS - began <= 15)) || fail "nobody served for $((SECONDS - began)) seconds"
exec 5>&-
await through http://127.0.0.1:8080/

echo 'services: an upgrade, in which the remote refuses nobody'
pid=$(systemctl show --property MainPID --value culvert-remote)
loading connects
dpkg -i /opt/culvert.deb >/dev/null
restarted culvert-remote "$pid" || fail 'the old remote runs'
unloaded || fail 'a connection was refused'
await active culvert-local@work

echo 'services: an upgrade to what does not start'
pid=$(systemctl show --property MainPID --value culvert-remote)
echo 'nonsense = 1' >>/etc/culvert/remote.toml
dpkg -i /opt/culvert.deb 2>&1 | grep -q 'the old process goes on' || fail 'nothing is said'
sed -i '/nonsense/d' /etc/culvert/remote.toml
restarted culvert-remote "$pid" && fail 'the remote runs with wrong configuration'
active culvert-remote || fail 'the remote has ended'
await active culvert-local@work

echo 'services: the watchdog, for a remote that is stuck'
mkdir /etc/systemd/system/culvert-remote.service.d
printf '[Service]\nWatchdogSec=3\n' >/etc/systemd/system/culvert-remote.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart culvert-remote
pid=$(systemctl show --property MainPID --value culvert-remote)
kill -STOP "$pid"
await restarted culvert-remote "$pid"
[ "$(systemctl show --property NRestarts --value culvert-remote)" -ge 1 ] || fail 'no restart'
logged culvert-remote 'watchdog is not fed' && fail 'the watchdog was not fed in time'

echo 'services: a certificate of root'
mkdir -p /etc/culvert/tls
cp /opt/tls.{pem,key} /etc/culvert/tls
chmod 600 /etc/culvert/tls/*
cat >/etc/systemd/system/culvert-remote.service.d/tls.conf <<EOF
[Service]
LoadCredential=tls.pem:/etc/culvert/tls/tls.pem
LoadCredential=tls.key:/etc/culvert/tls/tls.key
EOF
folder=/run/credentials/culvert-remote.service
cp /etc/culvert/remote.toml /etc/culvert/plain.toml
printf 'tls-cert = "%s/tls.pem"\ntls-key = "%s/tls.key"\n' $folder $folder \
  >>/etc/culvert/remote.toml
systemctl daemon-reload
systemctl restart culvert-remote || fail 'no remote with TLS'
exec 3<>/dev/tcp/127.0.0.1/8080
printf 'GET / HTTP/1.0\r\n\r\n' >&3
grep -q 'HTTPS' <&3 || fail 'the remote speaks HTTP'
exec 3>&-
mv /etc/culvert/plain.toml /etc/culvert/remote.toml
rm /etc/systemd/system/culvert-remote.service.d/tls.conf
systemctl daemon-reload
systemctl restart culvert-remote

# socket_steps DOCUMENT prints the commands that it has for enabling the socket.
socket_steps() {
  grep -B 1 -A 1 'systemctl enable --now culvert-remote\.socket$' \
    "/usr/share/doc/culvert/docs/$1" | sed 's/^\(sudo\|exit#\) //'
}

echo 'services: a socket for a port below 1024, which is open while the remote restarts'
steps=$(socket_steps install.md)
[ "$(wc -l <<<"$steps")" = 3 ] || fail "install.md enables the socket with $steps"
[ "$steps" = "$(socket_steps operation.md)" ] || fail 'operation.md enables the socket differently'
active culvert-remote || fail 'no remote runs when the socket is enabled'
mkdir /etc/systemd/system/culvert-remote.socket.d
printf '[Socket]\nListenStream=\nListenStream=443\n' \
  >/etc/systemd/system/culvert-remote.socket.d/port.conf
sed -i -e 's/^listen = .*/listen = [":443"]/' -e 's,8080/#,443/#,' /etc/culvert/{remote,config}.toml
systemctl daemon-reload
while read -ra step; do "${step[@]}" || fail "the document's ${step[*]}"; done <<<"$steps"
active culvert-remote || fail 'no remote runs once the socket is enabled'
systemctl stop culvert-remote
active culvert-remote && fail 'the remote runs before anybody connects'
systemctl restart culvert-local@work
[[ $(through http://127.0.0.1:443/) == *' 426 '* ]] || fail 'no stream through the socket'
systemctl restart culvert-remote &
while [ -n "$(jobs -r)" ]; do
  exec 4<>/dev/tcp/127.0.0.1/443 || fail 'a connection was refused during the restart'
  exec 4>&-
  sleep 0.01
done
wait $!
await active culvert-remote

echo 'services: an upgrade, while the remote is unreachable'
systemctl stop culvert-remote culvert-remote.socket
pid=$(systemctl show --property MainPID --value culvert-local@work)
timeout 60 dpkg -i /opt/culvert.deb >/dev/null || fail 'the upgrade waits for the remote'
another() { [[ $(systemctl show --property MainPID --value "$1") != @(0|"$2") ]]; }
await another culvert-local@work "$pid"

echo 'services: stop, and purge'
systemctl stop culvert-local@work
[ "$(systemctl show --property Result --value culvert-local@work)" = success ] ||
  fail 'the local has not stopped cleanly'
dpkg --purge culvert >/dev/null
rm -r /etc/systemd/system/culvert-remote.{service,socket}.d
left=$(find / -xdev -path /proc -prune -o -path /opt -prune -o -path /var/log -prune \
  -o -name '*culvert*' -print; pgrep culvert || true)
[ -z "$left" ] || fail "purge leaves $left"

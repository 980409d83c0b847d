#!/bin/sh
# Nothing is enabled or started: a remote has to be told whom to admit first.
# After an upgrade, what runs is the old version.

# restart_remote has the new version take the remote's place, so that nobody is refused. If that
# doesn't come up, the old one goes on, and the command has said why. A status of 2 means that the
# old one can't do that.
restart_remote() {
  systemctl is-active --quiet culvert-remote.service || return 0
  folder=/run/culvert-remote
  for socket in "$folder"/*.sock; do
    name=$(basename "$socket" .sock)
    case $name in
      '*' | *-draining-*) continue ;;
    esac
    status=0
    RUNTIME_DIRECTORY=$folder /usr/bin/culvert restart "$name" || status=$?
    [ "$status" = 2 ] || return 0
  done
  systemctl --no-block try-restart culvert-remote.service
}

if [ -d /run/systemd/system ]; then
  systemctl daemon-reload || true
  restart_remote || true
  # A local is started once it has reached its remote, which the upgrade must not wait for.
  systemctl --no-block try-restart 'culvert-local@*.service' || true
fi

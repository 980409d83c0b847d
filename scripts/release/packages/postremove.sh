#!/bin/sh
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload || true
fi
# Keys and quotas are removed only when the user asks for that, as with dpkg --purge.
# Services with a dynamic user have their folders in /var/lib/private.
if [ "${1:-}" = purge ]; then
  for folder in culvert culvert-local; do
    rm -rf "/var/lib/$folder" "/var/lib/private/$folder"
  done
  rm -rf /etc/culvert
  rm -f /etc/systemd/system/multi-user.target.wants/culvert-*.service \
    /etc/systemd/system/sockets.target.wants/culvert-remote.socket
fi

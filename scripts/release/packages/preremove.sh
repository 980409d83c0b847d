#!/bin/sh
# dpkg gives "upgrade", rpm a number of versions that stay, and apk a version; an
# upgrade goes on to postinstall.sh.
case ${1:-} in
  upgrade | deconfigure | failed-upgrade | 1) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
  systemctl disable --now culvert-remote.service culvert-remote.socket || true
  systemctl stop 'culvert-local@*.service' || true
fi
# rpm and apk have no purge, after which a new installation would start what was enabled before.
# dpkg gives "remove".
if [ "${1:-}" != remove ]; then
  rm -f /etc/systemd/system/multi-user.target.wants/culvert-local@*.service
fi

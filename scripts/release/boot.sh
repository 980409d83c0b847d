#!/usr/bin/env bash
# Boots the Debian in a folder: boot.sh FOLDER, as the first process of new
# namespaces (pid, mount, network, ipc, uts, cgroup). It becomes their systemd.
set -euo pipefail
folder=$1
mount --make-rprivate /
mount --bind "$folder" "$folder"
cd "$folder"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty; do
  touch dev/$name
  mount --bind /dev/$name dev/$name
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs tmpfs dev/shm
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mount -t cgroup2 cgroup2 sys/fs/cgroup
else # version 1, of which systemd needs its own hierarchy
  mount -t tmpfs tmpfs sys/fs/cgroup
  mkdir sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
ip link set lo up
mkdir run/host
pivot_root . run/host
cd /
umount -l /run/host
mount --make-rshared / # as systemd does outside of containers: it mounts credentials so
exec env -i container=release-check /lib/systemd/systemd --log-target=console

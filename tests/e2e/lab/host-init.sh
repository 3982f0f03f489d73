#!/bin/bash
# The first process of a laboratory host, in its own namespaces (mount, pid, uts, ipc, network). It builds the
# host's root file system, enters it, and becomes tini over dockerd. The host writes only to files of its own. Of
# this machine it sees only /usr and /etc, copy on write. It does not see the operator's checkout and home, so a
# remote step that relies on them fails, as on a real host.
set -euo pipefail
folder=$1 name=$2
root=$folder/root

hostname "$name"
mkdir -p "$root"/{usr,etc,proc,sys,dev,run,tmp,old-root,root,home,mnt,opt,srv,models} \
  "$root"/var/{lib/docker,log,tmp,cache,spool} "$folder"/{usr,etc}-{upper,work}
ln -sfn /run "$root/var/run"
mount --bind "$root" "$root"
for top in usr etc; do
  mount -t overlay overlay -o "lowerdir=/$top,upperdir=$folder/$top-upper,workdir=$folder/$top-work" "$root/$top"
done
for link in bin sbin lib lib32 lib64 libx32; do
  [ -L "/$link" ] && ln -sfn "usr/$link" "$root/$link"
done
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
chmod 1777 "$root/var/tmp"
mkdir -p "$root/run/sshd" "$root/run/lock"
cp -a "$folder/seed/." "$root/"

cd "$root"
pivot_root . old-root
umount -l /old-root

export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
unset SSH_AUTH_SOCK SSH_AGENT_PID XDG_RUNTIME_DIR DOCKER_HOST DOCKER_CONFIG
if [ -x /etc/lab/start ]; then /etc/lab/start >/var/log/start.log 2>&1; fi
if [ -f /etc/lab/sshd_config ]; then /usr/sbin/sshd -D -f /etc/lab/sshd_config -E /var/log/sshd.log & fi
exec tini -- dockerd --data-root /var/lib/docker --storage-driver overlay2 --shutdown-timeout 5 \
  --cgroup-parent "/$3" --exec-opt native.cgroupdriver=cgroupfs >>/var/log/dockerd.log 2>&1

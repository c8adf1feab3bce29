#!/bin/sh
# /init of the nested machine: loads KVM, enters the host's file system, and starts the runner.
# It runs from busybox; /modules and /xtask come in the same archive.
fail() {
    echo "nested machine: $*"
    poweroff -f
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

# In order of dependency. KVM must load; the others serve single tests.
for module in irqbypass kvm kvm-amd; do
    insmod /modules/$module.ko || fail "cannot load $module"
done
for module in tun overlay vsock vmw_vsock_virtio_transport_common vsock_loopback loop; do
    [ ! -e /modules/$module.ko ] || insmod /modules/$module.ko
done

# The host's root. Over it go the file systems which are this kernel's own, and memory where
# sockets and locks have to work.
mount -t virtiofs host /root || fail "cannot mount the host's root"
mount -t proc proc /root/proc
mount -t sysfs sysfs /root/sys
mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
mount -t devtmpfs devtmpfs /root/dev
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /root/dev/pts
mount -t tmpfs -o mode=1777 tmpfs /root/dev/shm
mount -t tmpfs -o mode=755 tmpfs /root/run || fail "cannot mount a tmpfs on /run"
# What the tmpfs mounts hide stays within reach.
mkdir /root/run/host
mount --bind /root /root/run/host
mount -t tmpfs -o mode=1777 tmpfs /root/tmp || fail "cannot mount a tmpfs on /tmp"
ln -s /proc/self/fd /root/dev/fd 2>/dev/null

chmod 660 /root/dev/kvm
chroot /root chgrp kvm /dev/kvm 2>/dev/null
ip link set lo up
hostname nested
cp /xtask /root/run/xtask || fail "cannot copy the runner"
umount /dev /sys /proc
exec switch_root /root /run/xtask kvm-runner

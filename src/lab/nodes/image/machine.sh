#!/usr/bin/env bash
# The first process of a machine: gives it a disk, a size and cgroups of its own, waits for its cable, and boots.
# Environment: MACHINE (its folder), IMAGE (what machines boot), NODE (scripts/node-tools.sh's folder), LAB (lowtide-lab), HOST (its name),
# ADDRESS, CPUS, MEMORY_MIB, and what boot.sh reads.
set -euo pipefail
say() { echo "$(date +%H:%M:%S.%3N) $*"; }
say "power on"
hostname "$HOST"
mount --make-rprivate /

# The disk: the host's root read-only below, whatever is written in memory above.
mount -t tmpfs -o mode=755 disk "$MACHINE/disk"
mkdir "$MACHINE"/disk/{changes,work,root}
root=$MACHINE/disk/root
mount -t overlay -o "lowerdir=/,upperdir=$MACHINE/disk/changes,workdir=$MACHINE/disk/work" root "$root"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t proc proc "$root/proc"
for folder in run tmp; do mount -t tmpfs -o mode=1777 "$folder" "$root/$folder"; done
chmod 755 "$root/run"
mkdir -p "$root"/opt/{image,node,machine} "$root"/var/lib/{kubelet,containerd} "$root"/var/log/{pods,containers}
# What the host itself may have there is none of the machine's.
rm -rf "$root"/etc/{kubernetes,cni,rancher,containerd,lowtide} "$root"/var/lib/{kubelet,containerd}/* "$root"/var/log/{pods,containers}/*
mount --bind "$IMAGE" "$root/opt/image"
mount --bind "$NODE" "$root/opt/node"
mount --bind "$MACHINE" "$root/opt/machine"
# Container file systems lie on overlays of their own, which want a plain one below.
for folder in kubelet containerd; do mkdir -p "$MACHINE/$folder"; mount --bind "$MACHINE/$folder" "$root/var/lib/$folder"; done
touch "$root/usr/local/bin/lowtide-lab"
mount --bind "$LAB" "$root/usr/local/bin/lowtide-lab"

# Its cgroups: what it sees as the root of each hierarchy is its own group.
if [[ $(stat -f -c %T /sys/fs/cgroup) == cgroup2fs ]]; then
    mount -t cgroup2 cgroup "$root/sys/fs/cgroup"
else
    mapfile -t hierarchies < <(awk -F: '$2 != "" { print $2 }' /proc/self/cgroup)
    mount -t tmpfs -o mode=755 cgroups "$root/sys/fs/cgroup"
    for controllers in "${hierarchies[@]}"; do
        folder=$root/sys/fs/cgroup/${controllers#name=}
        options=$controllers
        [[ $controllers != name=* ]] || options=none,$controllers
        mkdir "$folder"
        mount -t cgroup -o "$options" cgroup "$folder"
    done
fi

# Its size: kubelet reads cores from sysfs and memory from /proc/meminfo. With more cores than the host has, those above take ids that
# read as one of the host's (cpu00 is 0 to kubelet): it writes them into cpusets.
nodes=$root/sys/devices/system/node
mount -t tmpfs -o mode=755 size "$nodes"
mkdir -p "$nodes/node0/hugepages"
real=$(nproc)
for ((core = 0; core < CPUS; core++)); do
    zeros=$(printf '%*s' $((core / real)) '' | tr ' ' 0)
    topology=$nodes/node0/cpu$zeros$((core % real))/topology
    mkdir -p "$topology"
    echo "$core" >"$topology/core_id"
    echo 0 >"$topology/physical_package_id"
done
echo "Node 0 MemTotal: $((MEMORY_MIB * 1024)) kB" >"$nodes/node0/meminfo"
echo 10 >"$nodes/node0/distance"
sed "s/^MemTotal:.*/MemTotal:       $((MEMORY_MIB * 1024)) kB/" /proc/meminfo >"$MACHINE/meminfo"
mount --bind "$MACHINE/meminfo" "$root/proc/meminfo"

# The cable: the router's end gives the other one to this process.
for ((turn = 0; turn < 200; turn++)); do ip link show eth0 >/dev/null 2>&1 && break; sleep 0.05; done
ip link set lo up
ip addr add "$ADDRESS/32" dev eth0
ip link set eth0 up
ip route add 169.254.0.1 dev eth0 scope link
ip route add default via 169.254.0.1
sysctl -qw net.ipv4.ip_forward=1

mkdir -p "$root/old"
cd "$root"
pivot_root . old
umount -l /old
mount --make-rshared /
exec bash /opt/image/boot.sh

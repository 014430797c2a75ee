#!/usr/bin/env bash
# Switches a machine on: puts itself into the machine's cgroups and becomes `unshare`, whose child is the machine's first process.
# Killing `unshare` is the power cut: the kernel then kills whatever runs in there.
#   power-on.sh CGROUP     a path below every hierarchy, e.g. /lowtide-lab-42/ip-10-1-1-4
set -euo pipefail
group=$1
join() { mkdir -p "$1" && echo $$ >"$1/cgroup.procs"; }
if [[ $(stat -f -c %T /sys/fs/cgroup) == cgroup2fs ]]; then
    mkdir -p "/sys/fs/cgroup$group"
    for folder in /sys/fs/cgroup "/sys/fs/cgroup${group%/*}"; do echo "+cpu +cpuset +memory +pids +io" >"$folder/cgroup.subtree_control"; done
    join "/sys/fs/cgroup$group"
else
    # All of it at once: the file changes with every group that we enter.
    mapfile -t hierarchies < <(awk -F: '$2 != "" { print $2 }' /proc/self/cgroup)
    for controllers in "${hierarchies[@]}"; do
        hierarchy=/sys/fs/cgroup/${controllers#name=}
        if [[ $controllers == *cpuset* ]]; then
            # Without cores and memory no process may enter.
            for folder in "$hierarchy${group%/*}" "$hierarchy$group"; do
                mkdir -p "$folder"
                for what in cpus mems; do cat "$hierarchy/cpuset.$what" >"$folder/cpuset.$what"; done
            done
        fi
        join "$hierarchy$group"
    done
    awk -F: -v group="$group" '$2 != "" && $3 != group { print "not in the cgroup of the machine: " $0; missed = 1 } END { exit missed }' /proc/self/cgroup
fi
exec unshare --net --mount --pid --fork --uts --ipc --cgroup --kill-child bash "$(dirname "$0")/machine.sh"

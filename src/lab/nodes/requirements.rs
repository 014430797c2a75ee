//! What real machines need of the host, looked at before anything starts. Everything that is missing is said at once.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::tools::cache_folder;

/// Programs of the host that the lab starts.
const PROGRAMS: [&str; 8] = ["unshare", "setpriv", "ip", "mount", "pivot_root", "curl", "sysctl", "mountpoint"];
/// What `scripts/node-tools.sh` puts into its folder.
const NODE_FILES: [&str; 11] = [
    "bin/kubelet",
    "bin/kubeadm",
    "bin/kube-proxy",
    "bin/device-plugin",
    "workload.tar",
    "debian/usr/bin/containerd",
    "debian/usr/bin/containerd-shim-runc-v2",
    "debian/usr/sbin/runc",
    "debian/usr/sbin/nft",
    "debian/usr/lib/cni/ptp",
    "debian/usr/lib/cni/host-local",
];

/// Where `scripts/node-tools.sh` puts what it gets.
pub fn node_folder() -> PathBuf {
    cache_folder().join("node")
}

/// One sentence for each thing that is missing.
pub fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !cfg!(target_os = "linux") {
        return vec!["Linux: real machines are sets of its namespaces".to_owned()];
    }
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.starts_with(b"0\n"));
    if !root {
        missing.push("root: machines are made of namespaces, mounts and cgroups (`sudo make nodes`)".to_owned());
    }
    let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    for program in PROGRAMS {
        if !folders.iter().any(|folder| Path::new(folder).join(program).exists()) {
            missing.push(format!("the program {program} (Debian: apt-get install util-linux iproute2 procps curl)"));
        }
    }
    let folder = node_folder();
    for name in NODE_FILES {
        if !folder.join(name).exists() {
            missing.push(format!("{} (scripts/node-tools.sh gets it)", folder.join(name).display()));
        }
    }
    if root {
        // Both are refused in containers without CAP_SYS_ADMIN, and where cgroups are read-only.
        let tried = Command::new("unshare").args(["--net", "--mount", "--pid", "--fork", "--cgroup", "true"]).output();
        if !tried.is_ok_and(|output| output.status.success()) {
            missing.push("the right to make namespaces (CAP_SYS_ADMIN; in a container: --privileged)".to_owned());
        }
        let probe = Path::new("/sys/fs/cgroup").join(if Path::new("/sys/fs/cgroup/pids").is_dir() { "pids" } else { "" });
        let probe = probe.join(format!("lowtide-probe-{}", std::process::id()));
        if std::fs::create_dir(&probe).and_then(|()| std::fs::remove_dir(&probe)).is_err() {
            missing.push("cgroups that can be written to below /sys/fs/cgroup".to_owned());
        }
        let overlays = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if !overlays.contains("overlay") {
            missing.push("the file system overlay (modprobe overlay)".to_owned());
        }
    }
    missing
}

//! What surrounds real machines: what they boot from, and the cluster that they can join.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::authority::{self, Authority};
use super::hypervisor::Hypervisor;
use super::machine::BootDisk;
use super::{requirements, router};
use crate::lab::control_plane::ControlPlane;
use crate::lab::error::LabError;
use crate::lab::progress::Wait;
use crate::lab::workdir::Workdir;

/// What `image/` holds: name and text.
const FILES: [(&str, &str); 12] = [
    ("power-on.sh", include_str!("image/power-on.sh")),
    ("machine.sh", include_str!("image/machine.sh")),
    ("boot.sh", include_str!("image/boot.sh")),
    ("containerd.toml", include_str!("image/containerd.toml")),
    ("cni.conflist", include_str!("image/cni.conflist")),
    ("kube-proxy.yaml", include_str!("image/kube-proxy.yaml")),
    ("bin/systemctl", include_str!("image/bin/systemctl")),
    ("bin/aws", include_str!("image/bin/aws")),
    ("bin/kubeadm", include_str!("image/bin/kubeadm")),
    ("bin/nft", include_str!("image/bin/nft")),
    ("bin/runc", include_str!("image/bin/runc")),
    ("join-token", authority::JOIN_TOKEN),
];
/// Where machines find the cluster's authority without having joined.
const AUTHORITY_ON_MACHINES: &str = "/opt/image/ca.crt";

/// How real machines are played.
#[derive(Debug, Clone)]
pub struct RealMachines {
    /// From the kubelet's first word to the device plugin's: NVIDIA's is a pod, and comes late.
    pub gpus_after: Duration,
}

/// Gives the router its addresses and makes the certificates of the cluster.
pub fn found(workdir: &Workdir) -> Result<Authority, LabError> {
    let wait = Wait::begin("router and certificates");
    super::machine::sweep_cgroups(false);
    router::set_up()?;
    let authority = Authority::make(requirements::node_folder().join("bin/kubeadm"), workdir.path())?;
    wait.done("made by kubeadm");
    Ok(authority)
}

/// Writes what machines boot from, and into the cluster what they join by.
pub fn open(authority: &Authority, workdir: &Workdir, cluster: &ControlPlane, real: &RealMachines) -> Result<Hypervisor, LabError> {
    let wait = Wait::begin("what machines join by");
    authority.publish(cluster.admin_kubeconfig())?;
    let image = workdir.folder("image")?;
    workdir.folder("image/bin")?;
    for (name, text) in FILES {
        let path = workdir.write(&format!("image/{name}"), text)?;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).map_err(LabError::io(format!("making {} executable", path.display())))?;
    }
    let root = authority.root();
    let certificate = std::fs::read_to_string(&root).map_err(LabError::io(format!("reading {}", root.display())))?;
    workdir.write("image/ca.crt", &certificate)?;
    workdir.write("image/kubelet.yaml", &super::KUBELET_CONFIG.replace("@CA@", AUTHORITY_ON_MACHINES))?;
    let proxy = cluster.proxy_kubeconfig().replace(&root.display().to_string(), AUTHORITY_ON_MACHINES);
    workdir.write("image/kube-proxy.kubeconfig", &proxy)?;
    let lab = std::env::current_exe().map_err(LabError::io("finding the running program"))?;
    let disk = BootDisk { image, node: requirements::node_folder(), lab, machines: workdir.folder("machines")? };
    wait.done("configuration, token and rights, by kubeadm");
    Ok(Hypervisor::new(disk, real.gpus_after))
}

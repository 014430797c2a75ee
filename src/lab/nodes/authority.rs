//! The cluster's certificates and what kubeadm leaves in it, so that machines can join: all made by the real kubeadm.
//!
//! Decides: the cluster's address, networks and join token. Does not: start anything (see `control_plane`).

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::error::LabError;
use crate::lab::process::run;

/// Where the API server is, on the router.
pub const ADDRESS: &str = "172.30.0.1";
/// Its port.
pub const PORT: u16 = 6443;
/// How machines may join, as kubeadm writes such tokens. It opens nothing outside the lab's own network.
pub const JOIN_TOKEN: &str = "lowlab.0123456789abcdef";

/// Who signs what in the lab's cluster.
#[derive(Debug, Clone)]
pub struct Authority {
    kubeadm: PathBuf,
    /// Certificates and keys, named as kubeadm names them.
    pub certificates: PathBuf,
    folder: PathBuf,
    version: String,
}

impl Authority {
    /// Makes all certificates of a cluster of kubeadm's own version below `folder`.
    pub fn make(kubeadm: PathBuf, folder: &Path) -> Result<Authority, LabError> {
        let version = run(Command::new(&kubeadm).args(["version", "-o", "short"]))?.trim().to_owned();
        let authority = Authority { kubeadm, certificates: folder.join("pki"), folder: folder.to_owned(), version };
        let here = authority.config("certificates.yaml", Some(&authority.certificates))?;
        for what in ["ca", "apiserver", "apiserver-kubelet-client", "sa"] {
            authority.phase(&["certs", what], &here, None)?;
        }
        Ok(authority)
    }

    /// Writes into the cluster what `kubeadm join` reads: its configuration, the kubelet's, the join token, and what its bearer may do.
    pub fn publish(&self, admin_kubeconfig: &Path) -> Result<(), LabError> {
        let config = self.config("cluster.yaml", None)?;
        for phase in [["upload-config", "kubeadm"].as_slice(), &["upload-config", "kubelet"], &["bootstrap-token"]] {
            self.phase(phase, &config, Some(admin_kubeconfig))?;
        }
        Ok(())
    }

    /// The hash of the authority's key, as `kubeadm join` wants it: asked of kubeadm, which prints it with a token for others.
    pub fn hash(kubeadm: &Path, admin_kubeconfig: &Path) -> Result<String, LabError> {
        let mut command = Command::new(kubeadm);
        command.args(["token", "create", "--print-join-command", "--kubeconfig"]).arg(admin_kubeconfig);
        let printed = run(&mut command)?;
        let found = printed.split_whitespace().find(|word| word.starts_with("sha256:")).map(str::to_owned);
        found.ok_or_else(|| LabError::Unreadable {
            what: "kubeadm token create --print-join-command".into(),
            expected: "a hash that begins with sha256:".into(),
            found: printed.clone(),
        })
    }

    /// The certificate that signs all others.
    pub fn root(&self) -> PathBuf {
        self.certificates.join("ca.crt")
    }

    fn phase(&self, phase: &[&str], config: &Path, kubeconfig: Option<&Path>) -> Result<(), LabError> {
        let mut command = Command::new(&self.kubeadm);
        command.args(["init", "phase"]).args(phase).arg("--config").arg(config);
        // The address of a proxy is none of the lab's.
        command.env_remove("HTTPS_PROXY").env_remove("https_proxy");
        if let Some(path) = kubeconfig {
            command.arg("--kubeconfig").arg(path);
        }
        run(&mut command).map(drop)
    }

    /// kubeadm's configuration. Machines find the authority where kubeadm puts it by default, so only we keep it elsewhere.
    fn config(&self, name: &str, certificates: Option<&Path>) -> Result<PathBuf, LabError> {
        let folder = certificates.map(|path| format!("certificatesDir: {}\n", path.display())).unwrap_or_default();
        let kubelet = super::KUBELET_CONFIG.replace("  x509: {clientCAFile: @CA@}\n", "");
        let text = format!(
            "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nlocalAPIEndpoint: {{advertiseAddress: {ADDRESS}, bindPort: {PORT}}}\n\
             nodeRegistration: {{name: control-plane, criSocket: unix:///run/containerd/containerd.sock}}\n\
             bootstrapTokens: [{{token: {JOIN_TOKEN}, ttl: 24h}}]\n---\n\
             apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: {version}\n\
             controlPlaneEndpoint: {ADDRESS}:{PORT}\nnetworking: {{serviceSubnet: 10.96.0.0/16, podSubnet: 10.244.0.0/16}}\n{folder}---\n{kubelet}",
            version = self.version,
        );
        let path = self.folder.join(name);
        std::fs::write(&path, text).map_err(LabError::io(format!("writing {}", path.display())))?;
        Ok(path)
    }
}

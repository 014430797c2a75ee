//! Credentials for the lab's API server: kubeconfig files for kubectl, Helm and the operator, and clients for the lab itself.

use std::path::{Path, PathBuf};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::error::LabError;

/// Where the API server is and how it is believed.
#[derive(Debug, Clone)]
pub struct ApiServer {
    /// As in `https://127.0.0.1:41234`.
    pub url: String,
    /// The certificate chain that the server made for itself.
    pub certificate: PathBuf,
}

impl ApiServer {
    /// A kubeconfig for the bearer of `token`.
    pub fn kubeconfig(&self, user: &str, token: &str) -> String {
        let (url, certificate) = (&self.url, self.certificate.display());
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: lab\n\
             clusters:\n- name: lab\n  cluster: {{server: \"{url}\", certificate-authority: \"{certificate}\"}}\n\
             users:\n- name: \"{user}\"\n  user: {{token: \"{token}\"}}\n\
             contexts:\n- name: lab\n  context: {{cluster: lab, user: \"{user}\"}}\n"
        )
    }
}

/// A client from a kubeconfig file; with `node`, one that speaks as that node's kubelet (impersonation by an admin).
pub async fn client(kubeconfig: &Path, node: Option<&str>) -> Result<Client, LabError> {
    let unreadable = |found: String| LabError::Unreadable {
        what: kubeconfig.display().to_string(),
        expected: "a kubeconfig that reaches the lab's API server".to_owned(),
        found,
    };
    let parsed = Kubeconfig::read_from(kubeconfig).map_err(|fault| unreadable(fault.to_string()))?;
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(parsed, &options).await.map_err(|fault| unreadable(fault.to_string()))?;
    if let Some(node) = node {
        config.auth_info.impersonate = Some(format!("system:node:{node}"));
        config.auth_info.impersonate_groups = Some(vec!["system:nodes".to_owned(), "system:authenticated".to_owned()]);
    }
    Client::try_from(config).map_err(LabError::kube("making a client"))
}

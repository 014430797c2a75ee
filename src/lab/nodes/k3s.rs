//! How k3s reads its configuration: `config.yaml`, then `config.yaml.d/*.yaml` in order; a key that ends in `+` appends.
//!
//! Source: docs.k3s.io, "Configuration Options", multiple config files. k3s' agent embeds the kubelet; here the kubelet is a program of its
//! own, which joins with the same token by TLS bootstrap: k3s' own protocol of joining is not played.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::lab::error::LabError;

const FOLDER: &str = "/etc/rancher/k3s";
const BOOTSTRAP: &str = "/run/k3s-bootstrap.kubeconfig";
/// The cluster's authority: in k3s' own joining, the token carries its hash.
const AUTHORITY: &str = "/opt/image/ca.crt";

type Settings = BTreeMap<String, Vec<String>>;

/// Reads the files that user data wrote, writes the credentials that the token stands for, and gives the kubelet's arguments.
pub fn arguments() -> Result<Vec<String>, LabError> {
    let mut settings = Settings::new();
    for path in files(Path::new(FOLDER))? {
        let text = std::fs::read_to_string(&path).map_err(LabError::io(format!("reading {}", path.display())))?;
        merge(&mut settings, &text, &path.display().to_string())?;
    }
    let one = |key: &str| {
        settings.get(key).and_then(|values| values.last()).ok_or_else(|| LabError::Unreadable {
            what: FOLDER.into(),
            expected: format!("the setting {key}"),
            found: "none".into(),
        })
    };
    let token_file = one("token-file")?;
    let token = std::fs::read_to_string(token_file).map_err(LabError::io(format!("reading {token_file}")))?;
    let (server, token) = (one("server")?, token.trim());
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: k3s\nclusters: [{{name: k3s, cluster: {{server: \"{server}\", certificate-authority: {AUTHORITY}}}}}]\n\
         users: [{{name: k3s, user: {{token: \"{token}\"}}}}]\ncontexts: [{{name: k3s, context: {{cluster: k3s, user: k3s}}}}]\n"
    );
    std::fs::write(BOOTSTRAP, kubeconfig).map_err(LabError::io(format!("writing {BOOTSTRAP}")))?;
    Ok(kubelet(&settings))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, LabError> {
    let further = folder.join("config.yaml.d");
    let mut found: Vec<PathBuf> = match std::fs::read_dir(&further) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect(),
        Err(_) => Vec::new(),
    };
    found.sort();
    found.insert(0, folder.join("config.yaml"));
    Ok(found)
}

fn merge(settings: &mut Settings, text: &str, what: &str) -> Result<(), LabError> {
    let read: BTreeMap<String, Value> = serde_saphyr::from_str(text).map_err(|fault| LabError::Unreadable {
        what: what.to_owned(),
        expected: "YAML of k3s' settings".into(),
        found: fault.to_string(),
    })?;
    for (key, value) in read {
        let values = match value {
            Value::Array(values) => values.iter().map(plain).collect(),
            value => vec![plain(&value)],
        };
        match key.strip_suffix('+') {
            Some(key) => settings.entry(key.to_owned()).or_default().extend(values),
            None => drop(settings.insert(key, values)),
        }
    }
    Ok(())
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The arguments that k3s gives its kubelet.
fn kubelet(settings: &Settings) -> Vec<String> {
    let list = |key: &str| settings.get(key).cloned().unwrap_or_default();
    let mut arguments: Vec<String> = list("kubelet-arg").iter().map(|text| format!("--{text}")).collect();
    for (key, flag) in [("node-label", "node-labels"), ("node-taint", "register-with-taints")] {
        let values = list(key);
        if !values.is_empty() {
            arguments.push(format!("--{flag}={}", values.join(",")));
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_files_replace_or_append() {
        let mut settings = Settings::new();
        merge(&mut settings, "server: https://a\nnode-label: [a=1]\nkubelet-arg: [max-pods=20]\n", "one").unwrap();
        merge(&mut settings, "server: https://b\nnode-label+: [b=2]\nkubelet-arg+: [provider-id=x]\n", "two").unwrap();
        assert_eq!(settings["server"], ["https://b"]);
        assert_eq!(kubelet(&settings), ["--max-pods=20", "--provider-id=x", "--node-labels=a=1,b=2"]);
    }
}

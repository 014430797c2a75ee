//! Reads the user data that a machine was really launched with, as cloud-init would.
//!
//! Understood: `#cloud-config` whose `write_files` carry k3s' `/etc/rancher/k3s/config.yaml`. Anything else is a machine that boots
//! and never joins, and the reason is reported.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The path of k3s' configuration, by its documentation.
const K3S_CONFIG: &str = "/etc/rancher/k3s/config.yaml";

/// What a machine does to join, as its user data says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bootstrap {
    /// The API server to join.
    pub server: String,
    /// Labels its kubelet registers with.
    pub labels: BTreeMap<String, String>,
    /// Labels whose values are variables of the join script, e.g. `$INSTANCE`.
    pub instance_labels: BTreeMap<String, String>,
    /// Kubelet arguments with such variables, as `provider-id=...`.
    pub instance_arguments: Vec<String>,
    /// Taints its kubelet registers with.
    pub taints: Vec<Taint>,
    /// Further kubelet arguments, e.g. `register-node=true`.
    pub kubelet_arguments: Vec<String>,
}

/// A taint as kubelets take it: `key=value:Effect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value; may be empty.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// Why a machine with this user data never joins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserDataFault {
    /// There is none.
    #[error("the machine was launched without user data")]
    Missing,
    /// Not a form that is understood.
    #[error("user data is neither #cloud-config nor base64 of it; it begins {0:?}")]
    UnknownForm(String),
    /// Broken YAML.
    #[error("{what} is not the YAML expected: {fault}")]
    Yaml {
        /// Which document.
        what: &'static str,
        /// Where and what.
        fault: String,
    },
    /// The bootstrap's configuration is not among the files.
    #[error("no write_files entry has path {K3S_CONFIG}")]
    NoConfig,
    /// A label or taint that a kubelet refuses.
    #[error("{kind} {text:?} is not of the form {form}")]
    BadItem {
        /// `node-label` or `node-taint`.
        kind: &'static str,
        /// As written.
        text: String,
        /// As it must be.
        form: &'static str,
    },
}

#[derive(Deserialize)]
struct CloudConfig {
    #[serde(default)]
    write_files: Vec<WrittenFile>,
}

#[derive(Deserialize)]
struct WrittenFile {
    path: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    encoding: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct K3sConfig {
    server: String,
    #[serde(default)]
    node_label: Vec<String>,
    #[serde(default)]
    node_taint: Vec<String>,
    #[serde(default)]
    kubelet_arg: Vec<String>,
}

/// What the join script adds once the machine knows what it is, with the script's variables (`$INSTANCE`, `$ZONE`) as they stand.
#[derive(Default, Deserialize)]
struct InstanceConfig {
    #[serde(default, rename = "node-label+")]
    node_label: Vec<String>,
    #[serde(default, rename = "kubelet-arg+")]
    kubelet_arg: Vec<String>,
}

/// The document that a script writes to `config.yaml.d` by a here-document.
fn of_instance(script: &str) -> Option<&str> {
    let (_, rest) = script.split_once("config.yaml.d/50-instance.yaml <<EOF\n")?;
    rest.split_once("\nEOF").map(|(document, _)| document)
}

/// Reads user data, plain or base64 (as EC2 carries it).
pub fn parse(user_data: &str) -> Result<Bootstrap, UserDataFault> {
    let text = plain(user_data)?;
    let cloud: CloudConfig = yaml("user data", &text)?;
    let file = cloud.write_files.iter().find(|file| file.path == K3S_CONFIG).ok_or(UserDataFault::NoConfig)?;
    let content = match file.encoding.as_deref() {
        Some("b64" | "base64") => decoded(&file.content)?,
        _ => file.content.clone(),
    };
    let config: K3sConfig = yaml("k3s' config.yaml", &content)?;
    let of_instance = match cloud.write_files.iter().find_map(|file| of_instance(&file.content)) {
        Some(text) => yaml("k3s' 50-instance.yaml", text)?,
        None => InstanceConfig::default(),
    };
    Ok(Bootstrap {
        instance_labels: of_instance.node_label.iter().map(|text| label(text)).collect::<Result<_, _>>()?,
        instance_arguments: of_instance.kubelet_arg,
        server: config.server,
        labels: config.node_label.iter().map(|text| label(text)).collect::<Result<_, _>>()?,
        taints: config.node_taint.iter().map(|text| taint(text)).collect::<Result<_, _>>()?,
        kubelet_arguments: config.kubelet_arg,
    })
}

fn plain(user_data: &str) -> Result<String, UserDataFault> {
    if user_data.trim().is_empty() {
        return Err(UserDataFault::Missing);
    }
    let text = if user_data.starts_with('#') { user_data.to_owned() } else { decoded(user_data)? };
    if text.starts_with("#cloud-config") { Ok(text) } else { Err(UserDataFault::UnknownForm(beginning(&text))) }
}

fn decoded(text: &str) -> Result<String, UserDataFault> {
    let compact: String = text.split_whitespace().collect();
    let bytes = aws_smithy_types::base64::decode(compact).map_err(|_| UserDataFault::UnknownForm(beginning(text)))?;
    String::from_utf8(bytes).map_err(|_| UserDataFault::UnknownForm(beginning(text)))
}

fn beginning(text: &str) -> String {
    text.chars().take(40).collect()
}

fn yaml<T: for<'de> Deserialize<'de>>(what: &'static str, text: &str) -> Result<T, UserDataFault> {
    serde_saphyr::from_str(text).map_err(|fault| UserDataFault::Yaml { what, fault: fault.to_string() })
}

fn label(text: &str) -> Result<(String, String), UserDataFault> {
    let bad = || UserDataFault::BadItem { kind: "node-label", text: text.to_owned(), form: "key=value" };
    let (key, value) = text.split_once('=').ok_or_else(bad)?;
    if key.is_empty() { Err(bad()) } else { Ok((key.to_owned(), value.to_owned())) }
}

fn taint(text: &str) -> Result<Taint, UserDataFault> {
    let bad =
        || UserDataFault::BadItem { kind: "node-taint", text: text.to_owned(), form: "key[=value]:NoSchedule|PreferNoSchedule|NoExecute" };
    let (name, effect) = text.rsplit_once(':').ok_or_else(bad)?;
    let (key, value) = name.split_once('=').unwrap_or((name, ""));
    if key.is_empty() || !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        return Err(bad());
    }
    Ok(Taint { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = "#cloud-config\n\
        write_files:\n\
        - path: /etc/rancher/k3s/config.yaml\n\
        \x20 permissions: '0600'\n\
        \x20 content: |\n\
        \x20   server: https://10.0.0.10:6443\n\
        \x20   token-file: /etc/rancher/k3s/token\n\
        \x20   node-label:\n\
        \x20   - lowtide.dev/pool=gpu\n\
        \x20   node-taint: ['nvidia.com/gpu=:NoSchedule', 'lowtide.dev/unregistered:NoExecute']\n\
        runcmd: [[sh, -c, 'curl -sfL https://get.k3s.io | sh -s - agent']]\n";

    #[test]
    fn cloud_config_is_read_plain_and_in_base64() {
        let bootstrap = parse(SENT).unwrap();
        assert_eq!(bootstrap.server, "https://10.0.0.10:6443");
        assert_eq!(bootstrap.labels, BTreeMap::from([("lowtide.dev/pool".to_owned(), "gpu".to_owned())]));
        let taints: Vec<_> = bootstrap.taints.iter().map(|t| (t.key.as_str(), t.value.as_str(), t.effect.as_str())).collect();
        assert_eq!(taints, [("nvidia.com/gpu", "", "NoSchedule"), ("lowtide.dev/unregistered", "", "NoExecute")]);
        assert_eq!(parse(&aws_smithy_types::base64::encode(SENT)).unwrap(), bootstrap);
    }

    #[test]
    fn what_no_cloud_init_would_join_with_is_reported() {
        assert_eq!(parse(""), Err(UserDataFault::Missing));
        assert!(matches!(parse("#!/bin/sh\ntrue\n"), Err(UserDataFault::UnknownForm(_))));
        assert_eq!(parse("#cloud-config\nwrite_files: []\n"), Err(UserDataFault::NoConfig));
        let bad = SENT.replace(":NoSchedule", ":Sometimes");
        assert!(parse(&bad).unwrap_err().to_string().contains("node-taint \"nvidia.com/gpu=:Sometimes\""));
    }
}

//! Bottlerocket's settings, as TOML.
//!
//! Source: Bottlerocket's settings reference, `settings.kubernetes` and `settings.bootstrap-commands`. It has no setting for how often a
//! node's status is sent: GPUs are seen up to 10 s later than elsewhere.

use super::super::api::node_class::GpuNodeClassSpec;
use super::super::api::node_settings::Reserved;
use super::super::names;
use super::{UserDataError, needed, reserved_list, sharing_label, taints};
use crate::core::units::ids::ClassName;

/// Kubelet and container runtime on the machine's instance store, all its disks as one; does nothing where there is none.
const INSTANCE_STORE: &str = "\n[settings.bootstrap-commands.lowtide-instance-store]\n\
commands = [[\"apiclient\", \"ephemeral-storage\", \"init\"], \
[\"apiclient\", \"ephemeral-storage\", \"bind\", \"--dirs\", \"/var/lib/containerd\", \"/var/lib/kubelet\", \"/var/log/pods\"]]\n\
mode = \"always\"\nessential = true\n";

/// Text as TOML writes it: its escapes are those of JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The settings of a class.
pub(super) fn write(class: &ClassName, spec: &GpuNodeClassSpec) -> Result<String, UserDataError> {
    let extra = |key: &str, field| needed(class, field, spec.bootstrap.extra.get(key).map(String::as_str));
    let kubelet = spec.kubelet.clone().unwrap_or_default();
    let mut text = String::from("[settings.kubernetes]\n");
    let mut line = |key: &str, value: String| text.push_str(&format!("{key} = {value}\n"));
    line("api-server", quoted(&spec.bootstrap.server_url));
    line("cluster-name", quoted(extra("clusterName", "extra.clusterName")?));
    line("cluster-certificate", quoted(extra("certificateAuthority", "extra.certificateAuthority")?));
    if let Some(address) = spec.bootstrap.extra.get("clusterDnsIp") {
        line("cluster-dns-ip", quoted(address));
    }
    if let Some(most) = kubelet.max_pods {
        line("max-pods", most.to_string());
    }
    let percents = [("high", kubelet.image_gc_high_threshold_percent), ("low", kubelet.image_gc_low_threshold_percent)];
    for (which, percent) in percents.into_iter().filter_map(|(which, percent)| Some((which, percent?))) {
        line(&format!("image-gc-{which}-threshold-percent"), quoted(&percent.to_string()));
    }
    let ours = [(names::NODE_CLASS.to_owned(), class.to_string())].into_iter();
    let shared = sharing_label(spec).map(|(key, value)| (key.to_owned(), value));
    let labels = ours.chain(shared).chain(spec.labels.clone());
    text.push_str(&table("node-labels", labels.map(|(key, value)| (key, quoted(&value)))));
    let taints =
        taints(spec).into_iter().map(|taint| (taint.key, format!("[{}]", quoted(&format!("{}:{}", taint.value, taint.effect.word())))));
    text.push_str(&table("node-taints", taints));
    for (name, reserved) in [("kube-reserved", &kubelet.kube_reserved), ("system-reserved", &kubelet.system_reserved)] {
        let kept =
            |reserved: &Reserved| reserved_list(reserved).into_iter().map(|(what, amount)| (what.to_owned(), quoted(&amount))).collect();
        let kept: Vec<(String, String)> = reserved.as_ref().map(kept).unwrap_or_default();
        if !kept.is_empty() {
            text.push_str(&table(name, kept.into_iter()));
        }
    }
    text.push_str(INSTANCE_STORE);
    Ok(text)
}

fn table(name: &str, rows: impl Iterator<Item = (String, String)>) -> String {
    let rows: String = rows.map(|(key, value)| format!("{} = {value}\n", quoted(&key))).collect();
    format!("\n[settings.kubernetes.{name}]\n{rows}")
}

//! The user data of a node class: how a machine becomes a node of this cluster.
//!
//! Decides: which files a machine finds at boot, and which labels its node gets.
//! Does not: know any claim. Nothing here differs between machines of a class, so one launch template serves all of them; a machine learns
//! what it is (instance id, zone) from the instance metadata service (IMDSv2) when it boots.
//!
//! Forms, all machine-readable:
//! - k3s: `#cloud-config` that writes `/etc/rancher/k3s/config.yaml`, and a script that adds
//!   `/etc/rancher/k3s/config.yaml.d/50-instance.yaml` (labels `lowtide.dev/instance-id`, `topology.kubernetes.io/zone`,
//!   `topology.k8s.aws/zone-id` and `node.kubernetes.io/instance-type`, and
//!   `provider-id=lowtide://<region>/<zone id>/lt-<instance id>`) before k3s starts. The last segment must not begin with `i-`: the
//!   cloud controller manager of AWS deletes nodes of other VPCs that look like its own.
//! - kubeadm: `#cloud-config` that writes a `JoinConfiguration`, and a script that fills in the same.
//! - eks: a `NodeConfig` for nodeadm, which sets provider id and zone itself; with a script of the class's own, as MIME multipart.
//! - bottlerocket: its settings, as TOML ([`bottlerocket`]).
//!
//! The join token is never in user data: machines read it from SSM with their instance profile.

mod bottlerocket;

use serde_json::{Value, json};

use super::api::node_class::{BootstrapKind, GpuNodeClassSpec};
use super::api::node_settings::{KubeletSettings, NodeTaint, Reserved, TaintEffect};
use super::names;
use crate::core::units::ids::ClassName;
use crate::core::workload::need::constraints::{TYPE, ZONE_ID};

/// Where k3s reads its configuration.
pub const K3S_CONFIG: &str = "/etc/rancher/k3s/config.yaml";
const K3S_TOKEN: &str = "/etc/rancher/k3s/lowtide-token";
/// Keys of k3s' configuration that are lists.
const LISTS: [&str; 4] = ["kubelet-arg", "kube-proxy-arg", "node-label", "node-taint"];
const KUBEADM_CONFIG: &str = "/etc/lowtide/join.yaml";
/// How often the kubelet checks whether its node's status changed. NVIDIA's device plugin registers after the kubelet's first report, and
/// with the default of 10 s the GPUs, and all that waits for them, are seen up to 10 s late.
const STATUS_EVERY: &str = "2s";
/// Puts the kubelet's directory on the machine's instance store, if there is one: disk that pods request is counted against it. The
/// container runtime stays where the image put it, so that baked-in images are found.
const INSTANCE_STORE: &str = "set -- $(for D in /dev/disk/by-id/nvme-Amazon_EC2_NVMe_Instance_Storage_*; do [ -e \"$D\" ] && readlink -f \"$D\"; done | sort -u)\n\
if [ $# -gt 0 ] && ! mountpoint -q /var/lib/kubelet; then\n\
DISK=$1\n\
if [ $# -gt 1 ] && command -v mdadm >/dev/null; then mdadm --create /dev/md/lowtide --run --level=0 --raid-devices=$# \"$@\" && DISK=/dev/md/lowtide; fi\n\
mkfs.ext4 -q -F \"$DISK\" && mkdir -p /var/lib/kubelet && mount \"$DISK\" /var/lib/kubelet\n\
fi\n";
const JOIN_SCRIPT: &str = "/usr/local/sbin/lowtide-join";
const BEFORE_SCRIPT: &str = "/usr/local/sbin/lowtide-before";
const AFTER_SCRIPT: &str = "/usr/local/sbin/lowtide-after";
/// Between the parts of a MIME multipart document: never a line of a script or of YAML that we write.
const BOUNDARY: &str = "==lowtide-user-data==";

/// Taints that every node of ours registers with: no pod is scheduled there before the operator has found the claim, and then only that
/// claim's pods. Kubelets may not change their taints afterwards (NodeRestriction).
const TAINTS: [(&str, &str); 2] = [(super::api::words::GPU_RESOURCE, "present"), (names::CLAIM_TAINT, names::NO_CLAIM)];

/// Why no user data can be written for a class.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserDataError {
    /// A field that the bootstrap kind requires is not set.
    #[error("GpuNodeClass {class}: spec.bootstrap.{field} is required for this bootstrap kind; set it")]
    Missing {
        /// The class.
        class: ClassName,
        /// The field.
        field: &'static str,
    },
    /// A label's value that no kubelet would register with.
    #[error(
        "GpuNodeClass {class}: spec.labels[{key}] is {value:?}; a label's value has letters, digits, -, _ and ., and begins and ends with a letter or digit"
    )]
    Label {
        /// The class.
        class: ClassName,
        /// The label.
        key: String,
        /// Its value.
        value: String,
    },
    /// The document could not be written as YAML.
    #[error("GpuNodeClass {class}: its user data could not be written as YAML: {fault}")]
    Yaml {
        /// The class.
        class: ClassName,
        /// What the writer said.
        fault: String,
    },
}

/// The user data of `class`, plain text.
///
/// # Errors
/// When a field that its bootstrap kind needs is not set.
pub fn write(class: &ClassName, spec: &GpuNodeClassSpec) -> Result<String, UserDataError> {
    if let Some((key, value)) = spec.labels.iter().find(|(_, value)| !is_label_value(value)) {
        return Err(UserDataError::Label { class: class.clone(), key: key.clone(), value: value.clone() });
    }
    match spec.bootstrap.kind {
        BootstrapKind::K3s => k3s(class, spec),
        BootstrapKind::Kubeadm => kubeadm(class, spec),
        BootstrapKind::Eks => eks(class, spec),
        BootstrapKind::Bottlerocket => bottlerocket::write(class, spec),
    }
}

fn k3s(class: &ClassName, spec: &GpuNodeClassSpec) -> Result<String, UserDataError> {
    let token = needed(class, "tokenParameter", spec.bootstrap.token_parameter.as_deref())?;
    // The class's own settings come first: they must not override what makes the node ours.
    let extra = |(key, value): (&String, &String)| (key.clone(), if LISTS.contains(&key.as_str()) { json!([value]) } else { json!(value) });
    let mut config: serde_json::Map<String, Value> = spec.bootstrap.extra.iter().map(extra).collect();
    let own_labels = spec.bootstrap.extra.get("node-label").cloned();
    config.insert("server".into(), json!(spec.bootstrap.server_url));
    config.insert("token-file".into(), json!(K3S_TOKEN));
    config.insert("node-label".into(), json!(labels(class, spec).into_iter().chain(own_labels).collect::<Vec<_>>()));
    let own_taints = spec.bootstrap.extra.get("node-taint").cloned();
    config.insert("node-taint".into(), json!(taints(spec).iter().map(taint_text).chain(own_taints).collect::<Vec<_>>()));
    let arguments: Vec<String> = kubelet_flags(spec).into_iter().map(|(flag, value)| format!("{flag}={value}")).collect();
    if !arguments.is_empty() {
        let own_arguments = spec.bootstrap.extra.get("kubelet-arg").cloned();
        config.insert("kubelet-arg".into(), json!(arguments.into_iter().chain(own_arguments).collect::<Vec<_>>()));
    }
    let config = yaml(class, &Value::Object(config))?;
    let script = format!(
        "{head}umask 077\n{token} > {K3S_TOKEN}\n\
         mkdir -p /etc/rancher/k3s/config.yaml.d\n\
         cat > /etc/rancher/k3s/config.yaml.d/50-instance.yaml <<EOF\n\
         node-label+:\n- {instance}=$INSTANCE\n- {zone}=$ZONE\n- {zone_id}=$ZONE\n- {kind}=$TYPE\n\
         kubelet-arg+:\n- provider-id=lowtide://$REGION/$ZONE/lt-$INSTANCE\n- node-status-update-frequency={STATUS_EVERY}\nEOF\n\
         {INSTANCE_STORE}systemctl enable --now k3s-agent\n",
        head = metadata_script(),
        token = read_token(token),
        instance = names::INSTANCE_ID,
        zone = names::ZONE,
        zone_id = ZONE_ID,
        kind = TYPE,
    );
    cloud_config(class, spec, (K3S_CONFIG, &config), &script)
}

fn kubeadm(class: &ClassName, spec: &GpuNodeClassSpec) -> Result<String, UserDataError> {
    let token = needed(class, "tokenParameter", spec.bootstrap.token_parameter.as_deref())?;
    let hash = needed(class, "extra.caCertHash", spec.bootstrap.extra.get("caCertHash").map(String::as_str))?;
    let node_labels = labels(class, spec).join(",");
    let instance = names::INSTANCE_ID;
    let node_labels = format!("{node_labels},{instance}=@INSTANCE@,{}=@ZONE@,{ZONE_ID}=@ZONE@,{TYPE}=@TYPE@", names::ZONE);
    let of_every = [
        ("node-labels", node_labels),
        ("provider-id", "lowtide://@REGION@/@ZONE@/lt-@INSTANCE@".to_owned()),
        ("node-status-update-frequency", STATUS_EVERY.to_owned()),
    ];
    let arguments: Vec<Value> =
        of_every.into_iter().chain(kubelet_flags(spec)).map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let config = yaml(
        class,
        &json!({
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "JoinConfiguration",
            "discovery": { "bootstrapToken": {
                "apiServerEndpoint": spec.bootstrap.server_url.trim_start_matches("https://"),
                "token": "@TOKEN@",
                "caCertHashes": [hash],
            } },
            "nodeRegistration": { "taints": taints(spec), "kubeletExtraArgs": arguments },
        }),
    )?;
    let script = format!(
        "{head}umask 077\nTOKEN=$({token})\n\
         sed -i -e \"s|@TOKEN@|$TOKEN|\" -e \"s|@INSTANCE@|$INSTANCE|g\" -e \"s|@ZONE@|$ZONE|g\" -e \"s|@REGION@|$REGION|g\" -e \"s|@TYPE@|$TYPE|g\" {KUBEADM_CONFIG}\n\
         {INSTANCE_STORE}kubeadm join --config {KUBEADM_CONFIG}\n",
        head = metadata_script(),
        token = read_token(token),
    );
    cloud_config(class, spec, (KUBEADM_CONFIG, &config), &script)
}

fn eks(class: &ClassName, spec: &GpuNodeClassSpec) -> Result<String, UserDataError> {
    let mut eks_labels = vec![format!("{}={class}", names::NODE_CLASS)];
    eks_labels.extend(sharing_label(spec).map(|(key, value)| format!("{key}={value}")));
    eks_labels.extend(spec.labels.iter().map(|(key, value)| format!("{key}={value}")));
    let registered: Vec<String> = taints(spec).iter().map(taint_text).collect();
    let mut kubelet = json!({ "flags": [
        format!("--node-labels={}", eks_labels.join(",")),
        format!("--node-status-update-frequency={STATUS_EVERY}"),
        format!("--register-with-taints={}", registered.join(",")),
    ] });
    if let Some(config) = spec.kubelet.as_ref().map(kubelet_config).filter(|config| !config.is_empty()) {
        kubelet["config"] = Value::Object(config);
    }
    let extra = |key: &str, field| needed(class, field, spec.bootstrap.extra.get(key).map(String::as_str));
    let config = yaml(
        class,
        &json!({
            "apiVersion": "node.eks.aws/v1alpha1",
            "kind": "NodeConfig",
            "spec": {
                "cluster": {
                    "name": extra("clusterName", "extra.clusterName")?,
                    "apiServerEndpoint": spec.bootstrap.server_url,
                    "certificateAuthority": extra("certificateAuthority", "extra.certificateAuthority")?,
                    "cidr": extra("serviceCidr", "extra.serviceCidr")?,
                },
                // There the cloud provider sets region and zone labels.
                "kubelet": kubelet,
                "instance": { "localStorage": { "strategy": "RAID0" } },
            },
        }),
    )?;
    // nodeadm joins after all scripts of user data have run.
    Ok(match spec.user_data.as_ref().and_then(|own| own.before.as_ref()) {
        None => config,
        Some(before) => multipart(&[("text/x-shellscript; charset=\"us-ascii\"", before), ("application/node.eks.aws", &config)]),
    })
}

/// A MIME multipart document of these parts: content type and text.
fn multipart(parts: &[(&str, &str)]) -> String {
    let head = format!("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"{BOUNDARY}\"\n");
    let body: String = parts.iter().map(|(kind, text)| format!("\n--{BOUNDARY}\nContent-Type: {kind}\n\n{text}\n")).collect();
    format!("{head}{body}\n--{BOUNDARY}--\n")
}

/// The taints that a node registers with: ours, the class's, and those it starts with.
fn taints(spec: &GpuNodeClassSpec) -> Vec<NodeTaint> {
    let ours = TAINTS.map(|(key, value)| NodeTaint { key: key.to_owned(), value: value.to_owned(), effect: TaintEffect::NoSchedule });
    ours.into_iter().chain(spec.taints.iter().cloned()).chain(spec.startup_taints.iter().cloned()).collect()
}

/// As kubelets take it on the command line.
fn taint_text(taint: &NodeTaint) -> String {
    format!("{}={}:{}", taint.key, taint.value, taint.effect.word())
}

/// The kubelet's settings as command line arguments, without `--`.
fn kubelet_flags(spec: &GpuNodeClassSpec) -> Vec<(&'static str, String)> {
    let Some(kubelet) = &spec.kubelet else { return Vec::new() };
    let kept = |reserved: &Option<Reserved>| reserved.as_ref().map(reserved_list).filter(|list| !list.is_empty());
    let list = |pairs: Vec<(&str, String)>| pairs.iter().map(|(what, amount)| format!("{what}={amount}")).collect::<Vec<_>>().join(",");
    let all = [
        ("max-pods", kubelet.max_pods.map(|most| most.to_string())),
        ("kube-reserved", kept(&kubelet.kube_reserved).map(list)),
        ("system-reserved", kept(&kubelet.system_reserved).map(list)),
        ("image-gc-high-threshold", kubelet.image_gc_high_threshold_percent.map(|percent| percent.to_string())),
        ("image-gc-low-threshold", kubelet.image_gc_low_threshold_percent.map(|percent| percent.to_string())),
    ];
    all.into_iter().filter_map(|(flag, value)| Some((flag, value?))).collect()
}

/// The same as fields of a KubeletConfiguration.
fn kubelet_config(kubelet: &KubeletSettings) -> serde_json::Map<String, Value> {
    let kept = |reserved: &Option<Reserved>| {
        let pairs = reserved.as_ref().map(reserved_list).filter(|list| !list.is_empty())?;
        Some(Value::Object(pairs.into_iter().map(|(what, amount)| (what.to_owned(), json!(amount))).collect()))
    };
    let all = [
        ("maxPods", kubelet.max_pods.map(|most| json!(most))),
        ("kubeReserved", kept(&kubelet.kube_reserved)),
        ("systemReserved", kept(&kubelet.system_reserved)),
        ("imageGCHighThresholdPercent", kubelet.image_gc_high_threshold_percent.map(|percent| json!(percent))),
        ("imageGCLowThresholdPercent", kubelet.image_gc_low_threshold_percent.map(|percent| json!(percent))),
    ];
    all.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?))).collect()
}

/// What is kept, in Kubernetes' quantities.
fn reserved_list(reserved: &Reserved) -> Vec<(&'static str, String)> {
    let cpu = reserved.cpu_millicores.map(|cpu| ("cpu", format!("{cpu}m")));
    let memory = reserved.memory_mib.map(|memory| ("memory", format!("{memory}Mi")));
    cpu.into_iter().chain(memory).collect()
}

/// Kubernetes' rule for the values of labels.
fn is_label_value(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let inside = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.len() <= 63 && edge(text.chars().next()) && edge(text.chars().last()) && text.chars().all(inside)
}

/// Labels common to all machines of the class.
fn labels(class: &ClassName, spec: &GpuNodeClassSpec) -> Vec<String> {
    let mut labels = vec![format!("{}={class}", names::NODE_CLASS), format!("{}={}", names::REGION, spec.region)];
    labels.extend(sharing_label(spec).map(|(key, value)| format!("{key}={value}")));
    labels.extend(spec.labels.iter().map(|(key, value)| format!("{key}={value}")));
    labels
}

/// The label of nodes that share their GPUs.
pub fn sharing_label(spec: &GpuNodeClassSpec) -> Option<(&'static str, String)> {
    let sharing = super::classes::sharing(&spec.gpu_sharing);
    sharing.is_shared().then(|| (names::GPU_SHARING, sharing.sharing.to_string()))
}

/// Asks IMDSv2 for this machine's identity.
fn metadata_script() -> &'static str {
    "#!/bin/sh\nset -eu\n\
     IMDS=http://169.254.169.254/latest\n\
     SESSION=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' $IMDS/api/token)\n\
     ask() { curl -sf -H \"X-aws-ec2-metadata-token: $SESSION\" \"$IMDS/meta-data/$1\"; }\n\
     INSTANCE=$(ask instance-id)\n\
     ZONE=$(ask placement/availability-zone-id)\n\
     REGION=$(ask placement/region)\n\
     TYPE=$(ask instance-type)\n"
}

fn read_token(parameter: &str) -> String {
    format!("aws ssm get-parameter --region \"$REGION\" --name '{parameter}' --with-decryption --query Parameter.Value --output text")
}

/// The class's own scripts run in front of the join and behind it, each only if the one before it succeeded.
fn cloud_config(class: &ClassName, spec: &GpuNodeClassSpec, (path, config): (&str, &str), script: &str) -> Result<String, UserDataError> {
    let mut files = vec![
        json!({ "path": path, "permissions": "0600", "content": config }),
        json!({ "path": JOIN_SCRIPT, "permissions": "0755", "content": script }),
    ];
    let own = spec.user_data.clone().unwrap_or_default();
    for (path, text) in [(BEFORE_SCRIPT, &own.before), (AFTER_SCRIPT, &own.after)] {
        files.extend(text.iter().map(|text| json!({ "path": path, "permissions": "0755", "content": text })));
    }
    let commands: Vec<&str> = [own.before.as_ref().map(|_| BEFORE_SCRIPT), Some(JOIN_SCRIPT), own.after.as_ref().map(|_| AFTER_SCRIPT)]
        .into_iter()
        .flatten()
        .collect();
    let run = match commands.as_slice() {
        [only] => json!([[only]]),
        several => json!([["sh", "-c", several.join(" && ")]]),
    };
    let document = json!({ "write_files": files, "runcmd": run });
    Ok(format!("#cloud-config\n{}", yaml(class, &document)?))
}

fn needed<'a>(class: &ClassName, field: &'static str, value: Option<&'a str>) -> Result<&'a str, UserDataError> {
    value.filter(|v| !v.is_empty()).ok_or_else(|| UserDataError::Missing { class: class.clone(), field })
}

fn yaml(class: &ClassName, document: &Value) -> Result<String, UserDataError> {
    serde_saphyr::to_string(document).map_err(|e| UserDataError::Yaml { class: class.clone(), fault: e.to_string() })
}

#[cfg(test)]
mod tests;

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
//! - eks: a `NodeConfig` for nodeadm, which sets provider id and zone itself.
//!
//! The join token is never in user data: machines read it from SSM with their instance profile.

use serde_json::{Value, json};

use super::api::node_class::{BootstrapKind, GpuNodeClassSpec};
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
    match spec.bootstrap.kind {
        BootstrapKind::K3s => k3s(class, spec),
        BootstrapKind::Kubeadm => kubeadm(class, spec),
        BootstrapKind::Eks => eks(class, spec),
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
    let taints = TAINTS.map(|(key, value)| format!("{key}={value}:NoSchedule"));
    config.insert("node-taint".into(), json!(taints.into_iter().chain(own_taints).collect::<Vec<_>>()));
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
    cloud_config(class, K3S_CONFIG, &config, &script)
}

fn kubeadm(class: &ClassName, spec: &GpuNodeClassSpec) -> Result<String, UserDataError> {
    let token = needed(class, "tokenParameter", spec.bootstrap.token_parameter.as_deref())?;
    let hash = needed(class, "extra.caCertHash", spec.bootstrap.extra.get("caCertHash").map(String::as_str))?;
    let node_labels = labels(class, spec).join(",");
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
            "nodeRegistration": { "taints": TAINTS.map(|(key, value)| json!({ "key": key, "value": value, "effect": "NoSchedule" })), "kubeletExtraArgs": [
                { "name": "node-labels", "value": format!("{node_labels},{}=@INSTANCE@,{}=@ZONE@,{ZONE_ID}=@ZONE@,{TYPE}=@TYPE@", names::INSTANCE_ID, names::ZONE) },
                { "name": "provider-id", "value": "lowtide://@REGION@/@ZONE@/lt-@INSTANCE@" },
                { "name": "node-status-update-frequency", "value": STATUS_EVERY },
            ] },
        }),
    )?;
    let script = format!(
        "{head}umask 077\nTOKEN=$({token})\n\
         sed -i -e \"s|@TOKEN@|$TOKEN|\" -e \"s|@INSTANCE@|$INSTANCE|g\" -e \"s|@ZONE@|$ZONE|g\" -e \"s|@REGION@|$REGION|g\" -e \"s|@TYPE@|$TYPE|g\" {KUBEADM_CONFIG}\n\
         {INSTANCE_STORE}kubeadm join --config {KUBEADM_CONFIG}\n",
        head = metadata_script(),
        token = read_token(token),
    );
    cloud_config(class, KUBEADM_CONFIG, &config, &script)
}

fn eks(class: &ClassName, spec: &GpuNodeClassSpec) -> Result<String, UserDataError> {
    let mut eks_labels = vec![format!("{}={class}", names::NODE_CLASS)];
    eks_labels.extend(sharing_label(spec).map(|(key, value)| format!("{key}={value}")));
    let extra = |key: &str, field| needed(class, field, spec.bootstrap.extra.get(key).map(String::as_str));
    yaml(
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
                "kubelet": { "flags": [
                    format!("--node-labels={}", eks_labels.join(",")),
                    format!("--node-status-update-frequency={STATUS_EVERY}"),
                    format!("--register-with-taints={}", TAINTS.map(|(key, value)| format!("{key}={value}:NoSchedule")).join(",")),
                ] },
                "instance": { "localStorage": { "strategy": "RAID0" } },
            },
        }),
    )
}

/// Labels common to all machines of the class.
fn labels(class: &ClassName, spec: &GpuNodeClassSpec) -> Vec<String> {
    let mut labels = vec![format!("{}={class}", names::NODE_CLASS), format!("{}={}", names::REGION, spec.region)];
    labels.extend(sharing_label(spec).map(|(key, value)| format!("{key}={value}")));
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

fn cloud_config(class: &ClassName, path: &str, config: &str, script: &str) -> Result<String, UserDataError> {
    let document = json!({
        "write_files": [
            { "path": path, "permissions": "0600", "content": config },
            { "path": JOIN_SCRIPT, "permissions": "0755", "content": script },
        ],
        "runcmd": [[JOIN_SCRIPT]],
    });
    Ok(format!("#cloud-config\n{}", yaml(class, &document)?))
}

fn needed<'a>(class: &ClassName, field: &'static str, value: Option<&'a str>) -> Result<&'a str, UserDataError> {
    value.filter(|v| !v.is_empty()).ok_or_else(|| UserDataError::Missing { class: class.clone(), field })
}

fn yaml(class: &ClassName, document: &Value) -> Result<String, UserDataError> {
    serde_saphyr::to_string(document).map_err(|e| UserDataError::Yaml { class: class.clone(), fault: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(bootstrap: Value) -> GpuNodeClassSpec {
        serde_json::from_value(json!({
            "region": "us-east-1", "subnets": ["subnet-1"], "image": "ami-1", "securityGroups": ["sg-1"], "bootstrap": bootstrap
        }))
        .unwrap()
    }

    fn parsed(text: &str) -> Value {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn k3s_finds_its_configuration_and_its_labels() {
        let spec = spec(json!({ "kind": "k3s", "serverUrl": "https://10.0.0.10:6443", "tokenParameter": "/lowtide/token",
                                "extra": { "server": "https://elsewhere", "node-label": "tier=gpu" } }));
        let text = write(&"us".into(), &spec).unwrap();
        assert!(!text.contains(names::GPU_SHARING) && text.starts_with("#cloud-config\n"), "{text}");
        let document = parsed(&text);
        assert_eq!(document["write_files"][0]["path"], K3S_CONFIG);
        let config = parsed(document["write_files"][0]["content"].as_str().unwrap());
        assert_eq!(config["server"], "https://10.0.0.10:6443");
        assert_eq!(config["node-label"], json!(["lowtide.dev/node-class=us", "topology.kubernetes.io/region=us-east-1", "tier=gpu"]));
        assert_eq!(config["node-taint"], json!(["nvidia.com/gpu=present:NoSchedule", "lowtide.dev/claim=none-yet:NoSchedule"]));
        let script = document["write_files"][1]["content"].as_str().unwrap();
        assert!(script.contains("--name '/lowtide/token'"), "{script}");
        assert!(script.contains("- provider-id=lowtide://$REGION/$ZONE/lt-$INSTANCE\n"), "{script}");
        let labels = "- lowtide.dev/instance-id=$INSTANCE\n- topology.kubernetes.io/zone=$ZONE\n- topology.k8s.aws/zone-id=$ZONE\n\
            - node.kubernetes.io/instance-type=$TYPE\n";
        assert!(script.contains(labels) && script.contains("- node-status-update-frequency=2s\n"), "{script}");
        assert_eq!(document["runcmd"][0][0], JOIN_SCRIPT);
        let shared = GpuNodeClassSpec { gpu_sharing: serde_json::from_value(json!({ "mode": "mps", "replicas": 4 })).unwrap(), ..spec };
        assert!(write(&"us".into(), &shared).unwrap().contains("lowtide.dev/gpu-sharing=mps-4"));
    }

    #[test]
    fn kubeadm_and_eks_say_what_is_missing_or_write_their_documents() {
        let short = spec(json!({ "kind": "kubeadm", "serverUrl": "https://10.0.0.10:6443", "tokenParameter": "/t" }));
        let fault = write(&"us".into(), &short).unwrap_err().to_string();
        assert_eq!(fault, "GpuNodeClass us: spec.bootstrap.extra.caCertHash is required for this bootstrap kind; set it");

        let full = spec(json!({ "kind": "kubeadm", "serverUrl": "https://10.0.0.10:6443", "tokenParameter": "/t",
                                "extra": { "caCertHash": "sha256:ab" } }));
        let document = parsed(&write(&"us".into(), &full).unwrap());
        let join = parsed(document["write_files"][0]["content"].as_str().unwrap());
        assert_eq!(join["discovery"]["bootstrapToken"]["apiServerEndpoint"], "10.0.0.10:6443");
        assert_eq!(
            join["nodeRegistration"]["taints"][1],
            json!({ "key": "lowtide.dev/claim", "value": "none-yet", "effect": "NoSchedule" })
        );
        assert_eq!(join["nodeRegistration"]["kubeletExtraArgs"][1]["value"], "lowtide://@REGION@/@ZONE@/lt-@INSTANCE@");

        let eks = spec(json!({ "kind": "eks", "serverUrl": "https://x.eks.amazonaws.com",
                               "extra": { "clusterName": "prod", "certificateAuthority": "QQ==", "serviceCidr": "10.100.0.0/16" } }));
        let document = parsed(&write(&"us".into(), &eks).unwrap());
        assert_eq!((&document["kind"], &document["spec"]["cluster"]["name"]), (&json!("NodeConfig"), &json!("prod")));
        assert_eq!(document["spec"]["kubelet"]["flags"][0], "--node-labels=lowtide.dev/node-class=us");
        let taints = "--register-with-taints=nvidia.com/gpu=present:NoSchedule,lowtide.dev/claim=none-yet:NoSchedule";
        assert!(document["spec"]["kubelet"]["flags"].as_array().unwrap().contains(&json!(taints)), "{document}");
    }
}
